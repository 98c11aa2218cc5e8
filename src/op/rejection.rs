//! Why an op is not accepted: a stable number and a sentence.

use crate::dnssec::RrsigError;
use crate::dnssec::sig0::Sig0Error;
use crate::op::{Identity, SetId, Symbol};
use crate::wire::{Name, Rtype};

/// A rejection. Nothing was written. Codes never change their meaning; hundreds group them: 1xx the
/// envelope, 2xx the author's account, 3xx names, 4xx records, 5xx contracts, 6xx authority, 8xx the ledger, 9xx the
/// server.
/// envelope, 2xx the author's account, 3xx names, 4xx records, 5xx contracts, 6xx authority, 7xx DNS UPDATE, 9xx the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("op is longer than {max} octets")]
    TooLarge { max: usize },
    #[error("op is not a tagged COSE_Sign1 with an EdDSA signature over an op of this version")]
    Malformed,
    #[error("op is not in its one legal encoding (deterministic CBOR)")]
    NotCanonical,
    #[error("op is for another registry; ask this one for its id (`registry.info`)")]
    WrongRegistry,
    #[error("op signature does not verify with the key it names")]
    BadSignature,
    #[error("op expired at {expires}, it is {now}; sign it again")]
    Expired { expires: u64, now: u64 },
    #[error("op expires more than {max} s ahead")]
    ExpiresTooLate { max: u64 },
    #[error("too many ops from this address were checked in vain; try again in {seconds} s")]
    TooManyForgeries { seconds: u64 },

    #[error("nonce is {got}, the next one is {expected}")]
    Nonce { expected: u64, got: u64 },
    #[error("too little mana: have {have}, need {need}{}", wait_text(*.ready_at))]
    Mana {
        have: u64,
        need: u64,
        /// Seconds since 1970 when there is enough; `None` if the capacity never holds so much.
        ready_at: Option<u64>,
    },

    #[error("{0} is not a name that can be registered: one label under one of our TLDs")]
    NotRegistrable(Name),
    #[error("label refused by the TLD's policy: {0}")]
    LabelRefused(String),
    #[error("{0} is taken")]
    Taken(Name),
    #[error("{name} expired and is held for its last owner until {until}")]
    InGrace { name: Name, until: u64 },
    #[error("{0} is not registered")]
    UnknownName(Name),
    #[error("{0} belongs to another sigil")]
    NotOwner(Name),
    #[error("{0} has expired; renew it first")]
    NameExpired(Name),
    #[error("term must be 1 to {max} years, and the lease may not reach further than that from now")]
    Term { max: u32 },
    #[error("new owner is not an Ed25519 public key")]
    BadNewOwner,
    #[error("{name} is in redemption until {until}; restore it")]
    InRedemption { name: Name, until: u64 },
    #[error("{0} is not in redemption; renew it")]
    NotInRedemption(Name),
    #[error("{0} can only be registered by commit and reveal")]
    CommitFirst(Name),
    #[error("the author has no commitment to {0} with this secret, or it has been forgotten")]
    NoCommitment(Name),
    #[error("the commitment was made {age} s ago; it can be revealed after {min} s and within {max} s")]
    CommitmentAge { age: u64, min: u64, max: u64 },
    #[error("{0} goes to another sigil only if that one accepts it; offer it")]
    NeedsAcceptance(Name),
    #[error("{0} is not offered so; it may have been withdrawn, or offered anew")]
    NoOffer(Name),
    #[error("an offer ends in the future, at most {max} s ahead, and not after the lease")]
    OfferTerm { max: u64 },
    #[error("{name} is locked{}", lock_text(*.opens))]
    Locked {
        name: Name,
        /// When it is unlocked, if its owner has asked for that.
        opens: Option<u64>,
    },
    #[error("{0} is not locked, or is being unlocked")]
    NotLocked(Name),
    #[error("unlocking may take {max} s at most")]
    UnlockDelay { max: u64 },
    #[error("none of the names is due for renewal and can be paid, or they do not stand in order")]
    NothingDue,
    #[error("{0} is to be renewed by its owner's plan at {1}")]
    NotDue(Name, u64),
    #[error("a renewal costs {amount} of {token}, more than the owner's plan allows (in its smallest unit)")]
    OverPlan { token: Symbol, amount: u64 },
    #[error("the TLD's policy asks for a fee that {0} cannot express")]
    BadFee(Symbol),

    #[error("{owner} is not at or below {name}")]
    OutsideName { owner: Name, name: Name },
    #[error("{0} records are not for owners to set")]
    TypeRefused(Rtype),
    #[error("{owner} {rtype}: {reason}")]
    BadRecord { owner: Name, rtype: Rtype, reason: String },
    #[error("{owner} {rtype} has no RRSIG by the owner's key or a zone key of the op")]
    Unsigned { owner: Name, rtype: Rtype },
    #[error("{owner} {rtype}: {error}")]
    BadRrsig { owner: Name, rtype: Rtype, error: RrsigError },
    #[error("{owner}: a CNAME cannot stand beside other data (RFC 1034 section 3.6.2)")]
    CnameAndOther { owner: Name },
    #[error("{owner}: hidden by a delegation (NS), beside which only DS stands, or by a DNAME above it")]
    Occluded { owner: Name },
    #[error("{owner} {rtype} does not exist")]
    UnknownRecord { owner: Name, rtype: Rtype },
    #[error("more than {max} {what}")]
    TooMany { what: &'static str, max: usize },

    #[error("contract {0} is not deployed")]
    UnknownContract(String),
    #[error("contract {0} is deployed already")]
    ContractExists(String),
    #[error("contract refused: {0}")]
    ContractInvalid(String),
    #[error("parameters are longer than {max} octets")]
    ParametersTooLong { max: usize },

    #[error(
        "{0} is strict: its owner signs everything ahead, and nobody could sign what a contract makes; \
         `name sign {0}` lets the gateway's online key do that"
    )]
    Strict(Name),

    #[error("denied by covenant {covenant} of {scope}: {reason}")]
    Denied { scope: Name, covenant: String, reason: String },
    #[error("covenant {covenant} of {scope} cannot judge: {reason}; whoever bound it can take it off")]
    CovenantBroke { scope: Name, covenant: String, reason: String },

    #[error("only the registry's operator may do this")]
    NotOperator,
    #[error("load policy: {0}")]
    BadLoad(&'static str),
    #[error("level must be 0 to {max}")]
    Level { max: u8 },

    #[error("there is no guardian set {0}")]
    UnknownSet(SetId),
    #[error("guardian set: {0}")]
    BadSet(&'static str),
    #[error("needs the signatures of {set}: they weigh {have} of {need}")]
    Threshold { set: SetId, have: u32, need: u32 },
    #[error("a guardian set cannot be the author of this op; a sigil can")]
    SigilsOnly,
    #[error("{0} is the author, and has not signed")]
    AuthorUnsigned(Identity),
    #[error("{0} may not attest: the operator appoints attestors")]
    NotAttestor(Identity),
    #[error("attestor's quota: {left} of {quota} are left, this takes {need} (capacity at once, in mana)")]
    Quota { quota: u64, left: u64, need: u64 },
    #[error("an attestation ends in the future, at most {max} s ahead")]
    AttestationTerm { max: u64 },
    #[error("{to} has level {level} {}", attested_text(*.by, *.until))]
    Attested { to: Identity, level: u8, by: Option<Identity>, until: Option<u64> },
    #[error("{0} has no attestation that you can revoke")]
    NotAttested(Identity),
    #[error("nobody attests itself, or what is neither a key nor a set")]
    BadSubject,
    #[error("{0} has no recovery set")]
    NoRecovery(Name),
    #[error("{name} is being recovered; its owner can veto, and from {ready} on it can be finished")]
    RecoveryPending { name: Name, ready: u64 },
    #[error("{0} is not being recovered")]
    NotPending(Name),
    #[error("not before {0}")]
    TooEarly(u64),
    #[error("delay must be {min} to {max} s")]
    Delay { min: u64, max: u64 },
    #[error("{name} is frozen by its recovery set until {until}")]
    Frozen { name: Name, until: u64 },
    #[error("a freeze ends in the future, at most {max} s ahead")]
    FreezeTerm { max: u64 },
    #[error("{0} is not frozen")]
    NotFrozen(Name),
    #[error("what needs the signatures stands in order, each once; and nothing does where there is no set")]
    BadScopes,

    #[error("there is no token {0}")]
    UnknownToken(Symbol),
    #[error("{0} is taken or reserved")]
    TokenTaken(Symbol),
    #[error("{0}")]
    BadToken(&'static str),
    #[error("only {whom} of {token} may do this")]
    NotAuthority { token: Symbol, whom: &'static str },
    #[error("there will never be more than {cap} of {token}, and there are {supply} already")]
    OverCap { token: Symbol, cap: u64, supply: u64 },
    #[error("too little {token}: have {have}, need {need} (in its smallest unit)")]
    Balance { token: Symbol, have: u64, need: u64 },
    #[error("{0} cannot be transferred")]
    NotTransferable(Symbol),
    #[error("amount must be more than 0")]
    NoAmount,
    #[error("to whom must be another sigil's public key")]
    BadRecipient,
    #[error("there is no hold {0}")]
    UnknownHold(u64),
    #[error("a hold is closed by whom it is for, or by its author with amount 0 from {until} on")]
    NotYourHold { until: u64 },
    #[error("a hold ends in the future, at most {max} s ahead")]
    HoldTerm { max: u64 },
    #[error("memo is longer than {max} octets")]
    MemoTooLong { max: usize },
    #[error("only a gateway that the operator named may settle gas")]
    NotGateway,
    #[error("gas policy: {0}")]
    BadGas(&'static str),
    #[error("epoch {epoch} is not one that can be settled now; it is {now}")]
    GasEpoch { epoch: u64, now: u64 },

    #[error("this update was accepted before")]
    UpdateReplayed,
    #[error("the update's signature ended at {until}, it is {now}; sign it again")]
    UpdateExpired { until: u64, now: u64 },
    #[error("{0} is strict: its owner signs everything ahead, and nobody could sign what an update brings")]
    StrictUpdate(Name),
    #[error("only a gateway that the operator named may vouch for updates by key")]
    NotVoucher,
    #[error("{name} has no update key {label:?} that is in force")]
    UnknownUpdateKey { name: Name, label: String },
    #[error("{owner} {rtype} is outside of what the update key may change")]
    OutOfScope { owner: Name, rtype: Rtype },
    #[error("update key: {0}")]
    BadUpdateKey(String),
    #[error("update key {label:?} of {name} has {left} of its {most} mana a day left, this update takes {need}")]
    KeyBudget { name: Name, label: String, left: u64, need: u64, most: u64 },
    #[error("not a DNS UPDATE of one registered name that its signature says it is: {0}")]
    BadUpdate(&'static str),
    #[error("{0}")]
    BadSig0(Sig0Error),
    #[error("prerequisite: {0} is in use")]
    NameInUse(Name),
    #[error("prerequisite: {0} is not in use")]
    NameNotInUse(Name),
    #[error("prerequisite: {owner} {rtype} exists")]
    RrsetInUse { owner: Name, rtype: Rtype },
    #[error("prerequisite: {owner} {rtype} does not exist, or is another")]
    RrsetNotInUse { owner: Name, rtype: Rtype },

    #[error("the write queue is full; try again")]
    Busy,
    #[error("the server is shutting down")]
    Stopping,
    #[error("too much work has been done for your network, or this author, of late; try again in {seconds} s")]
    Overdrawn { seconds: u64 },
    #[error("the registry failed: {0}")]
    Fault(String),
    #[error("the store takes no writes now, and is tried again every few seconds: {reason}")]
    StoreFailed { reason: String },
    #[error(
        "the server's clock has jumped by more than an hour from {now}, which it counts itself: nothing is written until the \
         clock is right, or its operator restarts it with --accept-time"
    )]
    ClockJump { now: u64 },
    #[error(
        "the log's last op is of {latest}, it is {now}: nothing is written until the operator has set the log's time right \
         (`log amend-time`)"
    )]
    LogAhead { latest: u64, now: u64 },
}

impl Rejection {
    /// True for what the server cannot do now, whatever the op.
    pub fn is_ours(&self) -> bool {
        self.code() >= 900
    }

    /// The stable number.
    pub fn code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 100,
            Self::Malformed => 101,
            Self::NotCanonical => 102,
            Self::WrongRegistry => 103,
            Self::BadSignature => 104,
            Self::Expired { .. } => 105,
            Self::ExpiresTooLate { .. } => 106,
            Self::TooManyForgeries { .. } => 107,
            Self::Nonce { .. } => 200,
            Self::Mana { .. } => 201,
            Self::NotRegistrable(_) => 300,
            Self::LabelRefused(_) => 301,
            Self::Taken(_) => 302,
            Self::InGrace { .. } => 303,
            Self::UnknownName(_) => 304,
            Self::NotOwner(_) => 305,
            Self::NameExpired(_) => 306,
            Self::Term { .. } => 307,
            Self::BadNewOwner => 308,
            Self::InRedemption { .. } => 310,
            Self::NotInRedemption(_) => 311,
            Self::CommitFirst(_) => 312,
            Self::NoCommitment(_) => 313,
            Self::CommitmentAge { .. } => 314,
            Self::NeedsAcceptance(_) => 315,
            Self::NoOffer(_) => 316,
            Self::OfferTerm { .. } => 317,
            Self::Locked { .. } => 318,
            Self::NotLocked(_) => 319,
            Self::UnlockDelay { .. } => 320,
            Self::NothingDue => 321,
            Self::NotDue(..) => 322,
            Self::OverPlan { .. } => 323,
            Self::BadFee(_) => 324,
            Self::OutsideName { .. } => 400,
            Self::TypeRefused(_) => 401,
            Self::BadRecord { .. } => 402,
            Self::Unsigned { .. } => 403,
            Self::BadRrsig { .. } => 404,
            Self::CnameAndOther { .. } => 405,
            Self::Occluded { .. } => 406,
            Self::UnknownRecord { .. } => 407,
            Self::TooMany { .. } => 408,
            Self::UnknownContract(_) => 500,
            Self::ContractExists(_) => 501,
            Self::ContractInvalid(_) => 502,
            Self::ParametersTooLong { .. } => 503,
            Self::Strict(_) => 504,
            Self::Denied { .. } => 510,
            Self::CovenantBroke { .. } => 511,
            Self::NotOperator => 600,
            Self::Level { .. } => 601,
            Self::BadLoad(_) => 602,
            Self::UnknownSet(_) => 610,
            Self::BadSet(_) => 611,
            Self::Threshold { .. } => 612,
            Self::SigilsOnly => 613,
            Self::AuthorUnsigned(_) => 614,
            Self::NotAttestor(_) => 620,
            Self::Quota { .. } => 621,
            Self::AttestationTerm { .. } => 622,
            Self::Attested { .. } => 623,
            Self::NotAttested(_) => 624,
            Self::BadSubject => 625,
            Self::NoRecovery(_) => 630,
            Self::RecoveryPending { .. } => 631,
            Self::NotPending(_) => 632,
            Self::TooEarly(_) => 633,
            Self::Delay { .. } => 634,
            Self::Frozen { .. } => 640,
            Self::FreezeTerm { .. } => 641,
            Self::NotFrozen(_) => 642,
            Self::BadScopes => 650,
            Self::UnknownToken(_) => 800,
            Self::TokenTaken(_) => 801,
            Self::BadToken(_) => 802,
            Self::NotAuthority { .. } => 803,
            Self::OverCap { .. } => 804,
            Self::Balance { .. } => 805,
            Self::NotTransferable(_) => 806,
            Self::NoAmount => 807,
            Self::BadRecipient => 808,
            Self::UnknownHold(_) => 809,
            Self::NotYourHold { .. } => 810,
            Self::HoldTerm { .. } => 811,
            Self::MemoTooLong { .. } => 812,
            Self::NotGateway => 820,
            Self::BadGas(_) => 821,
            Self::GasEpoch { .. } => 822,
            Self::UpdateReplayed => 700,
            Self::UpdateExpired { .. } => 701,
            Self::StrictUpdate(_) => 702,
            Self::NotVoucher => 703,
            Self::UnknownUpdateKey { .. } => 704,
            Self::OutOfScope { .. } => 705,
            Self::BadUpdateKey(_) => 706,
            Self::BadUpdate(_) => 707,
            Self::BadSig0(_) => 708,
            Self::KeyBudget { .. } => 709,
            Self::NameInUse(_) => 710,
            Self::NameNotInUse(_) => 711,
            Self::RrsetInUse { .. } => 712,
            Self::RrsetNotInUse { .. } => 713,
            Self::Busy => 900,
            Self::Stopping => 901,
            Self::Fault(_) => 902,
            Self::StoreFailed { .. } => 903,
            Self::ClockJump { .. } => 904,
            Self::LogAhead { .. } => 905,
            Self::Overdrawn { .. } => 906,
        }
    }
}

fn attested_text(by: Option<Identity>, until: Option<u64>) -> String {
    match (by, until) {
        (Some(by), Some(until)) => format!("by {by} until {until}; a higher one that lasts as long takes its place"),
        _ => "by the operator, who alone changes it".to_owned(),
    }
}

fn lock_text(opens: Option<u64>) -> String {
    opens.map_or_else(|| "; unlock it first".to_owned(), |at| format!(" until {at}"))
}

fn wait_text(ready_at: Option<u64>) -> String {
    match ready_at {
        Some(at) => format!("; enough at {at}"),
        None => "; more than this level's capacity".to_owned(),
    }
}
