//! Ops: signed writes, their one legal encoding, their verification. DNS UPDATE messages with a SIG(0) are ops, too.
//!
//! ```text
//! bytes --verify--> VerifiedOp --apply (crate::state)--> Effects
//!   |                                |
//!   '----------> Rejection <---------'
//! ```

mod action;
mod codec;
pub mod envelope;
mod guardians;
mod identity;
mod rejection;
mod shared;
mod sigil;
mod token;
mod unproven;
mod update;

pub(crate) use action::beside_records;
pub use action::{Action, Consent};
pub use codec::{Claim, OP_CONTEXT, RegistryId, peek, sign, verify};
pub(crate) use codec::{decode_rrset, encode_rrset, is_parent_side};
pub use guardians::{Member, Scope};
pub use identity::{Identity, NotASet, NotAnIdentity, SetId};
pub use rejection::Rejection;
pub use shared::{Draft, OtherOp};
pub use sigil::{NotADid, SigilId};
pub use token::{NotASymbol, Symbol};
pub use unproven::{Signed, Unproven};
pub use update::{SecretRequest, SignedUpdate, UPDATE_KEY_CONTEXT, UpdateScope, check_sig0, key_name, seal_update};

use minicbor::{Decode, Encode};

use crate::wire::{Name, Rrset, Rtype};

