//! Sequences of ops made from octets: one generator for the property tests (tests/it) and the fuzzer
//! (tests/fuzz). A small world, so that names collide, leases run out and rules are broken.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use ghostplane::dnssec::{self, PublicKey};
use ghostplane::gateway::Tlds;
use ghostplane::limits::{
    MAX_COMMITMENTS, MAX_FREEZE, MAX_RECOVERY_DELAY, MAX_SEEN_BY_KEY, MAX_SEEN_UPDATES, MAX_TERM_YEARS,
    MAX_UPDATE_KEYS, RECOVERY_WINDOW, YEAR,
};
use ghostplane::node;
use ghostplane::op::{
    self, AutoRenew, CodeHash, Covenant, Draft, GasPolicy, GasUse, Identity, LoadPolicy, Member, Op, OpBody, OpKind,
    Price, RegistryId, Rejection, RrsetKey, Scope, SetId, SigilId, Symbol, UpdateScope, VerifiedOp,
};
use ghostplane::state::guardians::{Guard, account_of, check_members, set_satisfied};
use ghostplane::state::life::{NameLife, Phase, commitment};
use ghostplane::state::updates::UpdateKey;
use ghostplane::state::{
    Account, ApplyError, At, Change, Effects, LEVELS, MAX_LEVEL, MICRO, Model, NameEntry, Party, Rules, View, Work,
    apply, party,
};
use ghostplane::wire::{Name, Rrset, Rtype, rdata};
use ghostplane::zone::policy::Policy;

use crate::updates::{ANY, NONE, Update};

pub const REGISTRY: RegistryId = RegistryId([3; 32]);
const START: u64 = 1_800_000_000;
const NAMES: [&str; 6] = ["a.ghost", "b.ghost", "a.sig", "ns.ghost", "ghost", "x.a.ghost"];
const OWNERS: [&str; 7] = ["a.ghost", "w.a.ghost", "*.a.ghost", "x.w.a.ghost", "b.ghost", "a.sig", "\\000.a.ghost"];
/// More than a KiB of text: what the store gives back is counted by whole ones.
const LONG: &str = "long";
const DATA: [(&str, &str); 14] = [
    ("A", "192.0.2.1"),
    ("A", "192.0.2.2"),
    ("TXT", "\"x\""),
    ("TXT", LONG),
    ("CNAME", "b.ghost."),
    ("DNAME", "b.ghost."),
    ("NS", "ns.b.ghost."),
    ("DS", "1 15 2 0000000000000000000000000000000000000000000000000000000000000000"),
    ("MX", "10 mx.a.ghost."),
    ("TYPE65280", "\\# 2 abcd"),
    ("SOA", "ns.a.ghost. h.a.ghost. 1 2 3 4 5"),
    ("NSEC", "b.ghost. A RRSIG NSEC"),
    ("DNSKEY", STRICT),
    ("DNSKEY", DELEGATED),
];
/// Stand for the author's key, alone and with another one.
const STRICT: &str = "strict";
const DELEGATED: &str = "delegated";
const TOKENS: [&str; 12] = ["GCC", "GCC", "SPRT", "ZMAN", "COIN", "GOLD", "T1", "T2", "T3", "T4", "T5", "T6"];
const LABELS: [&str; 3] = ["k", "l", "NO"];
/// A TLD where everything is asked for that a policy can ask for.
const SIG: &str = "tld = \"sig\"\ncontract = \"sig\"\n[labels.premium]\na = \"GCC 0.000000009\"\n[registration]\n\
    commit = true\ntransfer = \"accept\"\nmax_years = 3\ngrace_days = 30\nredemption_days = 30\n[fees]\n\
    renew = \"GCC 0.000000005\"\nrestore = \"GCC 0.00000002\"\ntransfer = \"GCC 0.000000001\"\n[prices]\nregister = 100\n\
    renew = 50\ntransfer = 20\nrelease = 5\nput_records = 5\ndelete_records = 2\ndeploy = 200\nbind = 10\nper_kib = 1\n";
const GHOST: &str = include_str!("../../zones/ghost.toml");
/// Seconds that pass between two ops; a year, too, now and then.
const STEPS: [u64; 16] =
    [0, 0, 0, 1, 1, 60, 60, 3_600, 3_600, 3_600, 3_600, 3_600, 86_400, 86_400, 3 * 86_400, 20 * 86_400];

/// Kinds that sets write, or agree to.
const GUARDIANS: [OpKind; 7] = [
    OpKind::PutSet,
    OpKind::Attest,
    OpKind::RequireCosign,
    OpKind::SetRecovery,
    OpKind::StartRecovery,
    OpKind::FinishRecovery,
    OpKind::Freeze,
];

/// Octets that decide; when they run out, every decision is the first one.
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// Mostly false.
    fn seldom(&mut self) -> bool {
        self.byte() % 16 == 15
    }
}

/// The people, the rules and the clock of one sequence.
pub struct Script {
    keys: Vec<SigningKey>,
    pub rules: Tlds,
    pub model: Model,
    pub time: u64,
    pub seq: u64,
    /// Micro-mana that each stored RRset cost for its octets.
    paid: BTreeMap<(Name, Rtype), u64>,
    refunded: bool,
}

fn rules(per_kib: u64, operator: SigilId) -> Tlds {
    let mut tlds = node::built_in_tlds().expect("built-in TLDs");
    for tld in tlds.iter_mut().filter(|tld| ["sig", "ghost"].contains(&tld.policy.tld.as_str())) {
        let text = if tld.policy.tld == "sig" { SIG.to_owned() } else { GHOST.to_owned() };
        let text = text.replace("per_kib = 1\n", &format!("per_kib = {per_kib}\n"));
        tld.policy = Policy::from_toml(&text).expect("a policy");
    }
    Tlds::new(tlds, [], operator)
}

/// RDATA in full.
fn whole(text: &str) -> String {
    if text == LONG { format!("\"{}\"", "l".repeat(250)).repeat(6).replace("\"\"", "\" \"") } else { text.to_owned() }
}

fn name(text: &str) -> Name {
    Name::from_user(text).expect("a name of the table")
}

/// Rows of a name that take authority to change.
fn rows_of(model: &Model, name: &Name) -> impl PartialEq {
    let Ok(rrsets) = model.rrsets_below(name);
    let entry = model.names.get(name).map(|entry| NameEntry { changed: 0, ..entry.clone() });
    let keys = model.updates.get(name).map(|row| row.keys.clone());
    (entry, rrsets, keys, model.name_lives.get(name).cloned(), model.covenants.get(name).cloned())
}

