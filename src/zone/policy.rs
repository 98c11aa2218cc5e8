//! A TLD's policy: which labels may be registered, what ops cost, which contract answers.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::limits::MAX_LABEL;
use crate::op::OpKind;
use crate::state::Work;

/// The file format (TOML). Unknown keys are errors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tld: String,
    contract: String,
    #[serde(default)]
    labels: LabelsFile,
    prices: PricesFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelsFile {
    min: Option<usize>,
    max: Option<usize>,
    /// Label -> why nobody may register it.
    #[serde(default)]
    reserved: BTreeMap<String, String>,
}

/// Mana per op, and per KiB of any op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PricesFile {
    register: u64,
    renew: u64,
    transfer: u64,
    release: u64,
    put_records: u64,
    delete_records: u64,
    deploy: u64,
    bind: u64,
    #[serde(default = "create_token")]
    create_token: u64,
    /// Ops of the ledger.
    #[serde(default = "ledger")]
    ledger: u64,
    /// Ops of guardians and about them.
    #[serde(default = "guardian")]
    guardian: u64,
    per_kib: u64,
    /// Every RRSIG that an op brings: it is checked.
    #[serde(default)]
    per_rrsig: u64,
}

fn create_token() -> u64 {
    500
}

fn ledger() -> u64 {
    5
}

fn guardian() -> u64 {
    5
}

/// A checked policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The TLD's label.
    pub tld: String,
    /// Name of the shipped contract that answers by default.
    pub contract: String,
    min: usize,
    max: usize,
    reserved: BTreeMap<String, String>,
    prices: PricesFile,
}

/// Why a policy file is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{0}")]
    Syntax(String),
    #[error("labels: min must be at least 1, and max from min to {MAX_LABEL}")]
    Lengths,
    #[error("labels.reserved: {0:?} must be in lower case")]
    Case(String),
    #[error("prices: {0} must not be 0, or anyone could fill the disk")]
    Free(&'static str),
}

/// Why a label may not be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelRefusal {
    #[error("{label:?} is reserved: {reason}")]
    Reserved { label: String, reason: String },
    #[error("a label here has {min} to {max} characters")]
    Length { min: usize, max: usize },
    #[error("only letters a-z, digits and hyphens can be registered; write other scripts as A-labels (xn--)")]
    Characters,
    #[error("a label that begins with an underscore names an attribute, not a registrant (RFC 8552)")]
    Underscore,
    #[error("a label must not begin or end with a hyphen")]
    Hyphen,
    #[error("hyphens in the third and fourth place are for A-labels only (RFC 5891 section 4.2.3.1)")]
    Tagged,
}