/// One write. The author's key signs it together with the registry's id, a nonce and an expiry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Op {
    /// Registers a free name for its author.
    #[n(0)]
    Register {
        #[n(0)]
        name: Name,
        #[n(1)]
        years: u32,
    },
    /// Extends the lease of a name.
    #[n(1)]
    Renew {
        #[n(0)]
        name: Name,
        #[n(1)]
        years: u32,
    },
    /// Gives a name to another sigil. Its records stay, their RRSIGs (by the old key) do not; nor does what its owner has
    /// arranged: contract, covenants, update keys, plan.
    #[n(2)]
    Transfer {
        #[n(0)]
        name: Name,
        #[n(1)]
        to: SigilId,
    },
    /// Gives a name up, with everything below it.
    #[n(3)]
    Release {
        #[n(0)]
        name: Name,
    },
    /// Puts RRsets at or below a name, each in place of what was there; all or none.
    #[n(4)]
    PutRecords {
        #[n(0)]
        name: Name,
        #[n(1)]
        rrsets: Vec<Rrset>,
        /// DNSKEY RDATA of the zone keys that made the RRSIGs; absent where the author's sigil did.
        #[n(2)]
        keys: Option<Vec<DnskeyRdata>>,
    },
    /// Deletes RRsets; all or none.
    #[n(5)]
    DeleteRecords {
        #[n(0)]
        name: Name,
        #[n(1)]
        keys: Vec<RrsetKey>,
    },
    /// Stores a contract under its SHA-256.
    #[n(6)]
    DeployContract {
        #[cbor(n(0), with = "minicbor::bytes")]
        wasm: Vec<u8>,
    },
    /// Makes a contract answer for a name; `None` gives it back to the TLD's default contract.
    #[n(7)]
    BindContract {
        #[n(0)]
        name: Name,
        #[n(1)]
        contract: Option<CodeHash>,
        #[cbor(n(2), with = "minicbor::bytes")]
        parameters: Vec<u8>,
    },
    /// Sets an identity's level and fills its mana by an amount. Operator only.
    #[n(8)]
    GrantMana {
        #[n(0)]
        to: SigilId,
        #[n(1)]
        level: u8,
        #[n(2)]
        amount: u64,
    },
    /// Makes a new token; its author is the issuer and holds what there is of it at first.
    #[n(9)]
    CreateToken {
        #[n(0)]
        token: Symbol,
        /// Digits behind the point when amounts are shown.
        #[n(1)]
        decimals: u8,
        #[n(2)]
        initial: u64,
        /// There will never be more.
        #[n(3)]
        cap: u64,
        /// Whether holders may give it to each other.
        #[n(4)]
        transferable: bool,
        /// Who may make more of it; `None` is nobody.
        #[n(5)]
        mint: Option<SigilId>,
        /// Who may destroy what it holds of it; `None` is nobody.
        #[n(6)]
        burn: Option<SigilId>,
    },
    /// Says anew who may mint and burn a token, and who may say so. Issuer only.
    #[n(10)]
    SetAuthority {
        #[n(0)]
        token: Symbol,
        /// `None`: it stays as this op leaves it, for ever.
        #[n(1)]
        issuer: Option<SigilId>,
        #[n(2)]
        mint: Option<SigilId>,
        #[n(3)]
        burn: Option<SigilId>,
    },
    /// Makes more of a token.
    #[n(11)]
    Mint {
        #[n(0)]
        token: Symbol,
        #[n(1)]
        to: SigilId,
        #[n(2)]
        amount: u64,
    },
    /// Destroys what the author holds of a token.
    #[n(12)]
    Burn {
        #[n(0)]
        token: Symbol,
        #[n(1)]
        amount: u64,
    },
    /// Gives to another identity.
    #[n(13)]
    Pay {
        #[n(0)]
        token: Symbol,
        #[n(1)]
        to: SigilId,
        #[n(2)]
        amount: u64,
        /// At most 128 octets.
        #[n(3)]
        memo: String,
    },
    /// Sets an amount aside for another identity, who may take it until a time. The hold's number is the op's sequence.
    #[n(14)]
    Hold {
        #[n(0)]
        token: Symbol,
        #[n(1)]
        to: SigilId,
        #[n(2)]
        amount: u64,
        /// Seconds since 1970; from then on its author may have it back.
        #[n(3)]
        until: u64,
        /// At most 128 octets.
        #[n(4)]
        memo: String,
    },
    /// Ends a hold: so much goes to whom it was for, the rest back.
    #[n(15)]
    CloseHold {
        #[n(0)]
        hold: u64,
        #[n(1)]
        amount: u64,
    },
    /// Says what gas costs, and whose meters count. Operator only.
    #[n(16)]
    SetGas {
        #[n(0)]
        policy: GasPolicy,
        /// Sigils of the gateways that may settle.
        #[n(1)]
        gateways: Vec<SigilId>,
    },
    /// Charges owners for the fuel that their contracts used in one epoch. Gateways only.
    #[n(17)]
    SettleGas {
        /// When the epoch began, seconds since 1970.
        #[n(0)]
        epoch: u64,
        #[n(1)]
        uses: Vec<GasUse>,
    },
    /// Changes records as a DNS UPDATE asks for, under its prerequisites; all or none. Comes only as the message itself
    /// with its SIG(0), never in an envelope of ours.
    #[n(30)]
    Update {
        #[n(0)]
        update: SignedUpdate,
    },
    /// Lets whoever has the secret that the gateway derives for a label update some records of a name.
    #[n(31)]
    IssueUpdateKey {
        #[n(0)]
        name: Name,
        /// 1 to 63 of a-z, 0-9, `-`, `_`.
        #[n(1)]
        label: String,
        #[n(2)]
        scopes: Vec<UpdateScope>,
        /// Seconds since 1970.
        #[n(3)]
        expires: u64,
        /// Mana a day that updates by it may take of the owner's; absent is [`crate::limits::UPDATE_KEY_MANA`].
        #[n(4)]
        mana: Option<u64>,
    },
    /// What [`Op::Update`] does, asked for with an update key. Gateways only: they vouch for the TSIG, which the owner,
    /// who has the secret, can check again.
    #[n(32)]
    UpdateByKey {
        #[n(0)]
        label: String,
        #[n(1)]
        update: SignedUpdate,
        /// Sequence of the op that issued the key: with another of the same label it is worth nothing. Absent in ops of
        /// before it was told.
        #[n(2)]
        issued: Option<u64>,
    },
    /// Ends an update key.
    #[n(33)]
    RevokeUpdateKey {
        #[n(0)]
        name: Name,
        #[n(1)]
        label: String,
    },
    /// Makes a guardian set, or changes one: then so many of it must have signed as it asked for before.
    #[n(60)]
    PutSet {
        /// `None` makes one.
        #[n(0)]
        set: Option<SetId>,
        /// In order, each once.
        #[n(1)]
        members: Vec<Member>,
        /// Weight that speaks for the set.
        #[n(2)]
        threshold: u32,
    },
    /// Says who may attest, how high, and how much at once. Operator only.
    #[n(61)]
    SetAttestor {
        #[n(0)]
        who: Identity,
        /// 0: nobody from now on.
        #[n(1)]
        max_level: u8,
        /// Sum of the capacities (mana) that it attests at any time.
        #[n(2)]
        quota: u64,
    },
    /// Gives an identity a level until a time, or renews it. Attestors only.
    #[n(62)]
    Attest {
        #[n(0)]
        to: Identity,
        #[n(1)]
        level: u8,
        /// Seconds since 1970.
        #[n(2)]
        until: u64,
    },
    /// Ends a level before its time: by whoever attested it, whoever has it, or the operator.
    #[n(63)]
    RevokeAttestation {
        #[n(0)]
        of: Identity,
    },
    /// From now on, giving the name away or up, changing its guardians, and whatever else is asked for needs a set's
    /// signatures, too. Owner only, and once it holds, with them. Ends an offer.
    #[n(64)]
    RequireCosign {
        #[n(0)]
        name: Name,
        /// `None` ends it.
        #[n(1)]
        set: Option<SetId>,
        /// What needs them beside what always does; in order, each once.
        #[n(2)]
        scopes: Vec<Scope>,
    },
    /// Says which set may give the name to another key if the owner's is lost. Owner only.
    #[n(65)]
    SetRecovery {
        #[n(0)]
        name: Name,
        /// `None`: nobody.
        #[n(1)]
        set: Option<SetId>,
        /// Seconds for which the owner can say no.
        #[n(2)]
        delay: u64,
    },
    /// Asks for the name to be given to another key once the delay is over. With the signatures of its recovery set. Ends an
    /// offer.
    #[n(66)]
    StartRecovery {
        #[n(0)]
        name: Name,
        #[n(1)]
        to: SigilId,
    },
    /// Stops a recovery. Owner only.
    #[n(67)]
    VetoRecovery {
        #[n(0)]
        name: Name,
    },
    /// Completes a recovery whose delay is over. Anyone.
    #[n(68)]
    FinishRecovery {
        #[n(0)]
        name: Name,
    },
    /// Keeps the owner from changing the name until a time. With the signatures of its recovery set. Ends an offer.
    #[n(69)]
    Freeze {
        #[n(0)]
        name: Name,
        /// Seconds since 1970; `None` ends it.
        #[n(1)]
        until: Option<u64>,
    },
    /// Promises to register a name without telling which: SHA-256 over `ghostplane commit v1`, the name in wire form,
    /// the author's key and the secret.
    #[n(50)]
    Commit {
        #[cbor(n(0), with = "minicbor::bytes")]
        hash: [u8; 32],
    },
    /// Registers a free name that the author has committed to.
    #[n(51)]
    Reveal {
        #[n(0)]
        name: Name,
        #[n(1)]
        years: u32,
        #[cbor(n(2), with = "minicbor::bytes")]
        secret: [u8; 32],
    },
    /// Renews a name that is in redemption.
    #[n(52)]
    Restore {
        #[n(0)]
        name: Name,
        #[n(1)]
        years: u32,
    },
    /// Says that a name is to be renewed from its owner's account when its lease ends; `None`: not any more.
    #[n(53)]
    SetAutoRenew {
        #[n(0)]
        name: Name,
        #[n(1)]
        plan: Option<AutoRenew>,
    },
    /// Renews names by their owners' plans. Gateways only.
    #[n(54)]
    RenewDue {
        /// In canonical order, each once. Those that are not due, or cannot be paid, are passed over.
        #[n(0)]
        names: Vec<Name>,
    },
    /// Offers a name to another sigil. An earlier offer of the name ends.
    #[n(55)]
    Offer {
        #[n(0)]
        name: Name,
        #[n(1)]
        to: SigilId,
        #[n(2)]
        price: Option<Price>,
        /// Seconds since 1970; the offer ends then.
        #[n(3)]
        until: u64,
    },
    /// Takes an offered name over and pays its price to who owned it.
    #[n(56)]
    Accept {
        #[n(0)]
        name: Name,
        /// Sequence of the op that offered it.
        #[n(1)]
        offer: u64,
    },
    /// Ends an offer: its owner does not stand by it, or whom it is for does not want it.
    #[n(57)]
    Withdraw {
        #[n(0)]
        name: Name,
    },
    /// Locks a name: it is not transferred, offered or released, and its zone's keys and guardians stay. Locked already, it stays
    /// locked, whatever its owner asked for before, and its delay is never made shorter.
    #[n(58)]
    Lock {
        #[n(0)]
        name: Name,
        /// Seconds that unlocking takes; the TLD's policy may ask for more.
        #[n(1)]
        delay: u64,
    },
    /// Unlocks a name, after its lock's delay.
    #[n(59)]
    Unlock {
        #[n(0)]
        name: Name,
    },
    /// Says which covenants judge writes to a name, or below a TLD (operator only), in place of those that did.
    #[n(40)]
    BindCovenants {
        /// Registered name, or TLD.
        #[n(0)]
        name: Name,
        #[n(1)]
        covenants: Vec<Covenant>,
    },
    /// Says how the price of writing follows the load. Operator only.
    #[n(41)]
    SetLoad {
        #[n(0)]
        policy: LoadPolicy,
    },
}