fn id(key: &SigningKey) -> SigilId {
    SigilId::from(&key.verifying_key())
}

impl Script {
    /// Nobody but the operator, whose budget is full.
    pub fn new() -> Self {
        let keys: Vec<SigningKey> = (1..=4).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
        let rules = rules(1, id(&keys[0]));
        let mut model = Model::default();
        model.accounts.insert(id(&keys[0]), Account::default().granted(START, MAX_LEVEL, u64::MAX));
        Self { keys, rules, model, time: START, seq: 0, paid: BTreeMap::new(), refunded: false }
    }

    /// From now on a KiB costs so much.
    pub fn price(&mut self, per_kib: u64) {
        self.rules = rules(per_kib, id(&self.keys[0]));
    }

    /// Whether the last op gave mana back.
    pub fn gave_back(&self) -> bool {
        self.refunded
    }

    /// Makes, signs and verifies the next op; `None` if verification already refuses it.
    pub fn next(&mut self, source: &mut Source<'_>) -> Option<VerifiedOp> {
        let pending = self.pending();
        // A recovery waits for days, not for years.
        let later = self.later(source);
        self.time = if pending.is_some() { later.min(self.time + 86_400) } else { later };
        let pending_here = pending.is_some();
        let about = self.about(source, pending);
        let author = self.author(source, &about).clone();
        match source.byte() % 8 {
            6 => return self.update(source, &author, &about),
            7 => return self.update_by_key(source, &about),
            _ => {}
        }
        let op = match pending_here {
            // What guardians have begun, they mostly go on with.
            true if source.byte() % 2 == 1 => self.guardian_op(source, &author, about),
            _ => self.op(source, &author, about),
        };
        if GUARDIANS.contains(&op.kind()) || source.seldom() {
            return self.shared(source, &author, op);
        }
        let author = match &op {
            Op::RenewDue { .. } | Op::SettleGas { .. } if self.seq.is_multiple_of(2) => {
                self.gateway().cloned().unwrap_or(author)
            }
            _ => author,
        };
        let next = self.model.accounts.get(&id(&author)).copied().unwrap_or_default().next_nonce;
        let nonce = if source.seldom() { u64::from(source.byte()) } else { next };
        let body = OpBody { registry: REGISTRY, nonce, expires: self.time + 60, op };
        op::verify(&op::sign(&author, &body), REGISTRY, self.time).ok()
    }

    /// As [`Script::next`], of those ops that store or free records, by owners who can pay.
    pub fn next_of_records(&mut self, source: &mut Source<'_>) -> Option<VerifiedOp> {
        self.time += source.pick(&STEPS[..8]);
        let about = name(source.pick(&["a.ghost", "b.ghost"]));
        let owner = self.model.names.get(&about).map(|entry| entry.owner);
        let author = self.keys.iter().find(|key| Some(id(key)) == owner).unwrap_or(&self.keys[1]).clone();
        if self.model.accounts.get(&id(&author)).is_none_or(|account| account.mana(self.time) < 1_000) {
            let grant = Op::GrantMana { to: id(&author), level: 3, amount: 20_000 };
            return self.signed(&self.keys[0].clone(), grant);
        }
        let op = match source.byte() % 16 {
            _ if owner.is_none() => Op::Register { name: about, years: 1 },
            0 => Op::Release { name: about },
            1 => Op::Transfer { name: about, to: id(&self.keys[usize::from(source.byte()) % self.keys.len()]) },
            2..=4 => return self.update(source, &author, &about),
            5..=9 => {
                let count = 1 + usize::from(source.byte() % 3);
                Op::DeleteRecords { keys: (0..count).map(|_| self.key(source, &about)).collect(), name: about }
            }
            _ => {
                let count = 1 + usize::from(source.byte() % 3);
                Op::put(about.clone(), (0..count).map(|_| self.rrset(source, &author, &about)).collect())
            }
        };
        self.signed(&author, op)
    }

    fn signed(&self, author: &SigningKey, op: Op) -> Option<VerifiedOp> {
        let nonce = self.model.accounts.get(&id(author)).copied().unwrap_or_default().next_nonce;
        let body = OpBody { registry: REGISTRY, nonce, expires: self.time + 60, op };
        op::verify(&op::sign(author, &body), REGISTRY, self.time).ok()
    }

    fn update(&self, source: &mut Source<'_>, author: &SigningKey, about: &Name) -> Option<VerifiedOp> {
        let from = self.time - u64::from(source.byte() % 4);
        let message = self.changes(source, about, &DATA).signed(author, &about.to_string(), from, from + 300);
        op::verify(&op::seal_update(id(author), &message), REGISTRY, self.time).ok()
    }

    /// A gateway vouches; whoever applies an op does not know the secret.
    fn update_by_key(&self, source: &mut Source<'_>, about: &Name) -> Option<VerifiedOp> {
        // Where there are keys, or most would be unknown.
        let keyed = self.model.updates.iter().find(|(_, row)| !row.keys.is_empty());
        let about = keyed.map_or(about, |(name, _)| name);
        let label = self.label(source, about);
        let gateway = self.gateway().filter(|_| !source.seldom()).unwrap_or(&self.keys[0]);
        let secret = Default::default();
        let key = op::key_name(about, &label).ok()?;
        let message = self.changes(source, about, &DATA[..4]).keyed(&key, &secret, "hmac-sha256", self.time);
        let keys = self.model.updates.get(about).map(|row| &row.keys[..]).unwrap_or_default();
        let issued = keys.iter().find(|key| key.label == label).map(|key| key.issued + u64::from(source.seldom()));
        let op = Op::UpdateByKey { label, update: op::SignedUpdate::read(&message).ok()?, issued };
        let body = OpBody { registry: REGISTRY, nonce: 0, expires: self.time + 300, op };
        op::verify(&op::sign(gateway, &body), REGISTRY, self.time).ok()
    }

    /// Mostly that of a key of the name.
    fn label(&self, source: &mut Source<'_>, about: &Name) -> String {
        let any = source.pick(&LABELS).to_owned();
        let keys = self.model.updates.get(about).map(|row| &row.keys[..]).unwrap_or_default();
        keys.first().filter(|_| !source.seldom()).map_or(any, |key| key.label.clone())
    }

