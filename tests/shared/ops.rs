//! Sequences of ops made from octets: one generator for the property tests (tests/it) and the fuzzer
//! (tests/fuzz). A small world, so that names collide, leases run out and rules are broken.

use std::collections::BTreeSet;

use ed25519_dalek::SigningKey;
use ghostplane::dnssec::{self, PublicKey};
use ghostplane::gateway::Tlds;
use ghostplane::limits::{MAX_COMMITMENTS, MAX_TERM_YEARS, YEAR};
use ghostplane::node;
use ghostplane::op::{
    self, AutoRenew, CodeHash, GasPolicy, GasUse, Op, OpBody, Price, RegistryId, Rejection, RrsetKey, SigilId, Symbol,
    VerifiedOp,
};
use ghostplane::state::life::{NameLife, Phase, commitment};
use ghostplane::state::{Account, ApplyError, At, Change, Effects, MAX_LEVEL, Model, NameEntry, View, apply};
use ghostplane::wire::{Name, Rrset, Rtype, rdata};
use ghostplane::zone::policy::Policy;

pub const REGISTRY: RegistryId = RegistryId([3; 32]);
const START: u64 = 1_800_000_000;
const NAMES: [&str; 6] = ["a.ghost", "b.ghost", "a.sig", "ns.ghost", "ghost", "x.a.ghost"];
const OWNERS: [&str; 7] = ["a.ghost", "w.a.ghost", "*.a.ghost", "x.w.a.ghost", "b.ghost", "a.sig", "\\000.a.ghost"];
const DATA: [(&str, &str); 13] = [
    ("A", "192.0.2.1"),
    ("A", "192.0.2.2"),
    ("TXT", "\"x\""),
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
/// A TLD where everything is asked for that a policy can ask for.
const SIG: &str = "tld = \"sig\"\ncontract = \"sig\"\n[labels.premium]\na = \"GCC 0.000000009\"\n[registration]\n\
    commit = true\ntransfer = \"accept\"\nmax_years = 3\ngrace_days = 30\nredemption_days = 30\n[fees]\n\
    renew = \"GCC 0.000000005\"\nrestore = \"GCC 0.00000002\"\ntransfer = \"GCC 0.000000001\"\n[prices]\nregister = 100\n\
    renew = 50\ntransfer = 20\nrelease = 5\nput_records = 5\ndelete_records = 2\ndeploy = 200\nbind = 10\nper_kib = 1\n";
/// Seconds that pass between two ops; a year, too, now and then.
const STEPS: [u64; 16] =
    [0, 0, 0, 1, 1, 60, 60, 3_600, 3_600, 3_600, 3_600, 3_600, 86_400, 86_400, 3 * 86_400, 20 * 86_400];

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
}

fn name(text: &str) -> Name {
    Name::from_user(text).expect("a name of the table")
}

fn id(key: &SigningKey) -> SigilId {
    SigilId::from(&key.verifying_key())
}

impl Script {
    /// Nobody but the operator, whose budget is full.
    pub fn new() -> Self {
        let keys: Vec<SigningKey> = (1..=4).map(|seed| SigningKey::from_bytes(&[seed; 32])).collect();
        let mut tlds = node::built_in_tlds().expect("built-in TLDs");
        for tld in tlds.iter_mut().filter(|tld| tld.policy.tld == "sig") {
            tld.policy = Policy::from_toml(SIG).expect("a policy");
        }
        let rules = Tlds::new(tlds, [], id(&keys[0]));
        let mut model = Model::default();
        model.accounts.insert(id(&keys[0]), Account::default().granted(START, MAX_LEVEL, u64::MAX));
        Self { keys, rules, model, time: START, seq: 0 }
    }