/// How a name is renewed without its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct AutoRenew {
    /// Each time.
    #[n(0)]
    pub years: u32,
    /// What one renewal may cost at most; `None`: nothing but mana.
    #[n(1)]
    pub most: Option<Price>,
}

/// An amount of a token, in its smallest unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Price {
    #[n(0)]
    pub token: Symbol,
    #[n(1)]
    pub amount: u64,
}

/// How the price of writing follows the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LoadPolicy {
    /// Seconds of a window.
    #[n(0)]
    pub window: u64,
    /// Mana that the ops of one window cost, before the factor, at which the factor stays.
    #[n(1)]
    pub target: u64,
    /// Highest factor, thousandths.
    #[n(2)]
    pub highest: u64,
}

/// A covenant and the parameters that it is bound with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Covenant {
    #[n(0)]
    pub code: CodeHash,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub parameters: Vec<u8>,
}

/// What gas costs: governed bounds, between which the price follows the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct GasPolicy {
    /// Seconds of an epoch.
    #[n(0)]
    pub epoch: u64,
    /// Fuel that each name has for nothing in each epoch.
    #[n(1)]
    pub free: u64,
    /// Fuel of one name and epoch after which its contract waits for the next one, whoever would pay.
    #[n(2)]
    pub most: u64,
    /// Fuel of all names in one epoch at which the price stays as it is.
    #[n(3)]
    pub target: u64,
    /// Bounds of the price: billionths of a GCC for a million units of fuel.
    #[n(4)]
    pub lowest: u64,
    #[n(5)]
    pub highest: u64,
}

