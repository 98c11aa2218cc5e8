//! Why an execution gave no resolution, and the extended error that says so.

use super::check::ContractError;
use super::rdata::TypedError;
use super::{ReadFault, bindings};
use crate::limits::{CONTRACT_ANSWERS, CONTRACT_LOG_LINE, CONTRACT_OUTPUT, MAX_EDE_TEXT, MAX_RRSET_RECORDS};
use crate::metrics::ContractFailure;
use crate::wire::rdata::RdataError;
use crate::wire::{EdeCode, NameError, Rtype};

/// Why an execution gave no resolution. The asker gets SERVFAIL with [`Failure::ede`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The contract's own words, fit to send.
    #[error("{0}")]
    Refused(String),
    /// The contract's own words, fit to send.
    #[error("{0}")]
    NotReady(String),
    /// The contract's own words, fit to send.
    #[error("{0}")]
    Other(String),
    #[error("contract used up its fuel")]
    OutOfFuel,
    #[error("contract ran past its deadline")]
    Deadline,
    #[error("contract trapped: {0}")]
    Trap(String),
    #[error("contract asked for more memory than it may have")]
    Memory,
    #[error("contract gave an illegal resolution: {0}")]
    BadOutput(#[from] BadOutput),
    #[error("contract is bound but its code is not here")]
    NoCode,
    #[error("contract is not of world {0}")]
    World(&'static str),
    #[error("contract is not usable: {0}")]
    Invalid(#[from] ContractError),
    #[error(transparent)]
    ReadFault(#[from] ReadFault),
    #[error("contract is in quarantine: it broke too many times in a row")]
    Quarantined { until: u64 },
    #[error("too many contracts are running")]
    Busy,
}

/// What is wrong with a resolution that a contract returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOutput {
    /// Lists, strings or variants that are none; the text is the host's.
    #[error("canonical ABI: {0}")]
    Abi(String),
    #[error("no RRset where there must be one")]
    Empty,
    #[error("more than {CONTRACT_ANSWERS} RRsets")]
    TooMany,
    #[error("more than {CONTRACT_OUTPUT} octets, or more than an RRset may have")]
    TooLarge,
    #[error("handle {0} was never looked up")]
    Handle(u32),
    #[error("owner: {0}")]
    Name(#[from] NameError),
    #[error("owner is not the asked name, or does not fit the resolution")]
    Owner,
    #[error("type {0} does not fit the question or the resolution")]
    Type(Rtype),
    #[error("type {0} is not for contracts to make")]
    Reserved(Rtype),
    #[error("the same RRset twice")]
    Twice,
    #[error("RRset has no RDATA, or more than {MAX_RRSET_RECORDS}")]
    Count,
    #[error("{0} RDATA: {1}")]
    Rdata(Rtype, RdataError),
    #[error("{0} RRset: {1}")]
    Typed(Rtype, TypedError),
    #[error("alias is neither a CNAME nor a DNAME and the CNAME it makes")]
    Alias,
    #[error("a delegation the registry does not have")]
    Delegation,
    #[error("the zone's apex does not exist")]
    ApexNxDomain,
}

impl Failure {
    /// INFO-CODE and EXTRA-TEXT (RFC 8914) of the SERVFAIL; the text has at most `MAX_EDE_TEXT` octets and no
    /// control characters.
    pub fn ede(&self) -> (EdeCode, String) {
        let code = match self {
            Self::Refused(_) => EdeCode::Blocked,
            Self::NotReady(_) | Self::Busy | Self::Quarantined { .. } => EdeCode::NotReady,
            Self::BadOutput(_) | Self::Invalid(_) => EdeCode::InvalidData,
            _ => EdeCode::Other,
        };
        (code, text(&self.to_string()))
    }

    /// The kind, as metrics count it.
    pub fn kind(&self) -> ContractFailure {
        match self {
            Self::Refused(_) => ContractFailure::Refused,
            Self::NotReady(_) => ContractFailure::NotReady,
            Self::Other(_) => ContractFailure::Other,
            Self::OutOfFuel => ContractFailure::OutOfFuel,
            Self::Deadline => ContractFailure::Deadline,
            Self::Trap(_) => ContractFailure::Trap,
            Self::Memory => ContractFailure::Memory,
            Self::BadOutput(_) => ContractFailure::BadOutput,
            Self::NoCode | Self::World(_) => ContractFailure::NoCode,
            Self::Invalid(_) => ContractFailure::Invalid,
            Self::ReadFault(_) => ContractFailure::Store,
            Self::Busy => ContractFailure::Busy,
            Self::Quarantined { .. } => ContractFailure::Quarantined,
        }
    }

    /// A failure in the guest's words.
    pub(super) fn of_guest(failure: &bindings::ghostplane::contract::types::Failure) -> Self {
        use bindings::ghostplane::contract::types::Failure as Said;
        match failure {
            Said::Refused(words) => Self::Refused(text(words)),
            Said::NotReady(words) => Self::NotReady(text(words)),
            Said::Other(words) => Self::Other(text(words)),
        }
    }
}

/// `words` fit for an EDE: no control characters, at most `MAX_EDE_TEXT` octets, cut between characters.
pub(super) fn text(words: &str) -> String {
    clean(words, MAX_EDE_TEXT)
}

/// `words` fit for a log: as [`text`], at most `CONTRACT_LOG_LINE` octets.
pub(super) fn log_line(words: &str) -> String {
    clean(words, CONTRACT_LOG_LINE)
}

fn clean(words: &str, most: usize) -> String {
    let mut fit = String::new();
    for char in words.chars().filter(|char| !char.is_control()) {
        if fit.len() + char.len_utf8() > most {
            break;
        }
        fit.push(char);
    }
    fit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bounded_and_clean() {
        assert_eq!(text("a\u{0}b\r\n\u{1b}[31mc\u{85}"), "ab[31mc");
        assert_eq!(text(&"é".repeat(100)).len(), MAX_EDE_TEXT);
        assert_eq!(text(&"€".repeat(100)).len(), MAX_EDE_TEXT - MAX_EDE_TEXT % 3);
    }
}
