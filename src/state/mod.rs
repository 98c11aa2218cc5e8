//! The registry's state and the one way it changes.

mod account;
mod apply;
pub mod gas;
pub mod guardians;
pub mod ledger;
pub mod life;
pub mod load;
mod model;
mod record;
pub mod updates;

pub use account::{Account, Attestation, Floor, LEVELS, MAX_LEVEL, MICRO};
pub use apply::{ApplyError, Party, Standing, apply, party, renewable};
pub use model::Model;
pub use record::Record;

use gas::{GasState, NameGas};
use guardians::{Attestor, Guard, GuardianSet};
use ledger::{Balance, Hold, Move, Token};
use life::{Commitment, Fee, FeeFor, NameLife, Terms};
use load::Load;

use minicbor::{Decode, Encode};
use updates::Updates;

use crate::op::{CodeHash, Covenant, Identity, Op, OpKind, RrsetKey, SetId, SigilId, Symbol, Unproven, VerifiedOp};
use crate::wire::{Name, Rrset, Rtype};

/// A registered name.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NameEntry {
    #[n(0)]
    pub owner: SigilId,
    /// Seconds since 1970.
    #[n(1)]
    pub registered: u64,
    #[n(2)]
    pub expires: u64,
    /// The contract that answers; `None` is the TLD's default one.
    #[n(3)]
    pub contract: Option<CodeHash>,
    #[cbor(n(4), with = "minicbor::bytes")]
    pub parameters: Vec<u8>,
    /// Sequence of the last op that changed the name or what is below it: the SOA serial.
    #[n(5)]
    pub changed: u64,
    /// RRsets stored at and below the name.
    #[n(6)]
    pub rrsets: u32,
    /// What guardians have to say; `None` is nothing. It ends with the lease, and with an owner who gives the name away.
    #[n(12)]
    pub guard: Option<Box<Guard>>,
    /// Seconds after `expires` during which its owner may renew it, and after those, restore it: as the TLD's policy was
    /// when the lease was made.
    #[n(7)]
    pub grace: u64,
    #[n(8)]
    pub redemption: u64,
}

impl NameEntry {
    /// True while the lease runs: the name resolves and its owner may change it.
    pub fn is_live(&self, time: u64) -> bool {
        time < self.expires
    }
}

/// Where and when an op is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The op's place in the log.
    pub seq: u64,
    /// Seconds since 1970; never before that of an earlier op, unless this one [`amends_time`].
    pub time: u64,
}

/// Typed reads of the state: a registry snapshot, the writer's transaction, or the model in memory.
pub trait View {
    /// Why a read can fail.
    type Fault;

    /// The default account for an unknown identity.
    fn account(&self, id: &SigilId) -> Result<Account, Self::Fault>;
    /// The entry of a registered name, expired or not.
    fn name(&self, name: &Name) -> Result<Option<NameEntry>, Self::Fault>;
    fn rrset(&self, owner: &Name, rtype: Rtype) -> Result<Option<Rrset>, Self::Fault>;
    /// Mana for a KiB at which an RRset was stored; `None` for rows of before that was kept.
    fn rate(&self, owner: &Name, rtype: Rtype) -> Result<Option<u64>, Self::Fault>;
    /// Types stored at an owner name.
    fn types_at(&self, owner: &Name) -> Result<Vec<Rtype>, Self::Fault>;
    /// Every RRset at or below a name, in canonical order.
    fn rrsets_below(&self, apex: &Name) -> Result<Vec<Rrset>, Self::Fault>;
    fn has_contract(&self, hash: &CodeHash) -> Result<bool, Self::Fault>;
    /// A token as it was last changed; `None`, too, for a built-in one that never was.
    fn token(&self, token: Symbol) -> Result<Option<Token>, Self::Fault>;
    /// Nothing for an unknown identity.
    fn balance(&self, id: &SigilId, token: Symbol) -> Result<Balance, Self::Fault>;
    /// A hold by the sequence of the op that made it.
    fn hold(&self, number: u64) -> Result<Option<Hold>, Self::Fault>;
    fn gas(&self) -> Result<GasState, Self::Fault>;
    fn load(&self) -> Result<Load, Self::Fault>;
    /// Zeros for a name that has used none.
    fn name_gas(&self, name: &Name) -> Result<NameGas, Self::Fault>;
    /// Covenants of a registered name or a TLD, in the order in which they judge.
    fn covenants(&self, name: &Name) -> Result<Vec<Covenant>, Self::Fault>;
    /// Names under a TLD that an identity owns, expired ones included until they are registered anew.
    fn owned(&self, id: &SigilId, tld: &Name) -> Result<u32, Self::Fault>;
    /// Update keys, and updates that are remembered. An empty row for a name that has none.
    fn updates(&self, name: &Name) -> Result<Updates, Self::Fault>;
    fn set(&self, id: &SetId) -> Result<Option<GuardianSet>, Self::Fault>;
    /// What the operator allows an attestor, and what that has given.
    fn attestor(&self, id: &Identity) -> Result<Option<Attestor>, Self::Fault>;
    /// Commitments of an identity that have not been revealed.
    fn commitments(&self, id: &SigilId) -> Result<Vec<Commitment>, Self::Fault>;
    /// Nothing for a name of which nothing is arranged.
    fn name_life(&self, name: &Name) -> Result<NameLife, Self::Fault>;
}