/// Fuel that the contract of one name used.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct GasUse {
    #[n(0)]
    pub name: Name,
    #[n(1)]
    pub fuel: u64,
    #[n(2)]
    pub executions: u64,
}

/// DNSKEY RDATA.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct DnskeyRdata(#[cbor(with = "minicbor::bytes")] pub Vec<u8>);

/// Owner and type of one RRset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct RrsetKey {
    #[n(0)]
    pub owner: Name,
    #[n(1)]
    pub rtype: Rtype,
}

/// SHA-256 of a contract; displayed in hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct CodeHash(#[cbor(with = "minicbor::bytes")] pub [u8; 32]);

impl CodeHash {
    /// The hash of a contract's octets.
    pub fn of(wasm: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(wasm).into())
    }

    /// Reads 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let octets = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        octets.try_into().ok().map(Self)
    }
}

impl std::fmt::Display for CodeHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl std::fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// What an author signs: an op bound to one registry, one place in the author's order, and a time.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct OpBody {
    #[n(0)]
    pub registry: RegistryId,
    #[n(1)]
    pub nonce: u64,
    /// Seconds since 1970.
    #[n(2)]
    pub expires: u64,
    #[n(3)]
    pub op: Op,
}

/// The kinds of op, as prices and metrics name them; numbered as in their octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    Register = 0,
    Renew = 1,
    Transfer = 2,
    Release = 3,
    PutRecords = 4,
    DeleteRecords = 5,
    DeployContract = 6,
    BindContract = 7,
    GrantMana = 8,
    CreateToken = 9,
    SetAuthority = 10,
    Mint = 11,
    Burn = 12,
    Pay = 13,
    Hold = 14,
    CloseHold = 15,
    SetGas = 16,
    SettleGas = 17,
    BindCovenants = 40,
    SetLoad = 41,
    Update = 30,
    IssueUpdateKey = 31,
    UpdateByKey = 32,
    RevokeUpdateKey = 33,
    PutSet = 60,
    SetAttestor = 61,
    Attest = 62,
    RevokeAttestation = 63,
    RequireCosign = 64,
    SetRecovery = 65,
    StartRecovery = 66,
    VetoRecovery = 67,
    FinishRecovery = 68,
    Freeze = 69,
    Commit = 50,
    Reveal = 51,
    Restore = 52,
    SetAutoRenew = 53,
    RenewDue = 54,
    Offer = 55,
    Accept = 56,
    Withdraw = 57,
    Lock = 58,
    Unlock = 59,
}

