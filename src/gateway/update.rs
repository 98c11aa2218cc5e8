//! DNS UPDATE on its way to the writer.
//!
//! ```text
//! begin   UpdateMessage::parse, is the zone ours, is it signed            on the socket's thread
//! pool    name, key, time, mana -> signature -> VerifiedOp -> writer      what is cheap before what is not
//! writer  prerequisites and edits, durable commit -> reply
//! ```
//! Verification is what a flood would make us do (CVE-2024-1975): whoever is not the owner of a live name with mana to
//! spend, by the look of the message, does not get that far; one name's updates never have more than a zone's share of
//! the workers; and a client prefix has the allowance of a writer, not of an asker.

use crate::dnssec::tsig::{self, TsigError};
use crate::limits::UDP_PAYLOAD;
use crate::op::{self, Op, OpBody, OpKind, Rejection, SignedUpdate, key_name};
use crate::registry::{Fault, Snapshot, Stamp};
use crate::state::{NameEntry, Rules as _, View as _};
use crate::wire::update::{OPCODE_UPDATE, Sig0, Signature, Tsig, UpdateMessage};
use crate::wire::{
    EdeCode, HEADER, Name, OPT_EDE, QueryError, Rcode, Reply, Shape, Transport, clip_ede, push_opt_record,
    push_option, push_padding,
};

use super::pool::Task;
use super::{Begun, Client, Done, Engine, Gateway};

/// An UPDATE that somebody signed, about a zone of ours.
pub struct UpdateRequest {
    pub message: UpdateMessage,
    pub client: Client,
}

/// Why an update is not carried out: response code, words, and what the TSIG of the reply says.
struct Refusal {
    rcode: Rcode,
    ede: Option<(EdeCode, String)>,
    tsig: Option<TsigError>,
}

/// An update that may go to the writer.
struct Prepared {
    op: op::VerifiedOp,
}

/// What the reply is made of.
struct Reporter {
    request: UpdateRequest,
    /// The secret of the key that signed the request, once that is known to be good.
    secret: Option<tsig::Secret>,
    now: u64,
}

impl Refusal {
    fn new(rcode: Rcode, code: EdeCode, text: impl Into<String>) -> Self {
        Self { rcode, ede: Some((code, text.into())), tsig: None }
    }

    fn tsig(error: TsigError) -> Self {
        Self { tsig: Some(error), ..Self::new(Rcode::NotAuth, EdeCode::Prohibited, error.to_string()) }
    }
}

impl From<Rcode> for Refusal {
    fn from(rcode: Rcode) -> Self {
        Self { rcode, ede: None, tsig: None }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Rejection::Fault(fault.0).into()
    }
}

/// RFC 2136 §2.2 where it has a code; the sentence says the rest.
impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let (rcode, code) = match &rejection {
            Rejection::NameInUse(_) => (Rcode::YxDomain, EdeCode::Other),
            Rejection::NameNotInUse(_) => (Rcode::NxDomain, EdeCode::Other),
            Rejection::RrsetInUse { .. } => (Rcode::YxRrset, EdeCode::Other),
            Rejection::RrsetNotInUse { .. } => (Rcode::NxRrset, EdeCode::Other),
            Rejection::OutsideName { .. } => (Rcode::NotZone, EdeCode::Other),
            Rejection::UnknownName(_) => (Rcode::NotAuth, EdeCode::NotAuthoritative),
            Rejection::NotOwner(_) | Rejection::BadSignature | Rejection::BadSig0(_) | Rejection::UpdateExpired { .. } => {
                (Rcode::NotAuth, EdeCode::Prohibited)
            }
            Rejection::UnknownUpdateKey { .. } => return Self::tsig(TsigError::BadKey),
            Rejection::Busy | Rejection::Stopping => (Rcode::ServFail, EdeCode::NotReady),
            Rejection::Fault(_) => (Rcode::ServFail, EdeCode::Other),
            Rejection::BadRecord { .. } => (Rcode::Refused, EdeCode::InvalidData),
            _ => (Rcode::Refused, EdeCode::Prohibited),
        };
        if let Rejection::Fault(fault) = &rejection {
            tracing::error!(%fault, "an update met a fault");
        }
        Self::new(rcode, code, rejection.to_string())
    }
}

