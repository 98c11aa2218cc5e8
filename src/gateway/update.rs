//! DNS UPDATE on its way to the writer.
//!
//! ```text
//! begin   UpdateMessage::parse, is the zone ours, is it signed            on the socket's thread
//! pool    name, key, time, mana -> signature -> VerifiedOp -> writer      what is cheap before what is not
//! writer  prerequisites and edits, durable commit -> reply
//! ```
//! Verification is what a flood would make us do (CVE-2024-1975): whoever is not the owner of a live name with mana to
//! spend, by the look of the message, does not get that far; nor does a client whose signatures were wrong too often
//! (over UDP: no client, until TCP proves whose address it is); one name's updates never have more than a zone's share
//! of the workers; and a client prefix has the allowance of a writer, not of an asker.

use crate::dnssec::tsig::{self, TsigError};
use crate::limits::{AMPLIFICATION, MAX_NAME, UDP_PAYLOAD};
use crate::op::{self, Op, OpBody, OpKind, Rejection, SignedUpdate, Unproven};
use crate::registry::{Fault, Snapshot, Stamp};
use crate::state::updates::Updates;
use crate::state::{NameEntry, Rules as _, View as _, Work};
use crate::wire::update::{OPCODE_UPDATE, Sig0, Signature, Tsig, UpdateMessage};
use crate::wire::{
    Answer, EdeCode, HEADER, Name, OPT_EDE, Query, QueryError, Rcode, Reply, Shape, Transport, clip_ede,
    push_opt_record, push_option, push_padding,
};
use crate::writer::{Admitted, Applicant};

use super::pool::Task;
use super::{Begun, Client, Done, Door, Engine, Gateway, Miss};

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
    /// TC: whoever is meant asks again over TCP.
    truncated: bool,
}

/// What a TSIG proves.
struct Checked {
    /// The key's secret, if the message is known to be by somebody who has it.
    secret: Option<tsig::Secret>,
    error: Option<TsigError>,
}

/// Octets of the record of a TSIG of ours, at most.
const MAX_TSIG: usize = MAX_NAME + 10 + 13 + 16 + 64 + 6;

/// What the reply is made of.
struct Reporter {
    request: UpdateRequest,
    /// The secret of the key that signed the request, once that is known to be good.
    secret: Option<tsig::Secret>,
    now: u64,
}

impl Refusal {
    fn new(rcode: Rcode, code: EdeCode, text: impl Into<String>) -> Self {
        Self { rcode, ede: Some((code, text.into())), tsig: None, truncated: false }
    }

    fn tsig(error: TsigError) -> Self {
        Self { tsig: Some(error), ..Self::new(Rcode::NotAuth, EdeCode::Prohibited, error.to_string()) }
    }
}

