//! A TLD's policy: which labels may be registered, what ops cost, which contract answers.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::limits::{
    COMMIT_MAX, COMMIT_MAX_DEFAULT, COMMIT_MIN_DEFAULT, GRACE, MAX_GRACE_DAYS, MAX_LABEL, MAX_TERM_YEARS,
    MAX_UNLOCK_DELAY, UNLOCK_DELAY_DEFAULT,
};
use crate::op::{OpKind, Symbol};
use crate::state::Work;
use crate::state::ledger::MAX_DECIMALS;
use crate::state::life::{Fee, FeeFor, Terms};
use crate::wire::{ALabelError, Confusion, Name, check_a_label, check_confusion};

/// The file format (TOML). Unknown keys are errors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tld: String,
    contract: String,
    #[serde(default)]
    labels: LabelsFile,
    #[serde(default)]
    registration: RegistrationFile,
    #[serde(default)]
    fees: FeesFile,
    prices: PricesFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelsFile {
    min: Option<usize>,
    max: Option<usize>,
    /// Labels may mix scripts, and look like others.
    #[serde(default)]
    confusable: bool,
    /// Label -> why nobody may register it.
    #[serde(default)]
    reserved: BTreeMap<String, String>,
    /// Label -> what each year of it costs, `TOKEN AMOUNT`.
    #[serde(default)]
    premium: BTreeMap<String, String>,
}

/// Leases. Times are seconds where they are not days or years.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RegistrationFile {
    commit: bool,
    commit_min: u64,
    commit_max: u64,
    transfer: TransferFile,
    max_years: u32,
    grace_days: u64,
    redemption_days: u64,
    unlock_delay: u64,
}

/// How a name goes to another sigil.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TransferFile {
    Direct,
    Accept,
}

const DAY: u64 = 24 * 3_600;

impl Default for RegistrationFile {
    fn default() -> Self {
        Self {
            commit: false,
            commit_min: COMMIT_MIN_DEFAULT,
            commit_max: COMMIT_MAX_DEFAULT,
            transfer: TransferFile::Direct,
            max_years: MAX_TERM_YEARS,
            grace_days: GRACE / DAY,
            redemption_days: 0,
            unlock_delay: UNLOCK_DELAY_DEFAULT,
        }
    }
}

impl RegistrationFile {
    fn check(&self) -> Result<Terms, PolicyError> {
        let bound = |what, value, least, most| {
            let within = (least..=most).contains(&value);
            within.then_some(()).ok_or(PolicyError::Bound { what, least, most })
        };
        bound("commit_max", self.commit_max, 1, COMMIT_MAX)?;
        bound("commit_min", self.commit_min, 0, self.commit_max - 1)?;
        bound("max_years", self.max_years.into(), 1, MAX_TERM_YEARS.into())?;
        bound("grace_days", self.grace_days, 0, MAX_GRACE_DAYS)?;
        bound("redemption_days", self.redemption_days, 0, MAX_GRACE_DAYS)?;
        bound("unlock_delay", self.unlock_delay, 0, MAX_UNLOCK_DELAY)?;
        Ok(Terms {
            commit: self.commit,
            commit_min: self.commit_min,
            commit_max: self.commit_max,
            accept: self.transfer == TransferFile::Accept,
            max_years: self.max_years,
            grace: self.grace_days * DAY,
            redemption: self.redemption_days * DAY,
            unlock_delay: self.unlock_delay,
        })
    }
}

/// What the operator is paid, each `TOKEN AMOUNT`; nothing where it is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FeesFile {
    register: Option<String>,
    renew: Option<String>,
    restore: Option<String>,
    transfer: Option<String>,
}

/// [`FeesFile`], read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fees {
    register: Option<Fee>,
    renew: Option<Fee>,
    restore: Option<Fee>,
    transfer: Option<Fee>,
}

impl FeesFile {
    fn check(&self) -> Result<Fees, PolicyError> {
        let fee = |text: &Option<String>| text.as_deref().map(read_fee).transpose();
        Ok(Fees {
            register: fee(&self.register)?,
            renew: fee(&self.renew)?,
            restore: fee(&self.restore)?,
            transfer: fee(&self.transfer)?,
        })
    }
}

/// `TOKEN AMOUNT`
fn read_fee(text: &str) -> Result<Fee, PolicyError> {
    let read = || {
        let (token, amount) = text.split_once(' ')?;
        let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
        let number = [whole, part].concat();
        let plain = !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit());
        let decimals = u8::try_from(part.len()).ok().filter(|decimals| *decimals <= MAX_DECIMALS)?;
        let digits = number.parse().ok().filter(|digits| plain && *digits > 0)?;
        Some(Fee { token: token.parse().ok()?, digits, decimals })
    };
    // Neither mana nor weight in votes can be paid.
    let fee = read().filter(|fee: &Fee| ![Symbol::ZMAN, Symbol::SPRT].contains(&fee.token));
    fee.ok_or_else(|| PolicyError::Fee(text.to_owned()))
}

