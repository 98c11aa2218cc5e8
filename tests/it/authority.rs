//! The permit table: every action, by every door that it comes through, in every state of a name; and its documents.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ed25519_dalek::SigningKey;
use ghostplane::dnssec::ZoneKey;
use ghostplane::gateway::Tlds;
use ghostplane::limits::YEAR;
use ghostplane::node;
use ghostplane::op::{
    self, Action, AutoRenew, CodeHash, Consent, Draft, Identity, Member, Op, OpBody, Rejection, RrsetKey, Scope, SetId,
    SigilId, SignedUpdate, UpdateScope, VerifiedOp, key_name,
};
use ghostplane::state::guardians::{Cosign, Guard, GuardianSet, Pending, Recovery};
use ghostplane::state::life::{Commitment, Lock, NameLife, Offer, Phase, commitment};
use ghostplane::state::updates::{UpdateKey, Updates};
use ghostplane::state::{
    Account, ApplyError, At, MAX_LEVEL, Model, NameEntry, Party, Standing, apply, party, renewable,
};
use ghostplane::wire::{Name, Rrset, Rtype, rdata};

use crate::ops::REGISTRY;
use crate::updates::{ANY, Update};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;
const APEX: &str = "a.ghost";
const RECOVERY: SetId = SetId([1; 32]);
const COSIGNERS: SetId = SetId([2; 32]);
const SECRET: [u8; 32] = [7; 32];
const CODE: &[u8] = b"code";
/// Sequence of the offer.
const OFFER: u64 = 5;
const AT: At = At { seq: 100, time: NOW };

/// Signers of an op beside its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Op,
    /// An op that the co-signers have signed, too.
    Cosigned,
    Sig0,
    Tsig,
    /// By commit and reveal.
    Reveal,
}

/// How the name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// `None`: nobody has it.
    phase: Option<Phase>,
    frozen: bool,
    pending: bool,
    cosign: bool,
    locked: bool,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Unsigned,
    Delegated,
    Strict,
}

const PLAIN: State = State {
    phase: Some(Phase::Live),
    frozen: false,
    pending: false,
    cosign: false,
    locked: false,
    mode: Mode::Unsigned,
};

/// The columns of the table.
const COLUMNS: [(&str, State); 9] = [
    ("live", PLAIN),
    ("frozen", State { frozen: true, ..PLAIN }),
    ("being recovered", State { pending: true, ..PLAIN }),
    ("co-signature missing", State { cosign: true, ..PLAIN }),
    ("locked", State { locked: true, ..PLAIN }),
    ("strict", State { mode: Mode::Strict, ..PLAIN }),
    ("grace", State { phase: Some(Phase::Grace), ..PLAIN }),
    ("redemption", State { phase: Some(Phase::Redemption), ..PLAIN }),
    ("free", State { phase: Some(Phase::Free), ..PLAIN }),
];

