//! Attacks by registrars and operators of TLDs: names that look like others, and numbers at their edges.

use ed25519_dalek::SigningKey;
use ghostplane::gateway::Tlds;
use ghostplane::node;
use ghostplane::op::{
    self, AutoRenew, CodeHash, Covenant, Draft, GasPolicy, GasUse, Identity, LoadPolicy, Member, Op, OpBody, OpKind,
    Price, RrsetKey, Scope, SecretRequest, SetId, SigilId, Symbol, UpdateScope,
};
use ghostplane::state::{Account, ApplyError, At, MAX_LEVEL, Model, apply};
use ghostplane::wire::{Rrset, Rtype};
use ghostplane::zone::policy::Policy;
use proptest::prelude::*;

use crate::guardians::code;
use crate::ops::REGISTRY;
use crate::support::{World, name};

/// T28.
#[test]
fn names_that_are_taken_for_others_are_not_registered() {
    let mut world = World::new();
    let mut mallory = world.person(1);
    // One Cyrillic letter; Cyrillic alone that looks like Latin; Greek and Latin.
    for label in ["pаypal", "аррӏе", "сосо", "gοοgle", "οοο"] {
        let register = Op::Register { name: name(&format!("{label}.ghost")), years: 1 };
        assert_eq!(code(world.submit(&mut mallory, register)), 301, "{label}");
    }
    for label in ["bücher", "алиса", "東京", "ελλάς", "paypal"] {
        let register = Op::Register { name: name(&format!("{label}.ghost")), years: 1 };
        world.submit(&mut mallory, register).unwrap();
    }
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/zones/ghost.toml")).unwrap();
    let policy = Policy::from_toml(&text.replacen("[labels]", "[labels]\nconfusable = true", 1)).unwrap();
    assert_eq!(policy.check_label(b"xn--n1aahb"), Ok(()), "where the TLD's policy says so");
}

/// T22.
#[test]
fn a_request_of_the_end_of_time_is_refused() {
    let world = World::new();
    let key = SigningKey::from_bytes(&[1; 32]);
    for time in [0, 1, u64::MAX - 1, u64::MAX] {
        let registry = world.node.service.registry.id();
        let request = SecretRequest { registry, name: name("a.ghost"), label: "k".into(), time }.seal(&key);
        let refused = SecretRequest::open(&request, registry, world.now()).unwrap_err();
        assert_eq!(refused.code(), 105, "{time}");
        assert!(world.node.service.update_secret(&request).is_err());
        // With a clock that stands there, too.
        assert!(SecretRequest::open(&request, registry, time).is_ok());
    }
}

const NOW: u64 = 1_800_000_000;

/// Numbers at the edges of 64 bits, of 32, of 8, and near the clock.
fn edge() -> impl Strategy<Value = u64> {
    let near = [0, 1, 2, 1_000, 86_400, NOW - 1, NOW, NOW + 1, NOW + 86_400];
    let far = [u64::from(u32::MAX), 1 << 32, i64::MAX as u64, u64::MAX / 1_000_000, u64::MAX - 1, u64::MAX];
    prop::sample::select([&near[..], &far[..]].concat())
}