/// What an op takes beside what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Octets of the signed op, or of what it stores where that is more: a DNS UPDATE comes compressed.
    pub bytes: usize,
    /// RRSIGs to check.
    pub rrsigs: usize,
}

/// What the TLDs' policies say, as far as ops need it.
pub trait Rules {
    /// True for the apex of a TLD.
    fn is_tld(&self, name: &Name) -> bool;
    /// A sentence if the label may not be registered under the TLD.
    fn check_label(&self, tld: &Name, label: &[u8]) -> Result<(), String>;
    /// Mana for an op of `kind` about a name under `tld`, or about none, before the load's factor.
    fn price(&self, tld: Option<&Name>, kind: OpKind, work: Work) -> u64;
    /// Mana for a KiB that is stored under `tld`, without the load's factor.
    fn rate(&self, tld: &Name) -> u64;
    /// The sigil that may grant mana.
    fn operator(&self) -> SigilId;
    /// What leases under a TLD are like; the usual for what is none.
    fn terms(&self, tld: &Name) -> Terms;
    /// What the TLD's operator is paid for a label.
    fn fee(&self, tld: &Name, label: &[u8], what: FeeFor) -> Option<Fee>;
}

/// Whether the time of an op may be earlier than that of the op before it: with this kind, and no other, the operator sets
/// the time of a log right that stands in the future. That it is the operator's, `apply` sees to.
pub fn amends_time(op: &Op) -> bool {
    matches!(op, Op::SetLoad { .. })
}

/// Mana that an op costs at `time`, if it is accepted.
///
/// # Errors
/// The view failed.
pub fn price_of<V: View, R: Rules + ?Sized>(view: &V, rules: &R, time: u64, op: &VerifiedOp) -> Result<u64, V::Fault> {
    let tld = op.op().name().and_then(Name::parent);
    let work = Work { bytes: op.bytes().len(), rrsigs: op.op().rrsigs() };
    Ok(view.load()?.at(time).price(rules.price(tld.as_ref(), op.op().kind(), work)))
}

/// What `apply` would say of an op if its signatures were good: every rule, at the cost of reads alone. It is for whoever
/// has to decide whether they are worth checking.
///
/// # Errors
/// As [`apply`].
pub fn foresee<V: View, R: Rules + ?Sized>(
    view: &V,
    rules: &R,
    at: At,
    op: &Unproven,
) -> Result<(), ApplyError<V::Fault>> {
    apply(view, rules, at, op.presumed()).map(drop)
}

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    PutAccount(SigilId, Account),
    PutName(Name, NameEntry),
    DropName(Name),
    /// With the mana for a KiB at which it was stored, where that is known.
    PutRrset(Rrset, Option<u64>),
    DropRrset(RrsetKey),
    PutContract(CodeHash, Vec<u8>),
    PutToken(Symbol, Token),
    PutBalance(SigilId, Symbol, Balance),
    PutHold(u64, Hold),
    DropHold(u64),
    /// A line of an identity's history: sequence of the op, number within the op.
    PutMove(SigilId, u64, u32, Move),
    PutGas(GasState),
    PutLoad(Load),
    PutNameGas(Name, NameGas),
    DropNameGas(Name),
    /// None at all drops the row.
    PutCovenants(Name, Vec<Covenant>),
    /// Owner, TLD, number of names; 0 drops the row.
    PutOwned(SigilId, Name, u32),
    /// An empty row goes away.
    PutUpdates(Name, Updates),
    PutSet(SetId, GuardianSet),
    PutAttestor(Identity, Attestor),
    /// Who has attested whom: what listings are made of.
    PutAttestation(Identity, Identity),
    DropAttestation(Identity, Identity),
    /// All commitments of an identity; none drops the row.
    PutCommitments(SigilId, Vec<Commitment>),
    PutNameLife(Name, NameLife),
    DropNameLife(Name),
}

/// Everything an accepted op changes. Applying the changes in order gives the next state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    pub changes: Vec<Change>,
    /// Registered names that the op is about, or whose answers may differ from now on.
    pub touched: Vec<Name>,
    /// Identities that hold more than before: what they could not pay for, they may now.
    pub gained: Vec<SigilId>,
}

impl Effects {
    /// Both, this one's first.
    fn and(mut self, other: Self) -> Self {
        self.changes.extend(other.changes);
        self.touched.extend(other.touched);
        self.gained.extend(other.gained);
        self
    }
}
