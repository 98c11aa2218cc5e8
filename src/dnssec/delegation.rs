//! Which of a zone's keys its parent vouches for.

use super::{PublicKey, ds};
use crate::wire::{Name, Rrset};

/// DS RDATA of the zone `apex` as its owner asks for it: by CDS, by CDNSKEY (RFC 7344 §3), else for the sigil's own key.
pub fn ds_set(apex: &Name, cds: Option<&Rrset>, cdnskey: Option<&Rrset>, sigil: &PublicKey) -> Vec<Vec<u8>> {
    match (cds, cdnskey) {
        (Some(cds), _) => cds.rdata.iter().map(|data| data.to_vec()).collect(),
        (None, Some(cdnskey)) => cdnskey.rdata.iter().map(|key| ds(apex, key)).collect(),
        (None, None) => vec![ds(apex, sigil.dnskey())],
    }
}

/// True if the owner of a zone with these DNSKEYs signs everything ahead: no key that is not the owner's is in it.
pub fn is_strict(keys: &Rrset) -> bool {
    keys.rdata.iter().all(|key| key.starts_with(&super::FLAGS_OWNER.to_be_bytes()))
}