impl OpKind {
    /// The kind that has this number in the octets of an op.
    pub fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The name in config files and metrics.
    pub fn text(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Renew => "renew",
            Self::Transfer => "transfer",
            Self::Release => "release",
            Self::PutRecords => "put_records",
            Self::DeleteRecords => "delete_records",
            Self::DeployContract => "deploy",
            Self::BindContract => "bind",
            Self::GrantMana => "grant_mana",
            Self::CreateToken => "create_token",
            Self::SetAuthority => "set_authority",
            Self::Mint => "mint",
            Self::Burn => "burn",
            Self::Pay => "pay",
            Self::Hold => "hold",
            Self::CloseHold => "close_hold",
            Self::SetGas => "set_gas",
            Self::SettleGas => "settle_gas",
            Self::BindCovenants => "bind_covenants",
            Self::SetLoad => "set_load",
            Self::Update => "update",
            Self::IssueUpdateKey => "issue_update_key",
            Self::UpdateByKey => "update_by_key",
            Self::RevokeUpdateKey => "revoke_update_key",
            Self::PutSet => "put_set",
            Self::SetAttestor => "set_attestor",
            Self::Attest => "attest",
            Self::RevokeAttestation => "revoke_attestation",
            Self::RequireCosign => "require_cosign",
            Self::SetRecovery => "set_recovery",
            Self::StartRecovery => "start_recovery",
            Self::VetoRecovery => "veto_recovery",
            Self::FinishRecovery => "finish_recovery",
            Self::Freeze => "freeze",
            Self::Commit => "commit",
            Self::Reveal => "reveal",
            Self::Restore => "restore",
            Self::SetAutoRenew => "set_auto_renew",
            Self::RenewDue => "renew_due",
            Self::Offer => "offer",
            Self::Accept => "accept",
            Self::Withdraw => "withdraw",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
        }
    }

    /// All of them.
    pub const ALL: [Self; 44] = [
        Self::Register,
        Self::Renew,
        Self::Transfer,
        Self::Release,
        Self::PutRecords,
        Self::DeleteRecords,
        Self::DeployContract,
        Self::BindContract,
        Self::GrantMana,
        Self::CreateToken,
        Self::SetAuthority,
        Self::Mint,
        Self::Burn,
        Self::Pay,
        Self::Hold,
        Self::CloseHold,
        Self::SetGas,
        Self::SettleGas,
        Self::BindCovenants,
        Self::SetLoad,
        Self::Update,
        Self::IssueUpdateKey,
        Self::UpdateByKey,
        Self::RevokeUpdateKey,
        Self::PutSet,
        Self::SetAttestor,
        Self::Attest,
        Self::RevokeAttestation,
        Self::RequireCosign,
        Self::SetRecovery,
        Self::StartRecovery,
        Self::VetoRecovery,
        Self::FinishRecovery,
        Self::Freeze,
        Self::Commit,
        Self::Reveal,
        Self::Restore,
        Self::SetAutoRenew,
        Self::RenewDue,
        Self::Offer,
        Self::Accept,
        Self::Withdraw,
        Self::Lock,
        Self::Unlock,
    ];
}