impl From<Rcode> for Refusal {
    fn from(rcode: Rcode) -> Self {
        Self { rcode, ede: None, tsig: None, truncated: false }
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
            Rejection::NotOwner(_)
            | Rejection::BadSignature
            | Rejection::BadSig0(_)
            | Rejection::UpdateExpired { .. } => (Rcode::NotAuth, EdeCode::Prohibited),
            Rejection::UnknownUpdateKey { .. } => return Self::tsig(TsigError::BadKey),
            Rejection::Fault(_) => (Rcode::ServFail, EdeCode::Other),
            rejection if rejection.is_ours() => (Rcode::ServFail, EdeCode::NotReady),
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
            Ok(op) => {
                let done = move |outcome: crate::writer::Outcome| {
                    reporter.tell(outcome.map(|_| ()).map_err(Refusal::from), done);
                };
                self.writer.submit_admitted(op, Box::new(done));
            }
            Err(refusal) => reporter.tell(Err(refusal), done),
        }
    }

    fn prepare(&self, reporter: &mut Reporter) -> Result<Admitted, Refusal> {
        let UpdateRequest { message, client } = &reporter.request;
        self.work.budget(*client).check().map_err(Rejection::from)?;
        let name = message.about();
        let snapshot = self.registry.snapshot()?;
        let entry = snapshot.name(&name)?.filter(|entry| entry.is_live(reporter.now));
        match (&message.signature, entry) {
            (Some(Signature::Tsig(tsig)), entry) => {
                let Checked { secret, error } =
                    self.check_tsig(tsig, &message.signed_octets(), &snapshot, reporter.now)?;
                reporter.secret = secret;
                let error = error.or((tsig.key.parent().as_ref() != Some(&name)).then_some(TsigError::BadKey));
                match (error, entry) {
                    (None, Some(entry)) => {
                        self.by_key(message, tsig, &entry, &self.door(&snapshot, *client, reporter.now))
                    }
                    (error, _) => Err(Refusal::tsig(error.unwrap_or(TsigError::BadKey))),
                }
            }
            (Some(Signature::Sig0(sig)), Some(entry)) => {
                self.by_owner(message, sig, &entry, &self.door(&snapshot, *client, reporter.now))
            }
            (Some(Signature::Sig0(_)), None) => Err(Rejection::UnknownName(name).into()),
            // Turned away before.
            (None, _) => Err(Rcode::Refused.into()),
        }
    }

    /// A query with a TSIG: nsupdate asks so for the zone, and wants the answer signed (RFC 8945 §5.3).
    pub(super) fn begin_signed(&self, message: &[u8], mut query: Query, client: Client) -> Begun {
        let Some(tsig) = query.tsig_at.and_then(|at| Tsig::of(message, usize::from(at))) else {
            return Begun::Ready(query.refuse(Rcode::FormErr).reply());
        };
        self.greet(&mut query, client);
        match self.begin(query.clone(), client) {
            // A hit, too: whose key it is takes a look into the registry.
            Begun::Ready(_) | Begun::Miss(_) if self.refusal(&query).is_none() => {
                Begun::Miss(Miss { tsig: Some(Box::new(tsig)), ..Miss::new(query, client) })
            }
            begun => begun,
        }
    }

    /// The answer to a query with a TSIG, signed with the same key.
    pub(super) fn signed_reply(&self, miss: &Miss, answer: &Answer, (tsig, signed): &(Tsig, Vec<u8>)) -> Reply {
        let (query, shape, now) = (&miss.query, miss.client.transport.shape(), (self.clock)());
        let checked = self.registry.snapshot().and_then(|snapshot| self.check_tsig(tsig, signed, &snapshot, now));
        let Ok(Checked { secret, error }) = checked else { return query.refuse(Rcode::ServFail).reply() };
        let mut reply = match error {
            None => miss.client.dress(answer, query, 0),
            Some(_) => query.refuse(Rcode::NotAuth).reply(),
        };
        // A key proves no address. The TSIG of the reply is about as long as that of the query, whose octets `signed` lacks.
        let most = if miss.client.shows_address(query) { usize::MAX } else { AMPLIFICATION * signed.len() };
        if shape == Shape::Datagram && (reply.wire.len() > most || reply.wire.len() + MAX_TSIG > query.udp_room()) {
            reply.wire.truncate(HEADER + query.question.len());
            reply.wire[6..12].fill(0);
            reply.wire[2] |= 0x02;
        }
        tsig::sign_reply(&mut reply.wire, tsig, secret.as_ref(), error, now);
        // What is signed is not cut any more; and who has a key is no stranger.
        (reply.opt_at, reply.proven) = (None, error.is_none());
        reply
    }

    /// Whether a TSIG is by a key that is in force, and good.
    fn check_tsig(&self, tsig: &Tsig, signed: &[u8], snapshot: &Snapshot, now: u64) -> Result<Checked, Fault> {
        const UNKNOWN: Checked = Checked { secret: None, error: Some(TsigError::BadKey) };
        let (Some(name), Some(label)) = (tsig.key.parent(), label_of(tsig)) else { return Ok(UNKNOWN) };
        let live = snapshot.name(&name)?.is_some_and(|entry| entry.is_live(now));
        let updates = if live { snapshot.updates(&name)? } else { Updates::default() };
        let Some(key) = updates.key(&label, now) else { return Ok(UNKNOWN) };
        let secret = self.update_key_secret(&tsig.key, key.issued);
        let error = tsig::verify(signed, tsig, &secret, now).err();
        // Who has the key and a wrong clock is told so under the key.
        let secret = matches!(error, None | Some(TsigError::BadTime)).then_some(secret);
        Ok(Checked { secret, error })
    }

    /// SIG(0) by the owner: everything that is cheap, then the signature.
    fn by_owner(
        &self,
        message: &UpdateMessage,
        sig: &Sig0,
        entry: &NameEntry,
        door: &Door<'_>,
    ) -> Result<Admitted, Refusal> {
        let update = SignedUpdate::of(message.clone())?;
        let key = entry.owner.key().ok_or(Rejection::BadSignature)?;
        op::check_sig0(&update, sig, &key, door.now)?;
        if let Err(rejection) = self.gate.listen(door, entry.owner.into()) {
            let refusal = Refusal::from(rejection);
            return Err(Refusal { truncated: door.client.is_none(), ..refusal });
        }
        let _stint = door.budget().stint();
        let bytes = op::seal_update(entry.owner, message.octets());
        let candidate = self.admit(door, Unproven::open(&bytes, door.registry, door.now)?)?;
        Ok(self.verify(door, candidate)?)
    }

    /// An op by which this gateway vouches for a TSIG. The owner pays for it.
    fn by_key(
        &self,
        message: &UpdateMessage,
        tsig: &Tsig,
        entry: &NameEntry,
        door: &Door<'_>,
    ) -> Result<Admitted, Refusal> {
        let update = SignedUpdate::of(message.clone())?;
        let (work, until) = (Work { bytes: message.octets().len(), rrsigs: 0 }, tsig::until(tsig));
        let base = self.tlds.price(update.name().parent().as_ref(), OpKind::UpdateByKey, work);
        // The records that it stores may cost more.
        let price = door.snapshot.load()?.at(door.now).price(base);
        let pass = self.writer.intake().enter(&Applicant {
            author: entry.owner.into(),
            account: &door.snapshot.account(&entry.owner)?,
            nonce: None,
            client: door.client,
            price: Some(price),
            // The holder of a key must not run its owner into debt.
            dear: 0,
            budget: door.budget(),
            now: door.now,
        })?;
        let (label, row) = (label_of(tsig).unwrap_or_default(), door.snapshot.updates(update.name())?);
        let issued = row.key(&label, door.now).map(|key| key.issued);
        // Before this gateway signs anything: a key without budget or room is told so.
        row.check_new(&update, until, door.now)?;
        row.noting(update.name(), (&update, until), Some((&label, price)), door.now)?;
        let _stint = door.budget().stint();
        let op = Op::UpdateByKey { label, update, issued };
        let body = OpBody { registry: door.registry, nonce: 0, expires: until, op };
        let op = op::verify(&op::sign(&self.sigil, &body), door.registry, door.now)?;
        self.make_ready(door.snapshot, op.op())?;
        Ok(Admitted { op, pass })
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
        let refusal = outcome.err().unwrap_or_else(|| Rcode::NoError.into());
        let Refusal { rcode, ede, tsig: error, truncated } = refusal;
        let mut wire = vec![0; HEADER];
        wire[..2].copy_from_slice(&message.id.to_be_bytes());
        wire[2] = 0x80 | OPCODE_UPDATE << 3 | if truncated { 0x02 } else { 0 };
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
        // Who may write is no stranger.
        Reply { proven: rcode == Rcode::NoError, ..Reply::new(wire, rcode) }
    }
}
