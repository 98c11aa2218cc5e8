//! The state machine against its invariants, and the registry against the model.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use ghostplane::op::{self, OpKind};
use ghostplane::registry::{FORMAT, Genesis, LogEntry, Registry};
use ghostplane::state::{ApplyError, At, Model, View, apply};
use proptest::prelude::*;

use crate::ops::{REGISTRY, Script, Source};

fn registry() -> Registry {
    let operator = op::SigilId([0; 32]);
    Registry::in_memory(Genesis { format: FORMAT, operator, created: 0, salt: vec![] }).unwrap()
}

/// Rows of the model, each read from the registry.
fn assert_same(model: &Model, view: &impl View<Fault = ghostplane::registry::Fault>) {
    for (id, account) in &model.accounts {
        assert_eq!(view.account(id).unwrap(), *account);
    }
    for (name, entry) in &model.names {
        assert_eq!(view.name(name).unwrap().as_ref(), Some(entry));
        let Ok(below) = model.rrsets_below(name);
        assert_eq!(view.rrsets_below(name).unwrap(), below);
    }
    for (owner, types) in &model.rrsets {
        assert_eq!(view.types_at(owner).unwrap(), types.keys().copied().collect::<Vec<_>>());
    }
    for (token, row) in &model.tokens {
        assert_eq!(view.token(*token).unwrap().as_ref(), Some(row));
    }
    for ((id, token), balance) in &model.balances {
        assert_eq!(view.balance(id, *token).unwrap(), *balance);
    }
    for (number, hold) in &model.holds {
        assert_eq!(view.hold(*number).unwrap().as_ref(), Some(hold));
    }
    for (name, covenants) in &model.covenants {
        assert_eq!(view.covenants(name).unwrap(), *covenants);
    }
    for ((id, tld), names) in &model.owned {
        assert_eq!(view.owned(id, tld).unwrap(), *names);
    }
    assert_eq!((view.gas().unwrap(), view.load().unwrap()), (model.gas.clone(), model.load));
    for (name, row) in &model.name_gas {
        assert_eq!(view.name_gas(name).unwrap(), *row);
    }
    for (id, row) in &model.sets {
        assert_eq!(view.set(id).unwrap().as_ref(), Some(row));
    }
    for (id, row) in &model.attestors {
        assert_eq!(view.attestor(id).unwrap().as_ref(), Some(row));
    }
    for (id, open) in &model.commitments {
        assert_eq!(view.commitments(id).unwrap(), *open);
    }
    for (name, life) in &model.name_lives {
        assert_eq!(view.name_life(name).unwrap(), *life);
    }
    for hash in model.contracts.keys() {
        assert!(view.has_contract(hash).unwrap());
    }
}

/// The same ops give the same outcomes over redb and over maps, a rejection writes nothing, and the log alone gives the
/// same state again; what holds of every state is checked after each op by the script. Gives how many ops there were.
fn agree(octets: &[u8]) -> usize {
    let registry = registry();
    let mut script = Script::new();
    let genesis = script.model.clone();
    let transaction = registry.begin_write().unwrap();
    let (mut log, mut ops) = (Vec::new(), 0);
    {
        let tables = transaction.tables().unwrap();
        let funded = genesis.accounts.iter().map(|(id, account)| ghostplane::state::Change::PutAccount(*id, *account));
        tables.write_changes(&funded.collect::<Vec<_>>()).unwrap();
        let mut source = Source(octets);
        while !source.0.is_empty() {
            let Some(op) = script.next(&mut source) else { continue };
            ops += 1;
            let at = At { seq: script.seq + 1, time: script.time };
            let before = script.model.clone();
            let stored = apply(&tables, &script.rules, at, &op);
            match (script.apply(&op), stored) {
                (Ok(effects), Ok(stored)) => {
                    assert_eq!(effects, stored);
                    tables.write(at.seq, &LogEntry { time: at.time, op: op.bytes().to_vec() }, &stored).unwrap();
                    log.push((at, op));
                }
                (Err(rejection), Err(ApplyError::Rejected(stored))) => {
                    assert_eq!(rejection, stored);
                    assert_eq!(before, script.model);
                }
                (model, stored) => panic!("{model:?} but {stored:?}"),
            }
        }
    }
    transaction.commit().unwrap();
    let snapshot = registry.snapshot().unwrap();
    assert_same(&script.model, &snapshot);
    let [names, rrsets, contracts, accounts, entries] = snapshot.counts().unwrap();
    let model = &script.model;
    assert_eq!(names as usize, model.names.len());
    assert_eq!(rrsets as usize, model.rrsets.values().map(|types| types.len()).sum::<usize>());
    assert_eq!((contracts as usize, accounts as usize), (model.contracts.len(), model.accounts.len()));
    assert_eq!(entries as usize, log.len());
    let mut replayed = genesis;
    for (at, op) in &log {
        let again = op::verify(op.bytes(), REGISTRY, at.time).unwrap();
        let effects = apply(&replayed, &script.rules, *at, &again).unwrap();
        replayed.commit(&effects.changes);
    }
    assert_eq!(&replayed, model);
    ops
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn registry_and_model_agree(octets in prop::collection::vec(any::<u8>(), 0..900)) {
        agree(&octets);
    }
}