impl Gateway {
    /// Verifies an update on a worker's thread, has it written, and calls `done` exactly once: after the commit is
    /// durable, or as soon as it is known that nothing will be written.
    pub fn update(&self, request: UpdateRequest, done: Done) {
        let name = request.message.about();
        // A share of its own: updates that are no good must not keep questions about the name from being answered.
        let lane = Stamp::of(&name.child(b"_update").unwrap_or(name.clone()));
        let errand = move |engine: Option<&Engine>| match engine {
            Some(engine) => engine.update(request, done),
            None => Reporter { request, secret: None, now: 0 }.tell(Err(Rejection::Busy.into()), done),
        };
        let task = Task::Other(Name::root(), Box::new(errand));
        if let Err(Task::Other(_, errand)) = self.pool.submit(lane, task) {
            self.engine.metrics.misses_shed.add(1);
            errand(None);
        }
    }
}

impl Engine {
    /// What can be said of an UPDATE without a look into the registry.
    pub(super) fn begin_update(&self, message: &[u8], client: Client) -> Begun {
        let message = match UpdateMessage::parse(message) {
            Ok(message) => message,
            Err(QueryError::Reply(refused)) => return Begun::Ready(refused.reply()),
            Err(QueryError::Ignore) => return Begun::Ignore,
        };
        // DNS over HTTPS carries queries (RFC 8484 §1).
        if matches!(client.transport, Transport::Https | Transport::H3) {
            return Begun::Ready(message.refuse(Rcode::NotImp).reply());
        }
        let request = UpdateRequest { message, client };
        if request.message.signature.is_none() {
            let text = "an UPDATE is signed: with SIG(0) by the name's key, or with TSIG by an update key";
            let refusal = Refusal::new(Rcode::Refused, EdeCode::Prohibited, text);
            return Begun::Ready(Reporter { request, secret: None, now: (self.clock)() }.reply(Err(refusal)));
        }
        Begun::Update(request)
    }

    fn update(&self, request: UpdateRequest, done: Done) {
        let mut reporter = Reporter { request, secret: None, now: (self.clock)() };
        match self.prepare(&mut reporter) {
            Ok(Prepared { op }) => {
                let done = move |outcome: crate::writer::Outcome| {
                    reporter.tell(outcome.map(|_| ()).map_err(Refusal::from), done);
                };
                self.writer.submit(op, Box::new(done));
            }
            Err(refusal) => reporter.tell(Err(refusal), done),
        }
    }

    fn prepare(&self, reporter: &mut Reporter) -> Result<Prepared, Refusal> {
        let message = &reporter.request.message;
        let name = message.about();
        let snapshot = self.registry.snapshot()?;
        let entry = snapshot.name(&name)?.filter(|entry| entry.is_live(reporter.now));
        match (&message.signature, entry) {
            (Some(Signature::Tsig(tsig)), entry) => {
                let entry = entry.ok_or_else(|| Refusal::tsig(TsigError::BadKey))?;
                let secret = self.tsig_secret(tsig, &name, &snapshot, reporter.now)?;
                let verified = tsig::verify(message, tsig, &secret, reporter.now);
                if matches!(verified, Ok(()) | Err(TsigError::BadTime)) {
                    reporter.secret = Some(secret);
                }
                verified.map_err(Refusal::tsig)?;
                self.by_key(message, tsig, &entry, &snapshot, reporter.now)
            }
            (Some(Signature::Sig0(sig)), Some(entry)) => self.by_owner(message, sig, &entry, &snapshot, reporter.now),
            (Some(Signature::Sig0(_)), None) => Err(Rejection::UnknownName(name).into()),
            // Turned away before.
            (None, _) => Err(Rcode::Refused.into()),
        }
    }

    /// SIG(0) by the owner: everything that is cheap, then the signature.
    fn by_owner(
        &self,
        message: &UpdateMessage,
        sig: &Sig0,
        entry: &NameEntry,
        snapshot: &Snapshot,
        now: u64,
    ) -> Result<Prepared, Refusal> {
        let update = SignedUpdate::of(message.clone())?;
        let bytes = op::seal_update(entry.owner, message.octets());
        let key = entry.owner.key().ok_or(Rejection::BadSignature)?;
        op::check_sig0(&update, sig, &key, now)?;
        self.check_funds(&update, entry, OpKind::Update, bytes.len(), snapshot, now)?;
        Ok(Prepared { op: op::verify(&bytes, self.registry.id(), now)? })
    }