fn states() -> Vec<State> {
    let phases = [Phase::Live, Phase::Grace, Phase::Redemption, Phase::Free].map(Some);
    let mut states = vec![State { phase: None, ..PLAIN }];
    for phase in phases {
        for bits in 0..16 {
            let [frozen, pending, cosign, locked] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            for mode in [Mode::Unsigned, Mode::Delegated, Mode::Strict] {
                states.push(State { phase, frozen, pending, cosign, locked, mode });
            }
        }
    }
    states
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn id(seed: u8) -> SigilId {
    SigilId::from(&key(seed).verifying_key())
}

/// Seeds of keys.
const OPERATOR: u8 = 1;
const OWNER: u8 = 2;
const HEIR: u8 = 3;
const GUARDIANS: [u8; 2] = [4, 5];
const CONSENTING: [u8; 2] = [6, 7];
const GATEWAY: u8 = 8;
const STRANGER: u8 = 9;

fn apex() -> Name {
    Name::from_user(APEX).unwrap()
}

fn rules() -> Tlds {
    Tlds::new(node::built_in_tlds().unwrap(), [], id(OPERATOR))
}

fn signed(rtype: Rtype, owner: &str, data: Vec<Vec<u8>>) -> Rrset {
    let mut rrset = Rrset::new(Name::from_user(owner).unwrap(), rtype, 60, data);
    rrset.rrsigs = vec![ZoneKey::of_sigil(&key(OWNER)).sign_until(&apex(), &rrset, NOW - 60, NOW + 10 * DAY).into()];
    rrset
}

fn text(rtype: Rtype, owner: &str, text: &str) -> Rrset {
    signed(rtype, owner, vec![rdata::from_text(rtype, text, None).unwrap()])
}

fn dnskeys(online: bool) -> Rrset {
    let own = ZoneKey::of_sigil(&key(OWNER)).dnskey().to_vec();
    let other = [&[1, 0], &own[2..]].concat();
    signed(Rtype::DNSKEY, APEX, if online { vec![own, other] } else { vec![own] })
}

/// What the standing of a name in a state is, told without a look at the code that finds it out.
fn standing(state: State, door: Door) -> Standing {
    let by_update = matches!(door, Door::Sig0 | Door::Tsig);
    if state.phase.is_none() {
        return Standing { by_update, ..Standing::default() };
    }
    let rule = Cosign { set: COSIGNERS, scopes: Scope::ALL.to_vec() };
    let lacking = Rejection::Threshold { set: COSIGNERS, have: 0, need: 2 };
    Standing {
        phase: state.phase,
        free_at: 0,
        frozen: state.frozen.then_some(NOW + DAY),
        pending: state.pending.then_some(NOW),
        lacking: (state.cosign && door != Door::Cosigned).then_some((rule, lacking)),
        locked: state.locked.then_some(None),
        strict: state.mode == Mode::Strict,
        by_update,
    }
}

/// The registry in which the name stands so.
fn model(action: Action, state: State) -> Model {
    let mut model = Model::default();
    let account = Account::default().granted(NOW - DAY, MAX_LEVEL, u64::MAX);
    model.accounts.extend((1..=STRANGER).map(|seed| (id(seed), account)));
    model.gas.gateways = vec![id(GATEWAY)];
    model.contracts.insert(CodeHash::of(CODE), CODE.to_vec());
    for (set, members) in [(RECOVERY, GUARDIANS), (COSIGNERS, CONSENTING)] {
        let mut members = members.map(|seed| Member { who: Identity::Sigil(id(seed)), weight: 1 }).to_vec();
        members.sort_by_key(|member| member.who);
        let row = GuardianSet { creator: id(OPERATOR), members, threshold: 2, parents: 0, account, changed: 1 };
        model.sets.insert(set, row);
    }
    let hash = commitment(&apex(), &id(HEIR), &SECRET);
    model.commitments.insert(id(HEIR), vec![Commitment { hash, made: NOW - 60 }]);
    let Some(phase) = state.phase else { return model };
    let expires = match phase {
        Phase::Live => NOW + 3_600,
        Phase::Grace => NOW - 1,
        Phase::Redemption => NOW - 2 * DAY,
        Phase::Free => NOW - 20 * DAY,
    };
    let recovery = Some(Recovery { set: RECOVERY, delay: DAY, start_from: 0, freeze_from: 0 });
    let pending = state.pending.then_some(Pending { to: id(HEIR), ready: NOW, lapses: NOW + DAY });
    let cosign = state.cosign.then(|| Cosign { set: COSIGNERS, scopes: Scope::ALL.to_vec() });
    let guard = Guard { cosign, recovery, pending, frozen_until: if state.frozen { NOW + DAY } else { 0 } };
    let mut rrsets = vec![text(Rtype::TXT, "w.a.ghost", "\"x\"")];
    match state.mode {
        Mode::Unsigned => {}
        Mode::Delegated => rrsets.push(dnskeys(true)),
        Mode::Strict => rrsets.extend([
            dnskeys(false),
            text(Rtype::SOA, APEX, "ns.a.ghost. h.a.ghost. 1 2 3 4 5"),
            text(Rtype::NSEC, APEX, "w.a.ghost. SOA RRSIG NSEC DNSKEY"),
        ]),
    }
    let entry = NameEntry {
        owner: id(OWNER),
        registered: NOW - YEAR,
        expires,
        contract: None,
        parameters: Vec::new(),
        changed: 9,
        rrsets: rrsets.len() as u32,
        guard: Some(Box::new(guard)),
        grace: DAY,
        redemption: 10 * DAY,
    };
    model.names.insert(apex(), entry);
    model.owned.insert((id(OWNER), apex().parent().unwrap()), 1);
    for rrset in rrsets {
        model.rrsets.entry(rrset.owner.clone()).or_default().insert(rrset.rtype, rrset);
    }
    let lock = (state.locked || action == Action::Unlock).then_some(Lock { delay: DAY, opens: None });
    // An offer of before: whatever has happened since, it still stands there.
    let offer = Offer { number: OFFER, to: id(HEIR), price: None, until: NOW + 60, cosigned: None };
    let auto = Some(AutoRenew { years: 1, most: None });
    model.name_lives.insert(apex(), NameLife { lock, offer: Some(offer), auto });
    let types = vec![Rtype::TXT, Rtype::A, Rtype::NS];
    let scopes = vec![UpdateScope { owner: apex(), below: true, types }];
    let key = UpdateKey { label: "k".into(), scopes, issued: 3, expires: NOW + YEAR, mana: None, used: None };
    model.updates.insert(apex(), Updates { keys: vec![key], seen: Vec::new() });
    model
}

/// The doors through which an action can come.
fn doors(action: Action) -> Vec<Door> {
    let mut doors = vec![Door::Op];
    if !matches!(action.consent(), Consent::Never) {
        doors.push(Door::Cosigned);
    }
    match action {
        Action::Records | Action::Delegation => doors.extend([Door::Sig0, Door::Tsig]),
        Action::Register => doors.push(Door::Reveal),
        _ => {}
    }
    doors
}

fn op_of(action: Action, door: Door, mode: Mode) -> Op {
    let name = apex();
    match action {
        Action::Register if door == Door::Reveal => Op::Reveal { name, years: 1, secret: SECRET },
        Action::Register => Op::Register { name, years: 1 },
        Action::Renew => Op::Renew { name, years: 1 },
        Action::Restore => Op::Restore { name, years: 1 },
        Action::AutoRenew => Op::RenewDue { names: vec![name] },
        Action::Plan => Op::SetAutoRenew { name, plan: None },
        Action::Records => Op::put(name, vec![text(Rtype::TXT, "w.a.ghost", "\"y\"")]),
        Action::ZoneKeys if mode == Mode::Unsigned => Op::put(name, vec![dnskeys(true)]),
        Action::ZoneKeys => {
            Op::DeleteRecords { keys: vec![RrsetKey { owner: name.clone(), rtype: Rtype::DNSKEY }], name }
        }
        Action::Delegation if mode == Mode::Unsigned => {
            let ns = text(Rtype::NS, APEX, "ns.b.ghost.");
            Op::put(name, vec![Rrset { rrsigs: Vec::new(), ..ns }])
        }
        Action::Delegation => Op::put(name, vec![text(Rtype::NS, APEX, "ns.b.ghost.")]),
        Action::Contract => Op::BindContract { name, contract: Some(CodeHash::of(CODE)), parameters: vec![] },
        Action::Unbind => Op::BindContract { name, contract: None, parameters: vec![] },
        Action::Covenants => Op::BindCovenants { name, covenants: vec![] },
        Action::IssueKey => {
            let scopes = vec![UpdateScope { owner: name.clone(), below: false, types: vec![Rtype::TXT] }];
            Op::IssueUpdateKey { name, label: "new".into(), scopes, expires: NOW + DAY, mana: None }
        }
        Action::RevokeKey => Op::RevokeUpdateKey { name, label: "k".into() },
        Action::Transfer => Op::Transfer { name, to: id(HEIR) },
        Action::Offer => Op::Offer { name, to: id(HEIR), price: None, until: NOW + 30 },
        Action::Accept => Op::Accept { name, offer: OFFER },
        Action::Withdraw => Op::Withdraw { name },
        Action::Release => Op::Release { name },
        Action::Lock => Op::Lock { name, delay: 60 },
        Action::Unlock => Op::Unlock { name },
        Action::Cosign => Op::RequireCosign { name, set: Some(RECOVERY), scopes: vec![] },
        Action::Recovery => Op::SetRecovery { name, set: Some(COSIGNERS), delay: 2 * DAY },
        Action::StartRecovery => Op::StartRecovery { name, to: id(HEIR) },
        Action::VetoRecovery => Op::VetoRecovery { name },
        Action::FinishRecovery => Op::FinishRecovery { name },
        Action::Freeze => Op::Freeze { name, until: Some(NOW + DAY) },
        Action::Unfreeze => Op::Freeze { name, until: None },
    }
}

/// The message of an UPDATE that does the action.
fn update_of(action: Action) -> Update {
    match action {
        Action::Delegation => Update::of(APEX).add(APEX, "NS", "ns.b.ghost."),
        _ => Update::of(APEX).edit("w.a.ghost", ANY, "TXT", 0, "").add("w.a.ghost", "A", "192.0.2.1"),
    }
}

fn author_of(action: Action) -> u8 {
    match party(action) {
        Party::Owner | Party::OwnerOrReceiver => OWNER,
        Party::Receiver => HEIR,
        Party::Guardians => GUARDIANS[0],
        Party::Gateway => GATEWAY,
        Party::Anyone if action == Action::Register => HEIR,
        Party::Anyone => STRANGER,
    }
}

fn verified(action: Action, door: Door, mode: Mode, author: u8) -> VerifiedOp {
    let stored = RrsetKey { owner: Name::from_user("w.a.ghost").unwrap(), rtype: Rtype::TXT };
    let op_of = |action, door, mode| match action {
        // What one puts is signed by the author: a stranger would be turned away for that.
        Action::Records | Action::ZoneKeys | Action::Delegation if author == STRANGER => {
            Op::DeleteRecords { name: apex(), keys: vec![stored.clone()] }
        }
        action => op_of(action, door, mode),
    };
    let body = |op| OpBody { registry: REGISTRY, nonce: 0, expires: NOW + 60, op };
    let shared = |op, signers: &[u8]| {
        let mut draft = Draft::new(Identity::Sigil(id(author)), body(op));
        [author].iter().chain(signers).for_each(|seed| draft.sign(&key(*seed)).unwrap());
        draft.to_bytes()
    };
    let bytes = match door {
        Door::Sig0 => op::seal_update(id(author), &update_of(action).signed(&key(author), APEX, NOW - 300, NOW + 300)),
        Door::Tsig => {
            let name = key_name(&apex(), "k").unwrap();
            let message = update_of(action).keyed(&name, &Default::default(), "hmac-sha256", NOW);
            let op =
                Op::UpdateByKey { label: "k".into(), update: SignedUpdate::read(&message).unwrap(), issued: Some(3) };
            op::sign(&key(author), &OpBody { expires: NOW + 300, ..body(op) })
        }
        Door::Cosigned => shared(op_of(action, door, mode), &CONSENTING),
        Door::Op | Door::Reveal if party(action) == Party::Guardians && author == GUARDIANS[0] => {
            shared(op_of(action, door, mode), &GUARDIANS[1..])
        }
        Door::Op | Door::Reveal => op::sign(&key(author), &body(op_of(action, door, mode))),
    };
    op::verify(&bytes, REGISTRY, NOW).unwrap_or_else(|rejection| panic!("{action} {door:?}: {rejection}"))
}

fn code_of(outcome: Result<(), ApplyError<std::convert::Infallible>>) -> Result<(), u16> {
    outcome.map_err(|error| match error {
        ApplyError::Rejected(rejection) => rejection.code(),
        ApplyError::Fault(never) => match never {},
    })
}

/// Whether DNS can say it at all: an UPDATE brings no RRSIG, and a signed zone's NS is signed.
fn can_be_said(action: Action, door: Door, state: State) -> bool {
    let by_update = matches!(door, Door::Sig0 | Door::Tsig);
    !(by_update && action == Action::Delegation && state.mode == Mode::Delegated)
}

#[test]
fn every_cell_of_the_table_holds_at_every_door() {
    let (rules, mut cells, mut allowed) = (rules(), 0, 0);
    for action in Action::ALL {
        for door in doors(action) {
            let author = if door == Door::Tsig { GATEWAY } else { author_of(action) };
            let ops: BTreeMap<bool, VerifiedOp> = [(false, Mode::Unsigned), (true, Mode::Strict)]
                .into_iter()
                .map(|(signed, mode)| (signed, verified(action, door, mode, author)))
                .collect();
            for state in states().into_iter().filter(|state| can_be_said(action, door, *state)) {
                let model = model(action, state);
                let op = &ops[&(state.mode != Mode::Unsigned)];
                let standing = standing(state, door);
                // Records are what keys and delegations are, too.
                let records = if [Action::ZoneKeys, Action::Delegation].contains(&action) {
                    standing.check(&apex(), Action::Records)
                } else {
                    Ok(())
                };
                let expected = records.and_then(|()| standing.check(&apex(), action)).map_err(|no| no.code());
                let mut found = code_of(apply(&model, &rules, AT, op).map(drop));
                if action == Action::AutoRenew && expected.is_err() {
                    // The op passes over what cannot be renewed.
                    assert_eq!(found, Err(321), "{state:?}");
                    found = code_of(renewable(&model, &rules, AT, &apex()));
                }
                assert_eq!(found, expected, "{action} by {door:?} of {state:?}");
                cells += 1;
                allowed += usize::from(found.is_ok());
            }
        }
    }
    assert!(cells > 8_000 && allowed > 500, "{cells} cells, {allowed} of them allowed");
}

#[test]
fn nobody_else_may() {
    let rules = rules();
    for action in Action::ALL {
        let state = [PLAIN, State { phase: Some(Phase::Redemption), ..PLAIN }, State { pending: true, ..PLAIN }]
            .into_iter()
            .chain([State { frozen: true, ..PLAIN }, State { phase: Some(Phase::Free), ..PLAIN }])
            .find(|state| standing(*state, Door::Op).check(&apex(), action).is_ok())
            .unwrap_or_else(|| panic!("{action} is never allowed"));
        let expected = match party(action) {
            Party::Anyone => Ok(()),
            Party::Owner | Party::OwnerOrReceiver => Err(305),
            Party::Receiver => Err(316),
            Party::Guardians => Err(612),
            Party::Gateway => Err(820),
        };
        let seed = if action == Action::Register { HEIR } else { STRANGER };
        let op = verified(action, Door::Op, state.mode, seed);
        // A stranger's records are signed by a stranger: the op is right in itself.
        let found = code_of(apply(&model(action, state), &rules, AT, &op).map(drop));
        assert_eq!(found, expected, "{action} by a stranger");
    }
    // By UPDATE: with another's SIG(0), and vouched for by one who is no gateway.
    for (door, expected) in [(Door::Sig0, 305), (Door::Tsig, 703)] {
        let op = verified(Action::Records, door, Mode::Unsigned, STRANGER);
        assert_eq!(code_of(apply(&model(Action::Records, PLAIN), &rules, AT, &op).map(drop)), Err(expected));
    }
}

/// One row for each action, one column for each state.
fn table() -> String {
    let mut text = String::from("| action | by |");
    COLUMNS.iter().for_each(|(title, _)| write!(text, " {title} |").unwrap());
    text.push_str("\n|---|---|");
    COLUMNS.iter().for_each(|_| text.push_str("---|"));
    text.push('\n');
    for action in Action::ALL {
        let by_update = [Action::Records, Action::Delegation].contains(&action);
        for door in [Some(Door::Op), by_update.then_some(Door::Sig0)].into_iter().flatten() {
            let by = match party(action) {
                Party::Anyone => "anyone",
                Party::Owner => "owner",
                Party::OwnerOrReceiver => "owner, receiver",
                Party::Receiver => "receiver",
                Party::Guardians => "recovery set",
                Party::Gateway => "gateway",
            };
            let update = if door == Door::Sig0 { " by UPDATE" } else { "" };
            write!(text, "| {action}{update} | {by} |").unwrap();
            for (_, state) in COLUMNS {
                let standing = standing(state, door);
                let records = if by_update { standing.check(&apex(), Action::Records) } else { Ok(()) };
                match records.and_then(|()| standing.check(&apex(), action)) {
                    Ok(()) => text.push_str(" yes |"),
                    Err(no) => write!(text, " {} |", no.code()).unwrap(),
                }
            }
            text.push('\n');
        }
    }
    text
}

/// `GHOSTPLANE_UPDATE=1` writes it anew.
#[test]
fn the_documented_table_is_the_codes() {
    const BEGIN: &str = "<!-- the table begins -->\n";
    const END: &str = "<!-- the table ends -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/internals/authority.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("a table");
    let (kept, after) = rest.split_once(END).expect("its end");
    if std::env::var_os("GHOSTPLANE_UPDATE").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        return;
    }
    assert_eq!(kept, table(), "GHOSTPLANE_UPDATE=1 writes the table anew");
}