/// An op of a kind with these numbers in whatever fields are numbers.
fn op_with(kind: OpKind, [a, b, c, d, e, f]: [u64; 6], flag: bool) -> Op {
    let (about, to, token) = (name("a.ghost"), id(2), Symbol::GCC);
    let hash = CodeHash::of(b"x");
    let (small, byte, weight) = (a as u32, a as u8, a as u16);
    let price = flag.then_some(Price { token, amount: b });
    let set = flag.then_some(SetId([1; 32]));
    match kind {
        OpKind::Register => Op::Register { name: name("new.ghost"), years: small },
        OpKind::Renew => Op::Renew { name: about, years: small },
        OpKind::Transfer => Op::Transfer { name: about, to },
        OpKind::Release => Op::Release { name: about },
        OpKind::PutRecords => {
            let ns = Rrset::new(name("x.a.ghost"), Rtype::NS, small, [name("ns.b.ghost").as_wire().to_vec()]);
            Op::put(about, vec![ns])
        }
        OpKind::DeleteRecords => {
            Op::DeleteRecords { keys: vec![RrsetKey { owner: about.clone(), rtype: Rtype(a as u16) }], name: about }
        }
        OpKind::DeployContract => Op::DeployContract { wasm: vec![byte; usize::from(byte)] },
        OpKind::BindContract => {
            Op::BindContract { name: about, contract: flag.then_some(hash), parameters: vec![byte] }
        }
        OpKind::GrantMana => Op::GrantMana { to, level: byte, amount: b },
        OpKind::CreateToken => Op::CreateToken {
            token: "COIN".parse().unwrap(),
            decimals: byte,
            initial: b,
            cap: c,
            transferable: flag,
            mint: Some(id(1)),
            burn: Some(id(1)),
        },
        OpKind::SetAuthority => Op::SetAuthority { token, issuer: None, mint: Some(to), burn: None },
        OpKind::Mint => Op::Mint { token, to, amount: a },
        OpKind::Burn => Op::Burn { token, amount: a },
        OpKind::Pay => Op::Pay { token, to, amount: a, memo: String::new() },
        OpKind::Hold => Op::Hold { token, to, amount: a, until: b, memo: String::new() },
        OpKind::CloseHold => Op::CloseHold { hold: a, amount: b },
        OpKind::SetGas => Op::SetGas {
            policy: GasPolicy { epoch: a, free: b, most: c, target: d, lowest: e, highest: f },
            gateways: vec![id(1)],
        },
        OpKind::SettleGas => Op::SettleGas { epoch: a, uses: vec![GasUse { name: about, fuel: b, executions: c }] },
        OpKind::BindCovenants => {
            Op::BindCovenants { name: about, covenants: vec![Covenant { code: hash, parameters: vec![] }] }
        }
        OpKind::SetLoad => Op::SetLoad { policy: LoadPolicy { window: a, target: b, highest: c } },
        OpKind::IssueUpdateKey => Op::IssueUpdateKey {
            scopes: vec![UpdateScope { owner: about.clone(), below: flag, types: vec![Rtype(a as u16)] }],
            name: about,
            label: "k".into(),
            expires: b,
            mana: flag.then_some(c),
        },
        OpKind::RevokeUpdateKey => Op::RevokeUpdateKey { name: about, label: "k".into() },
        OpKind::PutSet => Op::PutSet { set, members: vec![Member { who: to.into(), weight }], threshold: b as u32 },
        OpKind::SetAttestor => Op::SetAttestor { who: to.into(), max_level: byte, quota: b },
        OpKind::Attest => Op::Attest { to: to.into(), level: byte, until: b },
        OpKind::RevokeAttestation => Op::RevokeAttestation { of: to.into() },
        OpKind::RequireCosign => Op::RequireCosign { name: about, set, scopes: vec![Scope::Records] },
        OpKind::SetRecovery => Op::SetRecovery { name: about, set, delay: a },
        OpKind::StartRecovery => Op::StartRecovery { name: about, to },
        OpKind::VetoRecovery => Op::VetoRecovery { name: about },
        OpKind::FinishRecovery => Op::FinishRecovery { name: about },
        OpKind::Freeze => Op::Freeze { name: about, until: flag.then_some(a) },
        OpKind::Commit => Op::Commit { hash: [byte; 32] },
        OpKind::Reveal => Op::Reveal { name: name("new.ghost"), years: small, secret: [byte; 32] },
        OpKind::Restore => Op::Restore { name: about, years: small },
        OpKind::SetAutoRenew => Op::SetAutoRenew { name: about, plan: Some(AutoRenew { years: small, most: price }) },
        OpKind::RenewDue => Op::RenewDue { names: vec![about] },
        OpKind::Offer => Op::Offer { name: about, to, price, until: a },
        OpKind::Accept => Op::Accept { name: about, offer: a },
        OpKind::Withdraw => Op::Withdraw { name: about },
        OpKind::Lock => Op::Lock { name: about, delay: a },
        OpKind::Unlock => Op::Unlock { name: about },
        // They come as messages, of which tests/fuzz makes others.
        OpKind::Update | OpKind::UpdateByKey => Op::Commit { hash: [byte; 32] },
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn id(seed: u8) -> SigilId {
    SigilId::from(&key(seed).verifying_key())
}

/// Prices that a policy can name.
fn rules(per_kib: u64) -> Tlds {
    let mut tlds = node::built_in_tlds().unwrap();
    for tld in &mut tlds {
        let policy = format!(
            "tld = \"{0}\"\ncontract = \"{0}\"\n[prices]\nregister = 1\nrenew = {per_kib}\ntransfer = 0\nrelease = 0\n\
             put_records = 1\ndelete_records = 0\ndeploy = 1\nbind = 0\nper_kib = {per_kib}\nper_rrsig = {per_kib}\n",
            tld.policy.tld
        );
        tld.policy = Policy::from_toml(&policy).unwrap();
    }
    Tlds::new(tlds, [], id(1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// T25: one person who is owner, operator, gateway and guardian writes every kind of op with such numbers, one after
    /// the other, at such times: a rejection or a result, never a panic (tests check overflows), and what was accepted
    /// leaves every balance within its bounds.
    #[test]
    fn numbers_at_their_edges_are_rejected_or_mean_something(
        numbers in prop::collection::vec((prop::array::uniform6(edge()), any::<bool>(), edge()), 8..24),
        per_kib in prop::sample::select(vec![0_u64, 1, 1_000, i64::MAX as u64]),
        start in prop::sample::select(vec![0_u64, NOW, u64::MAX - 100_000, u64::MAX - 130]),
    ) {
        let rules = rules(per_kib);
        let mut model = Model::default();
        model.accounts.insert(id(1), Account::default().granted(start, MAX_LEVEL, u64::MAX));
        let mut at = At { seq: 0, time: start };
        let write = |model: &mut Model, at: &mut At, op: Op| {
            let next = model.accounts[&id(1)].next_nonce;
            let body = OpBody { registry: REGISTRY, nonce: next, expires: at.time.saturating_add(60), op };
            let mut draft = Draft::new(Identity::Sigil(id(1)), body);
            draft.sign(&key(1)).unwrap();
            let Ok(verified) = op::verify(&draft.to_bytes(), REGISTRY, at.time) else { return };
            at.seq += 1;
            match apply(&*model, &rules, *at, &verified) {
                Ok(effects) => model.commit(&effects.changes),
                Err(ApplyError::Rejected(rejection)) => assert!(rejection.code() >= 200, "{rejection}"),
                Err(ApplyError::Fault(never)) => match never {},
            }
        };
        let years = 1;
        write(&mut model, &mut at, Op::Register { name: name("a.ghost"), years });
        let members = vec![Member { who: id(1).into(), weight: 1 }];
        write(&mut model, &mut at, Op::PutSet { set: None, members, threshold: 1 });
        for (numbers, flag, step) in numbers {
            // Time goes on, and now and then far.
            at.time = if step > 1 << 40 { at.time.saturating_add(1) } else { at.time.saturating_add(step % 100_000) };
            for kind in OpKind::ALL {
                write(&mut model, &mut at, op_with(kind, numbers, flag));
            }
            for account in model.accounts.values() {
                prop_assert!(account.mana(at.time) <= account.capacity());
            }
        }
    }
}