/// Prices that rise and fall between the ops of one history: what a row cost, not what it would cost, comes back. The
/// script checks after each op that nobody has more mana than was paid, granted or waited for.
#[test]
fn mana_is_never_made_whatever_prices_do() {
    let mut given = 0;
    for seed in 1..6 {
        let mut script = Script::new();
        let octets = octets(seed, 12_000);
        let mut source = Source(&octets);
        let mut ops = 0;
        while !source.0.is_empty() {
            let next = if ops % 5 == 0 { script.next(&mut source) } else { script.next_of_records(&mut source) };
            ops += 1;
            let Some(op) = next else { continue };
            if ops % 7 == 0 {
                script.price([0, 1, 3, 40][ops / 7 % 4]);
            }
            given += usize::from(script.apply(&op).is_ok_and(|_| script.gave_back()));
        }
    }
    assert!(given > 20, "mana came back {given} times only");
}

/// Octets by Numerical Recipes' generator: any will do, as long as it is the same each time.
fn octets(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Histories of some thousand ops each, all from other seeds. By default a few, so that a test run stays short;
/// `CARGO_PROFILE_DEV_OPT_LEVEL=2 GHOSTPLANE_OPS=1000000 cargo test --test it many_ops -- --nocapture` goes through a
/// million in a minute or two, and shows its progress.
#[test]
fn registry_and_model_agree_over_many_ops() {
    let wanted =
        std::env::var("GHOSTPLANE_OPS").ok().map_or(10_000, |ops| ops.parse().expect("GHOSTPLANE_OPS is a number"));
    let (seeds, done) = (AtomicU64::new(1), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while done.load(Relaxed) < wanted {
                    let ops = agree(&octets(seeds.fetch_add(1, Relaxed), 40_000));
                    let before = done.fetch_add(ops, Relaxed);
                    if before * 20 / wanted != (before + ops) * 20 / wanted {
                        println!("{} of {wanted} ops agree", before + ops);
                    }
                }
            });
        }
    });
    assert!(done.load(Relaxed) >= wanted);
}

#[test]
fn the_generator_reaches_every_kind_of_op() {
    const CODES: [u16; 75] = [
        200, 201, 300, 301, 302, 303, 304, 305, 306, 307, 308, 310, 311, 312, 313, 314, 315, 316, 317, 318, 319, 320,
        321, 400, 402, 405, 406, 407, 408, 500, 501, 502, 600, 601, 602, 610, 611, 612, 613, 620, 621, 622, 623, 624,
        625, 630, 631, 632, 634, 640, 642, 703, 704, 706, 709, 710, 711, 712, 713, 800, 801, 802, 803, 804, 805, 806,
        807, 808, 809, 810, 811, 812, 820, 821, 822,
    ];
    let (mut kinds, mut codes) = (BTreeSet::new(), BTreeSet::new());
    let done = |kinds: &BTreeSet<OpKind>, codes: &BTreeSet<u16>| {
        kinds.len() == OpKind::ALL.len() && CODES.iter().all(|code| codes.contains(code))
    };
    // Some histories, until all are reached.
    for seed in 1..=6 {
        let mut script = Script::new();
        let octets = octets(seed, 1_000_000);
        let mut source = Source(&octets);
        while !source.0.is_empty() && !done(&kinds, &codes) {
            let Some(op) = script.next(&mut source) else { continue };
            match script.apply(&op) {
                Ok(_) => drop(kinds.insert(op.op().kind())),
                Err(rejection) => drop(codes.insert(rejection.code())),
            }
        }
    }
    let missing: Vec<OpKind> = OpKind::ALL.into_iter().filter(|kind| !kinds.contains(kind)).collect();
    assert!(missing.is_empty(), "never accepted: {missing:?}");
    let missing: Vec<u16> = CODES.into_iter().filter(|code| !codes.contains(code)).collect();
    assert!(missing.is_empty(), "no op is rejected with {missing:?}");
}