    /// Prerequisites and edits, mostly about the name.
    fn changes(&self, source: &mut Source<'_>, about: &Name, data: &[(&str, &str)]) -> Update {
        let mut update = Update::of(&about.to_string()).id(u16::from(source.byte() % 4));
        for _ in 0..source.byte() % 2 {
            let (class, owner) = (source.pick(&[ANY, NONE]), self.owner(source, about).to_string());
            let rtype = if source.seldom() { "ANY" } else { source.pick(&DATA).0 };
            update = update.require(&owner, class, rtype, "");
        }
        for _ in 0..source.byte() % 4 {
            let ((rtype, text), owner) = (source.pick(data), self.owner(source, about).to_string());
            let text = if [STRICT, DELEGATED].contains(&text) { "257 3 15 AAAA".to_owned() } else { whole(text) };
            let text = text.as_str();
            update = match source.byte() % 9 {
                8 => update.add_mail(&owner, 100),
                0 => update.edit(&owner, ANY, "ANY", 0, ""),
                1 => update.edit(&owner, ANY, rtype, 0, ""),
                2 => update.edit(&owner, NONE, rtype, 0, text),
                _ => update.add(&owner, rtype, text),
            };
        }
        update
    }

    /// The op with more signatures, or as a set's.
    fn shared(&self, source: &mut Source<'_>, author: &SigningKey, op: Op) -> Option<VerifiedOp> {
        let (sets, way) = (self.sets(), source.byte());
        let identity = match way % 4 {
            0 => Identity::Set(sets[usize::from(way / 4) % sets.len()]),
            _ => Identity::Sigil(id(author)),
        };
        let Ok(account) = account_of(&self.model, &identity);
        let nonce = if source.seldom() { 0 } else { account.unwrap_or_default().next_nonce };
        let body = OpBody { registry: REGISTRY, nonce, expires: self.time + 60, op };
        let mut draft = Draft::new(identity, body);
        let who = source.byte() | source.byte();
        let signers = self.keys.iter().enumerate().filter(|(at, _)| who >> at & 1 == 1).map(|(_, key)| key);
        let own = (!source.seldom() && identity.sigil().is_some()).then_some(author);
        for key in signers.chain(own) {
            draft.sign(key).expect("room for all keys");
        }
        op::verify(&draft.to_bytes(), REGISTRY, self.time).ok()
    }

    /// At least one; the last of them may not exist.
    fn sets(&self) -> Vec<SetId> {
        self.model.sets.keys().copied().take(7).chain([SetId([7; 32])]).collect()
    }

