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
    /// More processor time than its fuel can take: the machine's failure.
    #[error("the gateway had no time left for the contract")]
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
    Invalid(ContractError),
    #[error(transparent)]
    ReadFault(#[from] ReadFault),
    /// The machine had no descriptors, no address space or the like; the words are for the operator alone.
    #[error("the gateway could not run the contract: {0}")]
    Machine(String),
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
            Self::NotReady(_) | Self::Quarantined { .. } => EdeCode::NotReady,
            _ if self.is_of_machine() => EdeCode::NotReady,
            Self::BadOutput(_) | Self::Invalid(_) => EdeCode::InvalidData,
            _ => EdeCode::Other,
        };
        // Only the operator learns the inner cause.
        let words = match self {
            Self::ReadFault(_) => "the registry cannot be read".into(),
            Self::Machine(_) => "the gateway could not run the contract".into(),
            other => other.to_string(),
        };
        (code, text(&words))
    }

    /// True for what only a broken contract does, wherever it runs: it is held against the contract.
    pub fn is_of_contract(&self) -> bool {
        matches!(self, Self::Trap(_) | Self::OutOfFuel | Self::Memory | Self::BadOutput(_))
    }

    /// True for what only this machine suffers, now: never held against a contract, and not remembered.
    pub fn is_of_machine(&self) -> bool {
        matches!(self, Self::Deadline | Self::Busy | Self::Machine(_) | Self::ReadFault(_))
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
            Self::Machine(_) => ContractFailure::Machine,
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

impl From<ContractError> for Failure {
    fn from(error: ContractError) -> Self {
        match error {
            ContractError::Busy => Self::Busy,
            ContractError::Machine(what) => Self::Machine(what),
            error => Self::Invalid(error),
        }
    }
}

/// True for what the operating system refused: memory, descriptors, executable pages.
pub(super) fn is_of_system(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.is::<std::io::Error>() || cause.is::<rustix::io::Errno>())
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
    fn what_the_machine_suffers_is_not_told_to_askers_nor_held_against_contracts() {
        let inner = "Too many open files (os error 24)";
        for failure in [
            Failure::Machine(inner.into()),
            Failure::from(ContractError::Machine(inner.into())),
            Failure::ReadFault(ReadFault(inner.into())),
            Failure::from(ContractError::Busy),
            Failure::Deadline,
        ] {
            let (code, words) = failure.ede();
            assert_eq!(code, EdeCode::NotReady, "{failure:?}");
            assert!(!words.contains("open files") && !words.is_empty(), "{words}");
            assert!(failure.is_of_machine() && !failure.is_of_contract(), "{failure:?}");
        }
        for failure in [Failure::OutOfFuel, Failure::Memory, Failure::Trap(String::new()), BadOutput::Empty.into()] {
            assert!(failure.is_of_contract() && !failure.is_of_machine(), "{failure:?}");
        }
        for failure in [Failure::NoCode, Failure::Refused(String::new()), Failure::from(ContractError::Hash)] {
            assert!(!failure.is_of_contract() && !failure.is_of_machine(), "{failure:?}");
        }
    }

    #[test]
    fn what_the_system_refused_is_found_below_other_words() {
        let refused = wasmtime::Error::from(rustix::io::Errno::MFILE).context("failed to make a memory image");
        assert!(is_of_system(&refused));
        assert!(is_of_system(&wasmtime::Error::from(std::io::Error::other("no"))));
        // Words of a contract's cannot pass for it.
        assert!(!is_of_system(&wasmtime::Error::msg("import `Too many open files (os error 24)`")));
    }

    #[test]
    fn text_is_bounded_and_clean() {
        assert_eq!(text("a\u{0}b\r\n\u{1b}[31mc\u{85}"), "ab[31mc");
        assert_eq!(text(&"é".repeat(100)).len(), MAX_EDE_TEXT);
        assert_eq!(text(&"€".repeat(100)).len(), MAX_EDE_TEXT - MAX_EDE_TEXT % 3);
    }
}