impl Op {
    /// Puts RRsets that the author's sigil has signed.
    pub fn put(name: Name, rrsets: Vec<Rrset>) -> Self {
        Self::PutRecords { name, rrsets, keys: None }
    }

    /// Which kind this is.
    pub fn kind(&self) -> OpKind {
        match self {
            Self::Register { .. } => OpKind::Register,
            Self::Renew { .. } => OpKind::Renew,
            Self::Transfer { .. } => OpKind::Transfer,
            Self::Release { .. } => OpKind::Release,
            Self::PutRecords { .. } => OpKind::PutRecords,
            Self::DeleteRecords { .. } => OpKind::DeleteRecords,
            Self::DeployContract { .. } => OpKind::DeployContract,
            Self::BindContract { .. } => OpKind::BindContract,
            Self::GrantMana { .. } => OpKind::GrantMana,
            Self::CreateToken { .. } => OpKind::CreateToken,
            Self::SetAuthority { .. } => OpKind::SetAuthority,
            Self::Mint { .. } => OpKind::Mint,
            Self::Burn { .. } => OpKind::Burn,
            Self::Pay { .. } => OpKind::Pay,
            Self::Hold { .. } => OpKind::Hold,
            Self::CloseHold { .. } => OpKind::CloseHold,
            Self::SetGas { .. } => OpKind::SetGas,
            Self::SettleGas { .. } => OpKind::SettleGas,
            Self::BindCovenants { .. } => OpKind::BindCovenants,
            Self::SetLoad { .. } => OpKind::SetLoad,
            Self::Update { .. } => OpKind::Update,
            Self::IssueUpdateKey { .. } => OpKind::IssueUpdateKey,
            Self::UpdateByKey { .. } => OpKind::UpdateByKey,
            Self::RevokeUpdateKey { .. } => OpKind::RevokeUpdateKey,
            Self::PutSet { .. } => OpKind::PutSet,
            Self::SetAttestor { .. } => OpKind::SetAttestor,
            Self::Attest { .. } => OpKind::Attest,
            Self::RevokeAttestation { .. } => OpKind::RevokeAttestation,
            Self::RequireCosign { .. } => OpKind::RequireCosign,
            Self::SetRecovery { .. } => OpKind::SetRecovery,
            Self::StartRecovery { .. } => OpKind::StartRecovery,
            Self::VetoRecovery { .. } => OpKind::VetoRecovery,
            Self::FinishRecovery { .. } => OpKind::FinishRecovery,
            Self::Freeze { .. } => OpKind::Freeze,
            Self::Commit { .. } => OpKind::Commit,
            Self::Reveal { .. } => OpKind::Reveal,
            Self::Restore { .. } => OpKind::Restore,
            Self::SetAutoRenew { .. } => OpKind::SetAutoRenew,
            Self::RenewDue { .. } => OpKind::RenewDue,
            Self::Offer { .. } => OpKind::Offer,
            Self::Accept { .. } => OpKind::Accept,
            Self::Withdraw { .. } => OpKind::Withdraw,
            Self::Lock { .. } => OpKind::Lock,
            Self::Unlock { .. } => OpKind::Unlock,
        }
    }