    /// Makes, signs and verifies the next op; `None` if verification already refuses it.
    pub fn next(&mut self, source: &mut Source<'_>) -> Option<VerifiedOp> {
        self.time = self.later(source);
        let about = self.about(source);
        let author = self.author(source, &about).clone();
        let op = self.op(source, &author, about);
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

    /// As often as not, one that somebody has.
    fn about(&self, source: &mut Source<'_>) -> Name {
        let held: Vec<&Name> =
            self.model.names.iter().filter(|(_, entry)| self.time < entry.free_at()).map(|(name, _)| name).collect();
        let at = usize::from(source.byte());
        match held.get(at / 2 % held.len().max(1)) {
            Some(held) if at % 2 == 1 => (*held).clone(),
            _ => name(source.pick(&NAMES)),
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
        match source.byte() % 44 {
            26.. => self.life_op(source, author, about),
            16.. => self.ledger_op(source, author),
            0 | 1 => Op::Register { name: about, years: u32::from(source.byte() % 13) },
            2 => Op::Renew { name: about, years: u32::from(source.byte() % 13) },
            3 if source.byte() % 8 == 7 => Op::Transfer { name: about, to: SigilId([2; 32]) },
            3 => Op::Transfer { name: about, to: self.anyone(source) },
            4 => Op::Release { name: about },
            5..=8 => {
                let count = usize::from(source.byte() % 3) + usize::from(!source.seldom());
                Op::put(about.clone(), (0..count).map(|_| self.rrset(source, author, &about)).collect())
            }
            9 | 10 => {
                let count = source.byte() % 3;
                Op::DeleteRecords { keys: (0..count).map(|_| self.key(source, &about)).collect(), name: about }
            }
            11 => Op::DeployContract { wasm: vec![source.byte() % 4; usize::from(source.byte() % 3)] },
            12 => {
                let contract = (source.byte() % 2 == 1).then(|| CodeHash::of(&[source.byte() % 6]));
                Op::BindContract { name: about, contract, parameters: vec![7; usize::from(source.byte()) * 20] }
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
        match source.byte() % 16 {
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
                let epoch = self.model.gas.epoch_of(self.time - u64::from(source.seldom()) * 5_000);
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

    /// Nobody loses a name that is locked, or before it is free; what its owner arranged goes with the owner.
    fn check_owners(&self, before: &Model, op: &VerifiedOp) {
        for (name, was) in &before.names {
            let is = self.model.names.get(name);
            if is.is_some_and(|is| is.owner == was.owner && is.registered == was.registered) {
                continue;
            }
            let free = was.phase(self.time) == Phase::Free;
            let locked = before.name_lives.get(name).is_some_and(|life| life.locked(self.time).is_some());
            // Its own owner may still release it then, if it is not locked.
            assert!(!locked || free && op.op().name() == Some(name), "{name} was locked");
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
        let (gas, policy) = (&self.model.gas, self.model.gas.policy);
        assert!((policy.lowest..=policy.highest).contains(&gas.price), "{gas:?}");
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
            text => vec![rdata::from_text(rtype, text, None).expect("RDATA of the table")],
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
        let before = self.model.clone();
        self.model.commit(&effects.changes);
        self.seq = at.seq;
        self.check_nonces(&before, op);
        self.check_touched(&before, &effects);
        self.check_owners(&before, op);
        self.check_state();
        Ok(effects)
    }

    fn check_nonces(&self, before: &Model, op: &VerifiedOp) {
        for (id, account) in &self.model.accounts {
            let was = before.accounts.get(id).copied().unwrap_or_default().next_nonce;
            assert_eq!(account.next_nonce, was + u64::from(*id == op.author()), "{id}");
        }
    }

    /// Whatever an answer can depend on is named as touched.
    fn check_gained(&self, before: &Model, effects: &Effects, id: SigilId, token: Symbol, after: u64) {
        let was = before.balances.get(&(id, token)).copied().unwrap_or_default().available;
        assert!(after <= was || effects.gained.contains(&id), "{id} has more {token} untold");
    }

    fn check_touched(&self, before: &Model, effects: &Effects) {
        for change in &effects.changes {
            let owner = match change {
                Change::PutName(name, _) | Change::DropName(name) => name,
                Change::PutRrset(rrset) => &rrset.owner,
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
            assert!(!types.contains(&Rtype::DS) || types.contains(&Rtype::NS), "{owner}: DS without NS");
        }
        self.check_keys();
        self.check_ledger();
        self.check_lives();
        for (id, account) in &self.model.accounts {
            assert!(account.mana(self.time) <= account.capacity(), "{id}");
        }
    }
}