    /// The secret of the key that a request names.
    fn tsig_secret(&self, tsig: &Tsig, name: &Name, snapshot: &Snapshot, now: u64) -> Result<tsig::Secret, Refusal> {
        let unknown = || Refusal::tsig(TsigError::BadKey);
        let label = label_of(tsig).filter(|label| key_name(name, label).is_ok_and(|key| key == tsig.key));
        let updates = snapshot.updates(name)?;
        let key = updates.key(&label.ok_or_else(unknown)?, now).ok_or_else(unknown)?;
        Ok(self.update_key_secret(&tsig.key, key.issued))
    }

    /// An op by which this gateway vouches for a TSIG.
    fn by_key(
        &self,
        message: &UpdateMessage,
        tsig: &Tsig,
        entry: &NameEntry,
        snapshot: &Snapshot,
        now: u64,
    ) -> Result<Prepared, Refusal> {
        let update = SignedUpdate::of(message.clone())?;
        self.check_funds(&update, entry, OpKind::UpdateByKey, message.octets().len(), snapshot, now)?;
        let op = Op::UpdateByKey { label: label_of(tsig).unwrap_or_default(), update };
        let body = OpBody { registry: self.registry.id(), nonce: 0, expires: tsig::until(tsig), op };
        Ok(Prepared { op: op::verify(&op::sign(&self.sigil, &body), self.registry.id(), now)? })
    }

    /// Whoever cannot pay is told so before anything costly; what counts is still decided by `apply`.
    fn check_funds(
        &self,
        update: &SignedUpdate,
        entry: &NameEntry,
        kind: OpKind,
        bytes: usize,
        snapshot: &Snapshot,
        now: u64,
    ) -> Result<(), Refusal> {
        let price = self.tlds.price(update.name().parent().as_ref(), kind, bytes);
        Ok(snapshot.account(&entry.owner)?.pay(now, price).map(drop)?)
    }

    /// The secret of the update key `name` that op `seq` issued.
    pub fn update_key_secret(&self, name: &Name, seq: u64) -> tsig::Secret {
        tsig::secret(&self.update_secret, &self.registry.id().0, name, seq)
    }
}

/// The label of an update key, from its name.
fn label_of(tsig: &Tsig) -> Option<String> {
    tsig.key.first_label().and_then(|label| String::from_utf8(label.to_vec()).ok())
}

impl Reporter {
    fn tell(self, outcome: Result<(), Refusal>, done: Done) {
        done(self.reply(outcome));
    }

    /// Header, zone, OPT if there was one, TSIG if there was one (RFC 2136 §3.8).
    fn reply(self, outcome: Result<(), Refusal>) -> Reply {
        let Self { request: UpdateRequest { message, client }, secret, now } = self;
        let done = Refusal { rcode: Rcode::NoError, ede: None, tsig: None };
        let Refusal { rcode, ede, tsig: error } = outcome.err().unwrap_or(done);
        let mut wire = vec![0; HEADER];
        wire[..2].copy_from_slice(&message.id.to_be_bytes());
        wire[2] = 0x80 | OPCODE_UPDATE << 3;
        wire[3] = rcode as u8;
        wire[5] = 1;
        wire.extend_from_slice(message.zone_section());
        if message.edns.is_some() {
            let mut options = Vec::new();
            if let Some((code, text)) = ede {
                let text = clip_ede(text);
                push_option(&mut options, OPT_EDE, &[&(code as u16).to_be_bytes()[..], text.as_bytes()].concat());
            }
            if let Shape::Padded(block) = client.transport.shape() {
                push_padding(&mut options, wire.len() + 11, block);
            }
            push_opt_record(&mut wire, UDP_PAYLOAD, 0, false, &options);
        }
        if let Some(Signature::Tsig(tsig)) = &message.signature {
            // Until the key is known to be good, there is nothing to sign with.
            let error = error.or(secret.is_none().then_some(TsigError::BadKey));
            tsig::sign_reply(&mut wire, tsig, secret.as_ref(), error, now);
        }
        Reply { wire, ttl: 0, rcode }
    }
}