    /// RRSIGs that come with it: each is checked.
    pub fn rrsigs(&self) -> usize {
        match self {
            Self::PutRecords { rrsets, .. } => rrsets.iter().map(|rrset| rrset.rrsigs.len()).sum(),
            _ => 0,
        }
    }

    /// The registered name that the op is about.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Register { name, .. }
            | Self::Renew { name, .. }
            | Self::Transfer { name, .. }
            | Self::Release { name }
            | Self::PutRecords { name, .. }
            | Self::DeleteRecords { name, .. }
            | Self::BindContract { name, .. }
            | Self::BindCovenants { name, .. }
            | Self::IssueUpdateKey { name, .. }
            | Self::RevokeUpdateKey { name, .. }
            | Self::RequireCosign { name, .. }
            | Self::SetRecovery { name, .. }
            | Self::StartRecovery { name, .. }
            | Self::VetoRecovery { name }
            | Self::FinishRecovery { name }
            | Self::Freeze { name, .. }
            | Self::Reveal { name, .. }
            | Self::Restore { name, .. }
            | Self::SetAutoRenew { name, .. }
            | Self::Offer { name, .. }
            | Self::Accept { name, .. }
            | Self::Withdraw { name }
            | Self::Lock { name, .. }
            | Self::Unlock { name } => Some(name),
            Self::DeployContract { .. }
            | Self::GrantMana { .. }
            | Self::CreateToken { .. }
            | Self::SetAuthority { .. }
            | Self::Mint { .. }
            | Self::Burn { .. }
            | Self::Pay { .. }
            | Self::Hold { .. }
            | Self::CloseHold { .. }
            | Self::SetGas { .. }
            | Self::SettleGas { .. }
            | Self::SetLoad { .. }
            | Self::PutSet { .. }
            | Self::SetAttestor { .. }
            | Self::Attest { .. }
            | Self::RevokeAttestation { .. }
            | Self::Commit { .. }
            | Self::RenewDue { .. } => None,
            Self::Update { update } | Self::UpdateByKey { update, .. } => Some(update.name()),
        }
    }
}

/// An op whose encoding, registry, expiry, signature and RRSIGs have been checked. Only [`verify`] makes
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedOp {
    author: Identity,
    /// In order, each once.
    cosigners: Vec<SigilId>,
    body: OpBody,
    bytes: Vec<u8>,
}

impl VerifiedOp {
    /// Whose nonce and mana it takes. A sigil has signed it; who of a set has, [`VerifiedOp::cosigners`] tells.
    pub fn author(&self) -> Identity {
        self.author
    }

    /// Who has signed it beside the author, in order.
    pub fn cosigners(&self) -> &[SigilId] {
        &self.cosigners
    }

    /// Everybody who has signed it, in order.
    pub fn signers(&self) -> Vec<SigilId> {
        let mut signers: Vec<SigilId> = self.cosigners.iter().copied().chain(self.author.sigil()).collect();
        signers.sort_unstable();
        signers
    }

    /// The set that it makes, if it makes one: sigils do.
    pub fn new_set(&self) -> Option<SetId> {
        self.author.sigil().map(|creator| SetId::of(self.body.registry, creator, self.body.nonce))
    }

    /// The place it claims in the author's order.
    pub fn nonce(&self) -> u64 {
        self.body.nonce
    }

    /// When its signature stops to be good, seconds since 1970.
    pub fn expires(&self) -> u64 {
        self.body.expires
    }

    /// The write.
    pub fn op(&self) -> &Op {
        &self.body.op
    }

    /// The signed octets, as they go to the log.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