impl Policy {
    /// Reads and checks a policy file.
    ///
    /// # Errors
    /// [`PolicyError`], with line and column where the syntax is at fault.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let file: File = toml::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        let (min, max) = (file.labels.min.unwrap_or(1), file.labels.max.unwrap_or(MAX_LABEL));
        if min == 0 || max < min || max > MAX_LABEL {
            return Err(PolicyError::Lengths);
        }
        let reserved = file.labels.reserved;
        if let Some(label) = reserved.keys().find(|label| **label != label.to_ascii_lowercase()) {
            return Err(PolicyError::Case(label.clone()));
        }
        let prices = file.prices;
        let charged = [
            (prices.register, "register"),
            (prices.put_records, "put_records"),
            (prices.deploy, "deploy"),
            (prices.create_token, "create_token"),
            (prices.ledger, "ledger"),
            (prices.guardian, "guardian"),
        ];
        if let Some((_, name)) = charged.iter().find(|(price, _)| *price == 0) {
            return Err(PolicyError::Free(name));
        }
        Ok(Self { tld: file.tld, contract: file.contract, min, max, reserved, prices })
    }

    /// Checks a lower-case label that someone wants to register.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check_label(&self, label: &[u8]) -> Result<(), LabelRefusal> {
        let text = std::str::from_utf8(label).map_err(|_| LabelRefusal::Characters)?;
        if text.starts_with('_') {
            return Err(LabelRefusal::Underscore);
        }
        if !label.iter().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || *octet == b'-') {
            return Err(LabelRefusal::Characters);
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(LabelRefusal::Hyphen);
        }
        if label.get(2..4) == Some(b"--") && !text.starts_with("xn--") {
            return Err(LabelRefusal::Tagged);
        }
        if !(self.min..=self.max).contains(&label.len()) {
            return Err(LabelRefusal::Length { min: self.min, max: self.max });
        }
        match self.reserved.get(text) {
            Some(reason) => Err(LabelRefusal::Reserved { label: text.to_owned(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Mana for an op: the kind's price, that of every KiB begun, and of every RRSIG to check.
    pub fn price(&self, kind: OpKind, work: Work) -> u64 {
        let prices = &self.prices;
        let base = match kind {
            OpKind::Register => prices.register,
            OpKind::Renew => prices.renew,
            OpKind::Transfer => prices.transfer,
            OpKind::Release => prices.release,
            OpKind::PutRecords | OpKind::Update | OpKind::UpdateByKey | OpKind::IssueUpdateKey => prices.put_records,
            OpKind::DeleteRecords | OpKind::RevokeUpdateKey => prices.delete_records,
            OpKind::DeployContract => prices.deploy,
            OpKind::BindContract | OpKind::BindCovenants => prices.bind,
            OpKind::CreateToken => prices.create_token,
            OpKind::SetAuthority | OpKind::Mint | OpKind::Burn | OpKind::Pay | OpKind::Hold | OpKind::CloseHold => {
                prices.ledger
            }
            OpKind::PutSet
            | OpKind::Attest
            | OpKind::RequireCosign
            | OpKind::SetRecovery
            | OpKind::StartRecovery
            | OpKind::FinishRecovery
            | OpKind::Freeze => prices.guardian,
            // Whoever owns a name can keep it, and whoever has a level can end it, whether there is mana left or not. Each
            // undoes an op that was paid for.
            OpKind::VetoRecovery | OpKind::RevokeAttestation => return 0,
            // The operator makes mana, and gateways settle for the operator; charging would only stop them.
            OpKind::GrantMana
            | OpKind::SetAttestor
            | OpKind::SetGas
            | OpKind::SettleGas
            | OpKind::SetLoad => return 0,
        };
        base + prices.per_kib * (work.bytes as u64).div_ceil(1_024) + prices.per_rrsig * work.rrsigs as u64
    }

    /// Mana for giving back octets: what every whole KiB of them costs. Never more than was paid for them.
    pub fn refund(&self, bytes: usize) -> u64 {
        self.prices.per_kib * (bytes as u64 / 1_024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "tld = \"ghost\"\ncontract = \"ghost\"\n[labels]\nmin = 2\n[labels.reserved]\nns = \"name server\"\n\
        [prices]\nregister = 100\nrenew = 50\ntransfer = 20\nrelease = 5\nput_records = 5\ndelete_records = 2\ndeploy = 200\n\
        bind = 10\nper_kib = 1\n";

    #[test]
    fn labels_are_refused_for_their_own_reason() {
        let policy = Policy::from_toml(FILE).unwrap();
        let refusal = |label: &str| policy.check_label(label.as_bytes()).unwrap_err();
        for label in ["alice", "xn--bcher-kva", "a-b", "00"] {
            assert_eq!(policy.check_label(label.as_bytes()), Ok(()), "{label}");
        }
        assert_eq!(refusal("ns").to_string(), "\"ns\" is reserved: name server");
        assert_eq!(refusal("a"), LabelRefusal::Length { min: 2, max: 63 });
        assert_eq!(refusal("_dmarc"), LabelRefusal::Underscore);
        assert_eq!(refusal("a.b"), LabelRefusal::Characters);
        assert_eq!(refusal("*"), LabelRefusal::Characters);
        assert_eq!(refusal("-a"), LabelRefusal::Hyphen);
        assert_eq!(refusal("ab--c"), LabelRefusal::Tagged);
        assert_eq!(policy.check_label(b"\xff\xfe"), Err(LabelRefusal::Characters));
    }

    #[test]
    fn prices_grow_by_the_kib_begun() {
        let policy = Policy::from_toml(FILE).unwrap();
        let work = |bytes, rrsigs| Work { bytes, rrsigs };
        assert_eq!(policy.price(OpKind::Register, work(1, 0)), 101);
        assert_eq!(policy.price(OpKind::PutRecords, work(1_025, 3)), 7);
        assert_eq!(policy.price(OpKind::GrantMana, work(100, 0)), 0);
        assert_eq!((policy.refund(1_023), policy.refund(2_048)), (0, 2));
        let dearer = Policy::from_toml(&(FILE.to_owned() + "per_rrsig = 2\n")).unwrap();
        assert_eq!(dearer.price(OpKind::PutRecords, work(1_025, 3)), 13);
    }

    #[test]
    fn a_wrong_file_is_refused() {
        let error = |text: String| Policy::from_toml(&text).unwrap_err();
        assert!(error(FILE.replace("renew", "renewal")).to_string().contains("renewal"));
        assert_eq!(error(FILE.replace("min = 2", "min = 64")), PolicyError::Lengths);
        assert_eq!(error(FILE.replace("ns =", "NS =")), PolicyError::Case("NS".into()));
        assert_eq!(error(FILE.replace("deploy = 200", "deploy = 0")), PolicyError::Free("deploy"));
    }
}