    fn guardian_op(&self, source: &mut Source<'_>, author: &SigningKey, name: Name) -> Op {
        let sets = self.sets();
        let set = |source: &mut Source<'_>| sets[usize::from(source.byte()) % sets.len()];
        let some = |source: &mut Source<'_>| (!source.seldom()).then(|| set(source));
        let identity = |source: &mut Source<'_>| match source.byte() % 3 {
            0 => Identity::Set(set(source)),
            _ => Identity::Sigil(self.anyone(source)),
        };
        let pending = self.model.names.get(&name).is_some_and(|entry| entry.guard().pending.is_some());
        match source.byte() % 8 {
            0 if pending => return Op::VetoRecovery { name },
            1..=5 if pending => return Op::FinishRecovery { name },
            _ => {}
        }
        let days = |source: &mut Source<'_>| 86_400 * u64::from(source.byte() % 3);
        // Not only the author's own.
        let mut held = self.model.names.iter().filter(|(_, entry)| entry.guard().recovery.is_some());
        let recoverable =
            held.next().filter(|_| !source.seldom()).map_or_else(|| name.clone(), |(name, _)| name.clone());
        match source.byte() % 24 {
            0 => {
                let mut members: Vec<Member> = (0..source.byte() % 4)
                    .map(|_| Member { who: identity(source), weight: u16::from(source.byte() % 3) + 1 })
                    .collect();
                if !source.seldom() {
                    members.sort_by_key(|member| member.who);
                    members.dedup_by_key(|member| member.who);
                }
                let changed = if self.model.sets.len() > 6 || source.byte() % 4 == 3 { some(source) } else { None };
                Op::PutSet { set: changed, members, threshold: u32::from(source.byte() % 4) }
            }
            2 => Op::SetAttestor {
                who: identity(source),
                max_level: source.byte() % 7,
                quota: u64::from(source.byte()) * 200,
            },
            3..=5 => {
                let until = self.time + days(source) * 300 + u64::from(source.byte()) * 400;
                Op::Attest { to: identity(source), level: source.byte() % 4, until }
            }
            1 | 6 | 18 => {
                let at = usize::from(source.byte()) % 2;
                let has_level = |to: &Identity| {
                    let Ok(account) = account_of(&self.model, to);
                    account.is_some_and(|account| account.at(self.time).level > 0)
                };
                let live: Vec<Identity> = self.model.attestations.iter().map(|(_, to)| *to).filter(has_level).collect();
                let attested = live.iter().find(|to| **to == id(author)).or(live.get(at)).copied();
                Op::RevokeAttestation { of: attested.unwrap_or_else(|| identity(source)) }
            }
            7 | 8 => {
                let mut scopes: Vec<Scope> = Scope::ALL.into_iter().filter(|_| source.byte() % 2 == 1).collect();
                let set = if source.byte() % 3 == 2 { None } else { some(source) };
                if set.is_none() && !source.seldom() {
                    scopes.clear();
                }
                Op::RequireCosign { name, set, scopes }
            }
            9 | 10 => Op::SetRecovery { name, set: some(source), delay: days(source) },
            11..=14 => Op::StartRecovery { name: recoverable, to: self.anyone(source) },
            15 => Op::VetoRecovery { name },
            16 | 17 => Op::FinishRecovery { name },
            _ => Op::Freeze {
                name: recoverable,
                until: (!source.byte().is_multiple_of(3)).then_some(self.time + 10 * days(source)),
            },
        }
    }

    /// The first name that is being recovered.
    fn pending(&self) -> Option<Name> {
        let mut names = self.model.names.iter();
        names.find(|(_, entry)| entry.guard().pending_at(self.time).is_some()).map(|(name, _)| name.clone())
    }

    /// Mostly a little later; now and then a year, or when the next name expires or its grace ends.
    fn later(&self, source: &mut Source<'_>) -> u64 {
        let next = |time: fn(&NameEntry) -> u64| self.model.names.values().map(time).filter(|at| *at > self.time).min();
        let jump = match source.byte() % 64 {
            63 => Some(self.time + YEAR),
            61 | 62 => next(|entry| entry.expires),
            60 => next(NameEntry::grace_until),
            _ => None,
        };
        jump.unwrap_or_else(|| self.time + source.pick(&STEPS))
    }

    /// Often one whose guardians have something to do, or that somebody has.
    fn about(&self, source: &mut Source<'_>, pending: Option<Name>) -> Name {
        let named = name(source.pick(&NAMES));
        let way = source.byte();
        let at = usize::from(way / 8);
        let mut guarded = self.model.names.iter().filter(|(_, entry)| entry.guard.is_some()).map(|(name, _)| name);
        let held: Vec<&Name> =
            self.model.names.iter().filter(|(_, entry)| self.time < entry.free_at()).map(|(name, _)| name).collect();
        match way % 8 {
            0..=2 => pending.unwrap_or(named),
            3 => guarded.nth(at % 4).cloned().unwrap_or(named),
            4 | 5 => held.get(at % held.len().max(1)).map_or(named, |held| (*held).clone()),
            _ => named,
        }
    }

    fn gateway(&self) -> Option<&SigningKey> {
        self.keys.iter().find(|key| self.model.gas.gateways.contains(&id(key)))
    }

    /// Mostly the name's owner, or most ops would be rejected at the first rule.
    fn author(&self, source: &mut Source<'_>, about: &Name) -> &SigningKey {
        let owner = self.model.names.get(about).map(|entry| entry.owner);
        let owner = self.keys.iter().find(|key| Some(id(key)) == owner);
        let anyone = &self.keys[usize::from(source.byte()) % self.keys.len()];
        let offered = self.model.name_lives.get(about).and_then(|life| life.offer);
        let offered = self.keys.iter().find(|key| offered.is_some_and(|offer| id(key) == offer.to));
        match source.byte() % 4 {
            3 => anyone,
            1 | 2 => offered.or(owner).unwrap_or(anyone),
            _ => owner.unwrap_or(anyone),
        }
    }

    fn op(&self, source: &mut Source<'_>, author: &SigningKey, about: Name) -> Op {
        match source.byte() % 54 {
            44.. => self.guardian_op(source, author, about),
            26.. => self.life_op(source, author, about),
            16.. => self.ledger_op(source, author),
            0 | 1 => Op::Register { name: about, years: u32::from(source.byte() % 13) },
            2 => Op::Renew { name: about, years: u32::from(source.byte() % 13) },
            3 if source.byte() % 8 == 7 => Op::Transfer { name: about, to: SigilId([2; 32]) },
            3 => Op::Transfer { name: about, to: self.anyone(source) },
            4 if source.byte().is_multiple_of(4) => Op::Release { name: about },
            5..=8 => {
                let count = usize::from(source.byte() % 3) + usize::from(!source.seldom());
                Op::put(about.clone(), (0..count).map(|_| self.rrset(source, author, &about)).collect())
            }
            4 | 9 | 10 => {
                let count = source.byte() % 3;
                Op::DeleteRecords { keys: (0..count).map(|_| self.key(source, &about)).collect(), name: about }
            }
            11 => Op::DeployContract { wasm: vec![source.byte() % 4; usize::from(source.byte() % 3)] },
            12 => {
                let contract = (source.byte() % 2 == 1).then(|| CodeHash::of(&[source.byte() % 6]));
                Op::BindContract { name: about, contract, parameters: vec![7; usize::from(source.byte()) * 20] }
            }
            13 if source.byte() % 2 == 1 => Op::RevokeUpdateKey { label: self.label(source, &about), name: about },
            13 => {
                let types = DATA.iter().take(4).map(|(rtype, _)| rtype.parse().expect("a type of the table"));
                let scopes = vec![UpdateScope { owner: about.clone(), below: true, types: types.collect() }];
                let label = source.pick(&LABELS).to_owned();
                Op::IssueUpdateKey {
                    name: about,
                    label,
                    scopes,
                    expires: self.time + u64::from(source.byte()) * 100_000,
                    mana: [None, Some(6), Some(40), Some(100_000)][usize::from(source.byte()) % 4],
                }
            }
            _ => Op::GrantMana {
                to: self.anyone(source),
                level: source.byte() % 8,
                amount: u64::from(source.byte()) * 40,
            },
        }
    }

    fn ledger_op(&self, source: &mut Source<'_>, author: &SigningKey) -> Op {
        let token = source.pick(&TOKENS).parse().expect("a symbol of the table");
        let amount = u64::from(source.byte()) * if source.seldom() { u64::MAX / 300 } else { 7 };
        let someone = |source: &mut Source<'_>| (!source.seldom()).then(|| self.anyone(source));
        let memo = if source.seldom() { "m".repeat(129) } else { String::new() };
        match source.byte() % 18 {
            17 => Op::SetLoad {
                policy: LoadPolicy {
                    window: u64::from(source.byte() % 64) * 4,
                    target: 1 + u64::from(source.byte()) * 16,
                    highest: 900 + u64::from(source.byte()) * 8,
                },
            },
            16 => {
                let covenant = Covenant { code: CodeHash::of(&[source.byte() % 6]), parameters: vec![1] };
                let about = name(source.pick(&NAMES));
                Op::BindCovenants { name: about, covenants: vec![covenant; usize::from(source.byte() % 10)] }
            }
            0 => Op::CreateToken {
                token,
                decimals: source.byte() % 24,
                initial: amount,
                cap: amount.saturating_add(u64::from(source.byte())),
                transferable: !source.seldom(),
                mint: Some(id(author)),
                burn: someone(source),
            },
            1 => Op::SetAuthority { token, issuer: someone(source), mint: someone(source), burn: someone(source) },
            2..=4 => Op::Mint { token, to: self.anyone(source), amount },
            5 => Op::Burn { token, amount },
            6..=8 => Op::Pay { token, to: self.anyone(source), amount, memo },
            9 | 10 => {
                let until = self.time + u64::from(source.byte()) * 86_400 * 2;
                Op::Hold { token, to: self.anyone(source), amount, until, memo }
            }
            11 | 12 => {
                let holds: Vec<u64> = self.model.holds.keys().copied().collect();
                let hold = holds.get(usize::from(source.byte()) % holds.len().max(1)).copied().unwrap_or(1);
                Op::CloseHold { hold, amount: if source.seldom() { amount } else { amount % 8 } }
            }
            13 => Op::SetGas {
                policy: GasPolicy {
                    epoch: 1_000 * u64::from(1 + source.byte() % 8),
                    free: u64::from(source.byte()) * 100,
                    most: 1_000_000 * u64::from(source.byte() % 8),
                    target: 1 + u64::from(source.byte()),
                    lowest: 1 + u64::from(source.byte()),
                    highest: 100_000,
                },
                gateways: vec![self.anyone(source), id(author)],
            },
            _ => {
                let epoch = self.model.gas.epoch_of(self.time - u64::from(source.byte() % 6 == 5) * 50_000);
                let mut uses: Vec<GasUse> = NAMES[..4]
                    .iter()
                    .map(|text| GasUse { name: name(text), fuel: u64::from(source.byte()) * 5_000, executions: 1 })
                    .collect();
                if !source.seldom() {
                    uses.sort_by(|a, b| a.name.cmp(&b.name));
                }
                Op::SettleGas { epoch, uses }
            }
        }
    }

    fn life_op(&self, source: &mut Source<'_>, author: &SigningKey, about: Name) -> Op {
        let secret = [source.byte() % 2; 32];
        let years = u32::from(source.byte() % 5);
        let token = source.pick(&TOKENS).parse().expect("a symbol of the table");
        let price = (source.byte() % 4 == 3).then(|| Price { token, amount: u64::from(source.byte()) });
        let kind = source.byte();
        match self.apt(author, &about).filter(|_| !kind.is_multiple_of(4)).unwrap_or(kind / 4 % 16) {
            0 | 1 => Op::Commit { hash: commitment(&name(source.pick(&NAMES)), &id(author), &secret) },
            2..=4 => match self.promised(author).filter(|_| !source.seldom()) {
                Some((name, secret)) => Op::Reveal { name, years, secret },
                None => Op::Reveal { name: about, years, secret },
            },
            5 => Op::Restore { name: about, years },
            6 | 7 => {
                let most = price.map(|price| Price { token: Symbol::GCC, ..price });
                Op::SetAutoRenew { name: about, plan: (!source.seldom()).then_some(AutoRenew { years, most }) }
            }
            8 => {
                let mut names: Vec<Name> = NAMES[..4].iter().map(|text| name(text)).collect();
                if !source.seldom() {
                    names.sort();
                }
                Op::RenewDue { names }
            }
            // Where a transfer takes an acceptance.
            9..=11 if about == name("a.sig") && source.byte().is_multiple_of(4) => {
                Op::Transfer { name: about, to: self.anyone(source) }
            }
            9..=11 => {
                let until = self.time + u64::from(source.byte()) * 40_000;
                Op::Offer { name: about, to: self.anyone(source), price, until }
            }
            13 if !source.0.is_empty() && source.byte() % 4 == 3 => Op::Withdraw { name: about },
            12 | 13 => {
                let standing = self.model.name_lives.get(&about).and_then(|life| life.offer);
                let number = standing.map_or(1, |offer| offer.number);
                Op::Accept { name: about, offer: number + u64::from(source.seldom()) }
            }
            14 if kind % 8 < 4 => {
                Op::Lock { name: about, delay: source.pick(&[0, 0, 3_600, 7_200, 86_400, 31 * 86_400]) }
            }
            _ => Op::Unlock { name: about },
        }
    }

    /// A name that the author has committed to and could get, and the secret.
    fn promised(&self, author: &SigningKey) -> Option<(Name, [u8; 32])> {
        let open = self.model.commitments.get(&id(author))?;
        let free = |name: &Name| self.model.names.get(name).is_none_or(|entry| self.time >= entry.free_at());
        let pairs = NAMES.iter().flat_map(|text| [[0; 32], [1; 32]].map(|secret| (name(text), secret)));
        let promised = |name: &Name, secret: &[u8; 32]| {
            let hash = commitment(name, &id(author), secret);
            open.iter().any(|commitment| commitment.hash == hash && self.time - commitment.made <= 86_400)
        };
        pairs.into_iter().find(|(name, secret)| free(name) && name.label_count() == 2 && promised(name, secret))
    }

    /// What would be done next with a name by one who knows its state, as `life_op` numbers it.
    fn apt(&self, author: &SigningKey, about: &Name) -> Option<u8> {
        let Some(entry) = self.model.names.get(about).filter(|entry| self.time < entry.free_at()) else {
            return self.model.commitments.contains_key(&id(author)).then_some(2);
        };
        let life = self.model.name_lives.get(about);
        match entry.phase(self.time) {
            Phase::Redemption => Some(5),
            _ if life.is_some_and(|life| life.offered(self.time).is_some()) => Some(13),
            _ if self.time + 86_400 >= entry.expires && life.is_some_and(|life| life.auto.is_some()) => Some(8),
            _ => None,
        }
    }

    /// What is arranged is so for a name that somebody owns, and holds together.
    fn check_lives(&self) {
        for (name, life) in &self.model.name_lives {
            let entry = self.model.names.get(name).unwrap_or_else(|| panic!("{name} is nobody's, but {life:?}"));
            assert_ne!(*life, NameLife::default(), "{name}: an empty row");
            assert!(
                life.locked(self.time).is_none() || life.offered(self.time).is_none(),
                "{name}: locked and offered"
            );
            let offer_fits = |offer: ghostplane::state::life::Offer| {
                offer.to.key().is_some() && offer.to != entry.owner && offer.until <= entry.expires
            };
            assert!(life.offer.is_none_or(offer_fits), "{name}: {life:?}");
        }
        for (id, open) in &self.model.commitments {
            assert!(!open.is_empty() && open.len() <= MAX_COMMITMENTS, "{id}: {open:?}");
        }
    }

    /// Nobody loses a name that is locked, unless by recovery, or before it is free; what its owner arranged goes with the
    /// owner.
    fn check_hands(&self, before: &Model, op: &VerifiedOp) {
        for (name, was) in &before.names {
            let is = self.model.names.get(name);
            if is.is_some_and(|is| is.owner == was.owner && is.registered == was.registered) {
                continue;
            }
            let free = was.phase(self.time) == Phase::Free;
            let locked = before.name_lives.get(name).is_some_and(|life| life.locked(self.time).is_some());
            // Its own owner may still release it then, if it is not locked.
            let recovered = op.op().kind() == OpKind::FinishRecovery;
            assert!(!locked || recovered || free && op.op().name() == Some(name), "{name} was locked");
            let anew = matches!(op.op(), Op::Register { .. } | Op::Reveal { .. });
            assert!(!anew || free, "{name} was not free");
            assert!(!self.model.name_lives.contains_key(name), "{name}: its last owner's wishes stay");
        }
    }

    /// Of every token, what everybody holds is what there is; what is held is what holds set aside.
    fn check_ledger(&self) {
        for token in TOKENS.map(|text| text.parse::<Symbol>().expect("a symbol of the table")) {
            let rows = || self.model.balances.iter().filter(|((_, of), _)| *of == token);
            let held: u64 = rows().map(|(_, balance)| balance.held).sum();
            let all: u128 = rows().map(|(_, balance)| u128::from(balance.available) + u128::from(balance.held)).sum();
            let row = self.model.tokens.get(&token);
            assert_eq!(all, u128::from(row.map_or(0, |row| row.supply)), "{token}");
            assert!(row.is_none_or(|row| row.supply <= row.cap), "{token}");
            let holds = self.model.holds.values().filter(|hold| hold.token == token);
            assert_eq!(held, holds.map(|hold| hold.amount).sum::<u64>(), "{token}");
        }
        // Histories add up to what can be spent.
        for ((id, token), balance) in &self.model.balances {
            let lines = self.model.moves.iter().filter(|((of, ..), line)| of == id && line.token == *token);
            let sum: i128 = lines.map(|(_, line)| i128::from(line.gained) - i128::from(line.spent)).sum();
            assert_eq!(sum, i128::from(balance.available), "{id} {token}");
        }
        let load = self.model.load;
        assert!((1_000..=load.policy.highest).contains(&load.factor), "{load:?}");
        let (gas, policy) = (&self.model.gas, self.model.gas.policy);
        assert!((policy.lowest..=policy.highest).contains(&gas.price), "{gas:?}");
    }

    /// Covenants belong to what is there; whoever owns names is known to own that many.
    fn check_owners(&self) {
        for name in self.model.covenants.keys() {
            assert!(name.label_count() == 1 || self.model.names.contains_key(name), "{name}");
        }
        let mut owned: BTreeMap<(SigilId, Name), u32> = BTreeMap::new();
        for (name, entry) in &self.model.names {
            *owned.entry((entry.owner, name.suffix(1))).or_default() += 1;
        }
        assert_eq!(owned, self.model.owned);
    }

    /// Mostly one that exists.
    fn key(&self, source: &mut Source<'_>, about: &Name) -> RrsetKey {
        let Ok(stored) = self.model.rrsets_below(about);
        let key = |rrset: &Rrset| RrsetKey { owner: rrset.owner.clone(), rtype: rrset.rtype };
        let at = usize::from(source.byte());
        if stored.is_empty() || source.seldom() {
            let rtype = source.pick(&DATA).0.parse().expect("a type of the table");
            return RrsetKey { owner: name(source.pick(&OWNERS)), rtype };
        }
        key(&stored[at % stored.len()])
    }

    /// Mostly at or below the name.
    fn owner(&self, source: &mut Source<'_>, about: &Name) -> Name {
        let owner = name(source.pick(&OWNERS));
        if owner.is_at_or_below(about) || source.seldom() { owner } else { about.clone() }
    }

    fn anyone(&self, source: &mut Source<'_>) -> SigilId {
        // Not every 32 octets are a point of the curve.
        if source.seldom() {
            SigilId([source.byte() | 2; 32])
        } else {
            id(&self.keys[usize::from(source.byte()) % self.keys.len()])
        }
    }

    fn rrset(&self, source: &mut Source<'_>, author: &SigningKey, apex: &Name) -> Rrset {
        let (rtype, text) = source.pick(&DATA);
        let rtype: Rtype = rtype.parse().expect("a type of the table");
        let own = || dnssec::ZoneKey::of_sigil(author).dnskey().to_vec();
        let data = match text {
            STRICT => vec![own()],
            DELEGATED => vec![own(), [&[1, 0], &own()[2..]].concat()],
            text => vec![rdata::from_text(rtype, &whole(text), None).expect("RDATA of the table")],
        };
        let mut rrset = Rrset::new(self.owner(source, apex), rtype, u32::from(source.byte()) << 12, data);
        let parent_side = (rtype == Rtype::NS && (rrset.owner != *apex || source.byte() < 128))
            || (rtype == Rtype::DS && rrset.owner == *apex);
        if !parent_side && rrset.owner.is_at_or_below(apex) {
            let key = dnssec::ZoneKey::of_sigil(author);
            rrset.rrsigs = vec![key.sign_until(apex, &rrset, self.time - 60, self.time + 86_400).into()];
        }
        rrset
    }

    /// Applies an op to the model, checks what must hold, and commits what was accepted.
    pub fn apply(&mut self, op: &VerifiedOp) -> Result<Effects, Rejection> {
        let at = At { seq: self.seq + 1, time: self.time };
        let effects = match apply(&self.model, &self.rules, at, op) {
            Ok(effects) => effects,
            Err(ApplyError::Rejected(rejection)) => {
                assert!(rejection.code() >= 200, "an envelope's fault was found by apply: {rejection}");
                return Err(rejection);
            }
        };
        self.check_consent(op);
        let before = self.model.clone();
        self.model.commit(&effects.changes);
        self.seq = at.seq;
        self.check_nonces(&before, op);
        self.check_mana(&before, op, &effects);
        self.check_authority(&before, op);
        self.check_touched(&before, &effects);
        self.check_hands(&before, op);
        self.check_state();
        Ok(effects)
    }

    fn check_nonces(&self, before: &Model, op: &VerifiedOp) {
        let counts = !matches!(op.op(), Op::Update { .. } | Op::UpdateByKey { .. });
        for (id, account) in &self.model.accounts {
            let was = before.accounts.get(id).copied().unwrap_or_default().next_nonce;
            assert_eq!(account.next_nonce, was + u64::from(op.author() == *id && counts), "{id}");
        }
        for (id, set) in &self.model.sets {
            let was = before.sets.get(id).map_or(0, |set| set.account.next_nonce);
            assert_eq!(set.account.next_nonce, was + u64::from(op.author() == Identity::Set(*id)), "{id}");
        }
    }

    /// Mana comes from time and from those who may give it. What an op gives back, ops that stored those rows have cost.
    fn check_mana(&mut self, before: &Model, op: &VerifiedOp, effects: &Effects) {
        let gives = op.op().kind() == OpKind::GrantMana;
        let payer = match (op.op(), op.author()) {
            (Op::UpdateByKey { update, .. }, _) => Identity::Sigil(before.names[update.name()].owner),
            (_, author) => author,
        };
        for (id, account) in self.model.accounts.iter().filter(|_| !gives) {
            let was = before.accounts.get(id).copied().unwrap_or_default().mana(self.time);
            assert!(payer == *id || account.mana(self.time) <= was, "{id} has more mana by {:?}", op.op().kind());
        }
        for (id, set) in &self.model.sets {
            let was = before.sets.get(id).map_or(0, |set| set.account.mana(self.time));
            let is = set.account.mana(self.time);
            assert!(payer == Identity::Set(*id) || is <= was, "{id} has more mana by {:?}", op.op().kind());
        }
        let put = effects.changes.iter().filter_map(|change| match change {
            Change::PutRrset(rrset, _) => Some(rrset),
            _ => None,
        });
        let put = put.collect::<Vec<_>>();
        let (Ok(was), Ok(is)) = (account_of(before, &payer), account_of(&self.model, &payer));
        let micro = |account: Option<Account>| account.unwrap_or_default().micro(self.time);
        let (was, is) = (micro(was), micro(is));
        let stores = matches!(op.op(), Op::PutRecords { .. } | Op::Update { .. } | Op::UpdateByKey { .. });
        let stored = put.iter().filter(|_| stores).map(|rrset| rrset.stored_bytes()).sum();
        let bytes = op.bytes().len().max(stored);
        let base = self.rules.price(
            op.op().name().and_then(Name::parent).as_ref(),
            op.op().kind(),
            Work { bytes, rrsigs: op.op().rrsigs() },
        );
        let price = before.load.at(self.time).price(base).saturating_mul(MICRO);
        if gives {
            return;
        }
        let refund = is.saturating_add(price).saturating_sub(was);
        self.refunded = refund > 0;
        let dropped = effects.changes.iter().filter_map(|change| match change {
            Change::DropRrset(key) => self.paid.remove(&(key.owner.clone(), key.rtype)),
            _ => None,
        });
        let freed: u64 = dropped.sum();
        assert!(refund <= freed, "{refund} micro-mana comes back, {freed} were paid for what goes");
        for rrset in put.iter().filter(|_| stores) {
            let rate = self.rules.rate(&rrset.owner.suffix(1));
            let paid = rate * MICRO * rrset.bytes() as u64 / 1_024;
            self.paid.insert((rrset.owner.clone(), rrset.rtype), paid);
        }
        let rows = put.iter().filter(|_| stores).map(|rrset| self.paid[&(rrset.owner.clone(), rrset.rtype)]);
        assert!(rows.sum::<u64>() <= price, "rows were stored for less than they are worth");
    }

    /// Nobody but the party of an action changes what belongs to a name.
    fn check_authority(&self, before: &Model, op: &VerifiedOp) {
        let names: BTreeSet<&Name> = before.names.keys().chain(self.model.names.keys()).collect();
        for name in names {
            if rows_of(before, name) == rows_of(&self.model, name) {
                continue;
            }
            let actions = op.op().actions();
            assert!(!actions.is_empty(), "{name} changed by {:?}", op.op().kind());
            let about = op.op().name() == Some(name);
            let due = matches!(op.op(), Op::RenewDue { names } if names.contains(name));
            assert!(about || due, "{name} changed by an op about {:?}", op.op().name());
            let was = before.names.get(name);
            let owner = was.map(|entry| Identity::Sigil(entry.owner));
            for action in actions {
                let may = match party(action) {
                    Party::Anyone => true,
                    Party::Owner => owner == Some(op.author()) || matches!(op.op(), Op::UpdateByKey { .. }),
                    Party::Receiver | Party::OwnerOrReceiver => {
                        let offer = before.name_lives.get(name).and_then(|life| life.offered(self.time));
                        offer.is_some_and(|offer| op.author() == offer.to || owner == Some(op.author()))
                    }
                    Party::Guardians => was
                        .and_then(|entry| entry.guard().recovery)
                        .is_some_and(|recovery| set_satisfied(before, &recovery.set, &op.signers()) == Ok(true)),
                    Party::Gateway => before.gas.gateways.iter().any(|gateway| op.author() == *gateway),
                };
                assert!(may, "{action} of {name} by {}", op.author());
            }
        }
    }

    /// What is about to be accepted, guardians have agreed to.
    fn check_consent(&self, op: &VerifiedOp) {
        if let Identity::Set(set) = op.author() {
            assert_eq!(set_satisfied(&self.model, &set, &op.signers()), Ok(true), "{set}");
        }
        let entry = op.op().name().and_then(|name| self.model.names.get(name));
        let Some(entry) = entry.filter(|entry| op.author() == entry.owner && self.time < entry.free_at()) else {
            return;
        };
        let (guard, kind) = (entry.guard(), op.op().kind());
        let free = [OpKind::StartRecovery, OpKind::FinishRecovery, OpKind::Freeze, OpKind::VetoRecovery];
        if free.contains(&kind) || kind == OpKind::Withdraw {
            return;
        }
        let keeps = [OpKind::Renew, OpKind::Restore].contains(&kind);
        assert!(!guard.is_frozen(self.time) || keeps, "{kind:?} of a frozen name");
        let covered = |cosign: &ghostplane::state::guardians::Cosign| {
            op.op().actions().iter().any(|action| cosign.covers(*action))
        };
        if let Some(cosign) = guard.cosign.filter(covered) {
            assert_eq!(set_satisfied(&self.model, &cosign.set, &op.signers()), Ok(true), "{kind:?}");
        }
    }

    fn check_sets(&self) {
        let sets = &self.model.sets;
        for (id, set) in sets {
            assert_eq!(check_members(&set.members, set.threshold), Ok(()), "{id}");
            let parents = sets.values().filter(|other| other.nested().any(|nested| nested == *id)).count();
            assert_eq!(set.parents as usize, parents, "{id}");
        }
        for (name, entry) in &self.model.names {
            let guard = entry.guard();
            assert!(entry.guard.is_none() || guard != Guard::default(), "{name}: a guard of nothing");
            assert!(guard.pending.is_none() || guard.recovery.is_some(), "{name}");
            assert!(guard.frozen_until <= self.time + MAX_FREEZE, "{name}");
            let latest = self.time + MAX_RECOVERY_DELAY + RECOVERY_WINDOW;
            assert!(guard.pending.is_none_or(|pending| pending.lapses <= latest), "{name}");
            let named = guard.cosign.map(|cosign| cosign.set).into_iter().chain(guard.recovery.map(|by| by.set));
            assert!(named.into_iter().all(|set| sets.contains_key(&set)), "{name}");
        }
    }

    /// Quotas and listings agree with what accounts say of who attested them.
    fn check_attestations(&self) {
        let sigils = self.model.accounts.iter().map(|(id, account)| (Identity::Sigil(*id), account));
        let sets = self.model.sets.iter().map(|(id, set)| (Identity::Set(*id), &set.account));
        let all = sigils.chain(sets).filter_map(|(to, account)| account.attestation().map(|last| (to, last)));
        let all: Vec<_> = all.collect();
        let listed: BTreeSet<_> = all.iter().map(|(to, last)| (last.by, *to)).collect();
        assert_eq!(listed, self.model.attestations);
        for (id, row) in &self.model.attestors {
            let counts = all.iter().filter(|(_, last)| last.by == *id && last.until / 86_400 >= self.time / 86_400);
            let used: u64 = counts.map(|(_, last)| LEVELS[usize::from(last.level)]).sum();
            assert!(row.used(self.time) == used || *id == self.rules_operator(), "{id}");
        }
    }

    /// Its own attestations take nothing of a quota.
    fn rules_operator(&self) -> Identity {
        id(&self.keys[0]).into()
    }

    fn check_gained(&self, before: &Model, effects: &Effects, id: SigilId, token: Symbol, after: u64) {
        let was = before.balances.get(&(id, token)).copied().unwrap_or_default().available;
        assert!(after <= was || effects.gained.contains(&id), "{id} has more {token} untold");
    }

    /// Whatever an answer can depend on is named as touched.
    fn check_touched(&self, before: &Model, effects: &Effects) {
        for change in &effects.changes {
            let owner = match change {
                Change::PutName(name, _) | Change::DropName(name) => name,
                Change::PutRrset(rrset, _) => &rrset.owner,
                Change::DropRrset(key) => &key.owner,
                Change::PutBalance(id, token, after) => {
                    self.check_gained(before, effects, *id, *token, after.available);
                    continue;
                }
                _ => continue,
            };
            assert!(effects.touched.iter().any(|name| owner.is_at_or_below(name)), "{owner} changed untold");
        }
    }

    /// A signed zone has its owner's key; a strict one all that nobody else can sign, and no contract.
    fn check_keys(&self) {
        for (name, entry) in &self.model.names {
            let types = self.model.rrsets.get(name);
            let get = |rtype: Rtype| types.and_then(|types| types.get(&rtype));
            let Some(keys) = get(Rtype::DNSKEY) else { continue };
            let owner = PublicKey::of_sigil(&entry.owner.key().expect("an owner has a key"));
            assert!(keys.rdata.iter().any(|key| **key == *owner.dnskey()), "{name}: DNSKEY without the owner's key");
            if dnssec::is_strict(keys) {
                assert!(get(Rtype::SOA).is_some() && get(Rtype::NSEC).is_some(), "{name}: strict, but not ahead");
                assert!(entry.contract.is_none(), "{name}: strict, but a contract answers");
            }
        }
    }

    /// Keys belong to names that are registered; what is remembered is bounded.
    fn check_updates(&self) {
        for (name, row) in &self.model.updates {
            assert!(!row.is_empty(), "{name}: an empty row");
            assert!(row.keys.is_empty() || self.model.names.contains_key(name), "{name}: keys without a name");
            assert!(row.keys.len() <= MAX_UPDATE_KEYS && row.seen.len() <= MAX_SEEN_UPDATES, "{name}");
            let seen = |key: &UpdateKey| key.used.as_ref().map_or(0, |used| used.seen.len());
            assert!(row.keys.iter().all(|key| seen(key) <= MAX_SEEN_BY_KEY), "{name}");
            assert!(row.keys.iter().all(|key| key.left(self.time) <= key.budget()), "{name}");
        }
    }

    fn check_state(&self) {
        let mut counted = 0;
        for (name, entry) in &self.model.names {
            let Ok(below) = self.model.rrsets_below(name);
            assert_eq!(entry.rrsets as usize, below.len(), "{name}");
            counted += below.len();
            assert!(entry.expires <= self.time + u64::from(MAX_TERM_YEARS) * YEAR, "{name}");
            assert!(entry.changed <= self.seq && entry.owner.key().is_some(), "{name}");
        }
        let stored: usize = self.model.rrsets.values().map(|types| types.len()).sum();
        assert_eq!(counted, stored, "RRsets outside every registered name");
        for (owner, types) in &self.model.rrsets {
            let types: BTreeSet<Rtype> = types.keys().copied().collect();
            let of_zone = [Rtype::SOA, Rtype::NS, Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY];
            let beside = |rtype: &Rtype| {
                [Rtype::CNAME, Rtype::NSEC].contains(rtype) || (owner.label_count() == 2 && of_zone.contains(rtype))
            };
            let alone = types.iter().all(beside);
            assert!(!types.contains(&Rtype::CNAME) || alone, "{owner}: CNAME and other data");
            let above = std::iter::successors(owner.parent(), Name::parent);
            let mut above = above.filter_map(|above| self.model.rrsets.get(&above));
            assert!(!above.any(|types| types.contains_key(&Rtype::DNAME)), "{owner}: below a DNAME");
            assert!(!types.contains(&Rtype::DS) || types.contains(&Rtype::NS), "{owner}: DS without NS");
        }
        self.check_keys();
        self.check_ledger();
        self.check_owners();
        self.check_updates();
        self.check_sets();
        self.check_attestations();
        self.check_lives();
        for (id, account) in &self.model.accounts {
            assert!(account.mana(self.time) <= account.capacity(), "{id}");
        }
    }
}