/// The labels of a table, in the form that the registry holds.
fn labels<T>(table: BTreeMap<String, T>) -> Result<BTreeMap<String, T>, PolicyError> {
    let label = |(label, value): (String, T)| {
        if label != label.to_lowercase() {
            return Err(PolicyError::Case(label));
        }
        let name = Name::from_text(&label, Some(&Name::root())).ok().filter(|name| name.label_count() == 1);
        let first = name.as_ref().and_then(Name::first_label).and_then(|octets| std::str::from_utf8(octets).ok());
        Ok((first.ok_or_else(|| PolicyError::Label(label.clone()))?.to_owned(), value))
    };
    table.into_iter().map(label).collect()
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
    /// Commitments, locks, offers and plans.
    #[serde(default = "ledger")]
    life: u64,
    #[serde(default = "restore")]
    restore: u64,
    per_kib: u64,
    /// Every RRSIG that an op brings: it is checked.
    #[serde(default)]
    per_rrsig: u64,
}

fn restore() -> u64 {
    100
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
    confusable: bool,
    reserved: BTreeMap<String, String>,
    premium: BTreeMap<String, Fee>,
    terms: Terms,
    fees: Fees,
    prices: PricesFile,
}

/// Why a policy file is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{0}")]
    Syntax(String),
    #[error("labels: min must be at least 1, and max from min to {MAX_LABEL}")]
    Lengths,
    #[error("labels: {0:?} must be in lower case")]
    Case(String),
    #[error("labels: {0:?} is not one label")]
    Label(String),
    #[error("registration: {what} must be {least} to {most}")]
    Bound { what: &'static str, least: u64, most: u64 },
    #[error("{0:?} is not a fee: write TOKEN AMOUNT with an amount above 0, such as \"GCC 2.5\"")]
    Fee(String),
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
    #[error("only letters, digits and hyphens can be registered; those of other scripts as A-labels (xn--)")]
    Characters,
    #[error("{label} is not an A-label: {error}")]
    ALabel { label: String, error: ALabelError },
    #[error("{0}; the TLD's policy would have to allow it")]
    Confusable(#[from] Confusion),
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
        let reserved = labels(file.labels.reserved)?;
        let premium = labels(file.labels.premium)?;
        let premium = premium.into_iter().map(|(label, text)| Ok((label, read_fee(&text)?)));
        let premium = premium.collect::<Result<_, PolicyError>>()?;
        let (terms, fees) = (file.registration.check()?, file.fees.check()?);
        let prices = file.prices;
        let charged = [
            (prices.register, "register"),
            (prices.put_records, "put_records"),
            (prices.deploy, "deploy"),
            (prices.create_token, "create_token"),
            (prices.ledger, "ledger"),
            (prices.guardian, "guardian"),
            (prices.life, "life"),
        ];
        if let Some((_, name)) = charged.iter().find(|(price, _)| *price == 0) {
            return Err(PolicyError::Free(name));
        }
        let confusable = file.labels.confusable;
        let File { tld, contract, .. } = file;
        Ok(Self { tld, contract, min, max, confusable, reserved, premium, terms, fees, prices })
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
        if text.starts_with("xn--") {
            check_a_label(text).map_err(|error| LabelRefusal::ALabel { label: text.to_owned(), error })?;
            if !self.confusable {
                check_confusion(text)?;
            }
        } else if label.get(2..4) == Some(b"--") {
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

    /// What leases are like here.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// What the operator is paid for a label. Each year of a premium one costs its own price.
    pub fn fee(&self, label: &[u8], what: FeeFor) -> Option<Fee> {
        let premium = || std::str::from_utf8(label).ok().and_then(|label| self.premium.get(label)).copied();
        match what {
            FeeFor::Register => premium().or(self.fees.register),
            FeeFor::Renew => premium().or(self.fees.renew),
            FeeFor::Restore => self.fees.restore,
            FeeFor::Transfer => self.fees.transfer,
        }
    }

    /// Mana for an op: the kind's price, that of every KiB begun, and of every RRSIG to check.
    pub fn price(&self, kind: OpKind, work: Work) -> u64 {
        let prices = &self.prices;
        let base = match kind {
            OpKind::Register | OpKind::Reveal => prices.register,
            OpKind::Renew => prices.renew,
            OpKind::Restore => prices.restore,
            OpKind::Transfer | OpKind::Accept => prices.transfer,
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
            OpKind::Commit
            | OpKind::SetAutoRenew
            | OpKind::Offer
            | OpKind::Withdraw
            | OpKind::Lock
            | OpKind::Unlock => prices.life,
            // The operator makes mana, and gateways settle for the operator; charging would only stop them.
            OpKind::GrantMana
            | OpKind::SetAttestor
            | OpKind::SetGas
            | OpKind::SettleGas
            | OpKind::RenewDue
            | OpKind::SetLoad => return 0,
        };
        let octets = prices.per_kib.saturating_mul((work.bytes as u64).div_ceil(1_024));
        base.saturating_add(octets).saturating_add(prices.per_rrsig.saturating_mul(work.rrsigs as u64))
    }

    /// Mana for every KiB begun that is written, and for every whole one that is given back.
    pub fn rate(&self) -> u64 {
        self.prices.per_kib
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
        assert!(matches!(refusal("xn--99999999"), LabelRefusal::ALabel { .. }));
        // Cyrillic that looks like "coco", and Latin with one Cyrillic letter.
        for label in ["xn--n1aahb", "xn--pypal-4ve"] {
            assert!(matches!(refusal(label), LabelRefusal::Confusable(_)), "{label}");
            let open = Policy::from_toml(&FILE.replace("min = 2", "min = 2\nconfusable = true")).unwrap();
            assert_eq!(open.check_label(label.as_bytes()), Ok(()));
        }
        assert_eq!(policy.check_label(b"\xff\xfe"), Err(LabelRefusal::Characters));
    }

    #[test]
    fn prices_grow_by_the_kib_begun() {
        let policy = Policy::from_toml(FILE).unwrap();
        let work = |bytes, rrsigs| Work { bytes, rrsigs };
        assert_eq!(policy.price(OpKind::Register, work(1, 0)), 101);
        assert_eq!(policy.price(OpKind::PutRecords, work(1_025, 3)), 7);
        assert_eq!(policy.price(OpKind::GrantMana, work(100, 0)), 0);
        assert_eq!(policy.rate(), 1);
        let dear = Policy::from_toml(&FILE.replace("per_kib = 1", "per_kib = 9223372036854775807")).unwrap();
        assert_eq!(dear.price(OpKind::PutRecords, work(usize::MAX, usize::MAX)), u64::MAX);
        let dearer = Policy::from_toml(&(FILE.to_owned() + "per_rrsig = 2\n")).unwrap();
        assert_eq!(dearer.price(OpKind::PutRecords, work(1_025, 3)), 13);
    }

    #[test]
    fn terms_fees_and_premium_labels_are_read() {
        let plain = Policy::from_toml(FILE).unwrap();
        assert_eq!((plain.terms(), plain.fee(b"gold", FeeFor::Register)), (Terms::default(), None));
        let more = "[labels.premium]\ngold = \"GCC 100\"\n\"büro\" = \"COIN 7\"\n[registration]\ncommit = true\n\
            transfer = \"accept\"\ngrace_days = 1\nredemption_days = 2\n[fees]\nregister = \"COIN 2.50\"\n[prices]";
        let policy = Policy::from_toml(&FILE.replace("[prices]", more)).unwrap();
        let terms = Terms { commit: true, accept: true, grace: DAY, redemption: 2 * DAY, ..Terms::default() };
        assert_eq!(policy.terms(), terms);
        let fee =
            |label: &[u8], what| policy.fee(label, what).map(|fee| (fee.token.to_string(), fee.digits, fee.decimals));
        assert_eq!(fee(b"gold", FeeFor::Renew), Some(("GCC".into(), 100, 0)));
        assert_eq!(fee(b"xn--bro-hoa", FeeFor::Register), Some(("COIN".into(), 7, 0)));
        assert_eq!(fee(b"alice", FeeFor::Register), Some(("COIN".into(), 250, 2)));
        assert_eq!(fee(b"alice", FeeFor::Renew), None);
    }

    #[test]
    fn terms_and_fees_are_bounded() {
        let error =
            |more: &str| Policy::from_toml(&FILE.replace("[prices]", &format!("{more}\n[prices]"))).unwrap_err();
        for wrong in
            ["commit_min = 86400", "commit_max = 0", "max_years = 11", "grace_days = 181", "unlock_delay = 3000000"]
        {
            let found = error(&format!("[registration]\n{wrong}"));
            assert!(matches!(found, PolicyError::Bound { what, .. } if wrong.starts_with(what)), "{wrong}: {found}");
        }
        for wrong in ["GCC", "GCC 0", "gcc 1", "GCC -1", "GCC 1e3", "GCC .", "SPRT 1", "GCC 1.0000000000000000001"] {
            assert_eq!(error(&format!("[fees]\nrenew = \"{wrong}\"")), PolicyError::Fee(wrong.into()));
        }
        assert_eq!(error("[labels.premium]\n\"a.b\" = \"GCC 1\""), PolicyError::Label("a.b".into()));
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
