//! Gas: counted without a write, settled as ops, paid by owners; out of it, the TLD's contract answers.

use ghostplane::gateway::Call;
use ghostplane::node::SHIPPED;
use ghostplane::op::{CodeHash, GasPolicy, GasUse, Op, Rejection, SigilId, Symbol};
use ghostplane::state::View as _;
use ghostplane::state::gas::DEFAULT_POLICY;
use ghostplane::work::Budget;

use crate::support::{Person, World, name};

const OUT: &str = "out of gas: the name has used its free fuel, and its owner's account holds no GCC";

/// A name with a contract of its owner's, under a policy that this gateway may settle.
fn world(policy: GasPolicy) -> (World, Person) {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.put(&mut alice, "alice.ghost", "TXT", &["\"stored\""]).unwrap();
    bind(&world, &mut alice, "alice.ghost", "words");
    set_gas(&mut world, policy).unwrap();
    (world, alice)
}

fn bind(world: &World, alice: &mut Person, text: &str, words: &str) {
    let park = SHIPPED.iter().find(|(shipped, _)| *shipped == "park").unwrap().1;
    let contract = Some(world.deploy(alice, park));
    world.submit(alice, Op::BindContract { name: name(text), contract, parameters: words.into() }).unwrap();
}

fn set_gas(world: &mut World, policy: GasPolicy) -> Result<(), Rejection> {
    let gateways = vec![gateway(world)];
    world.govern(Op::SetGas { policy, gateways }).map(drop)
}

fn gateway(world: &World) -> SigilId {
    SigilId::from(&world.node.gateway.engine().sigil.verifying_key())
}

/// What every name below answers: another name each time, so that nothing comes from the cache.
fn ask(world: &World, number: u32) -> (String, Option<String>) {
    let told = world.ask_plain(&format!("n{number}.alice.ghost"), "TXT");
    let answer = told.records.iter().find_map(|line| line.split(" TXT ").nth(1)).unwrap_or("none").to_owned();
    (answer, told.ede.map(|(_, words)| words))
}

fn balance(world: &World, id: SigilId) -> u64 {
    world.node.service.registry.snapshot().unwrap().balance(&id, Symbol::GCC).unwrap().available
}

/// Nothing is free, a unit of fuel costs one billionth of a GCC.
const DEAR: GasPolicy = GasPolicy { epoch: 3_600, free: 0, lowest: 1_000_000, highest: 1_000_000, ..DEFAULT_POLICY };

#[test]
fn what_is_free_is_free_and_what_is_not_is_paid_by_the_owner() {
    let (mut world, alice) = world(DEAR);
    assert_eq!(ask(&world, 0), ("none".into(), Some(OUT.into())));
    world.fund(alice.id(), 1_000_000);
    assert_eq!(ask(&world, 1), ("\"words\"".into(), None));
    let fuel = world.node.service.usage(Some("alice.ghost"), None, 1).unwrap()[0].fuel;
    assert!(fuel > 100 && fuel < 100_000, "{fuel}");
    assert_eq!(balance(&world, alice.id()), 1_000_000, "no answer waits for a write");
    assert_eq!(world.node.settle(), Ok(1));
    assert_eq!(balance(&world, alice.id()), 1_000_000 - fuel);
    assert_eq!(balance(&world, world.operator.id()), fuel);
    assert_eq!(world.node.settle(), Ok(0), "once");
    let row = world.node.service.usage(Some("alice.ghost"), None, 1).unwrap().remove(0);
    assert_eq!((row.fuel, row.executions, row.paid_ever), (fuel, 1, fuel.to_string()));
    // The same question comes from the cache, and costs nothing.
    let again = world.ask_plain("n1.alice.ghost", "TXT");
    assert_eq!(again.ede, None);
    assert_eq!(world.node.settle(), Ok(0));
}

#[test]
fn free_fuel_comes_back_with_every_epoch() {
    let (world, _alice) = world(GasPolicy { free: 1, ..DEAR });
    assert_eq!(ask(&world, 0).1, None);
    assert_eq!(ask(&world, 1).1, Some(OUT.into()));
    // Counted or settled, it is the same.
    assert_eq!(world.node.settle(), Ok(1));
    assert_eq!(ask(&world, 2).1, Some(OUT.into()));
    world.advance(3_600);
    assert_eq!(ask(&world, 3).1, None);
    // Two epochs, each settled as what it was; what cannot be collected is noted.
    world.advance(3_600);
    assert_eq!(ask(&world, 4).1, None);
    assert_eq!(world.node.settle(), Ok(2));
    let row = world.node.service.usage(Some("alice.ghost"), None, 1).unwrap().remove(0);
    assert_eq!(row.executions, 1);
    assert_eq!(row.unpaid_ever, (row.fuel_ever - 3).to_string());
}

#[test]
fn a_payment_is_seen_by_the_next_question() {
    let (mut world, alice) = world(DEAR);
    let same = |world: &World| world.ask_plain("same.alice.ghost", "TXT").ede.is_some();
    assert!(same(&world) && same(&world), "the fallback is cached");
    let mut bob = world.person(2);
    world.fund(bob.id(), 100);
    assert!(same(&world), "another's money");
    world.submit(&mut bob, Op::Pay { token: Symbol::GCC, to: alice.id(), amount: 100, memo: String::new() }).unwrap();
    assert!(!same(&world));
}

#[test]
fn a_name_is_stopped_at_the_most_it_may_use() {
    let (mut world, alice) = world(GasPolicy { most: 1, free: 0, ..DEAR });
    world.fund(alice.id(), u64::MAX / 2);
    assert_eq!(ask(&world, 0).1, None);
    let words = ask(&world, 1).1.unwrap();
    assert!(words.contains("the most fuel"), "{words}");
}

#[test]
fn the_stored_records_answer_for_a_contract_without_gas() {
    let (world, _alice) = world(DEAR);
    let told = world.ask_plain("alice.ghost", "TXT");
    assert_eq!(told.records, ["answer alice.ghost. 10 TXT \"stored\""]);
    assert_eq!(told.ede, Some((0, OUT.into())));
    assert_eq!(told.rcode, 0);
}

#[test]
fn tlds_contracts_and_strict_names_cost_nothing() {
    let (world, mut alice) = world(DEAR);
    world.register(&mut alice, "free.ghost");
    assert_eq!(world.ask_plain("free.ghost", "TXT").ede, None);
    assert_eq!(world.node.settle(), Ok(0));
}

#[test]
fn a_program_without_gas_is_not_called() {
    let (mut world, mut alice) = world(DEAR);
    let oracle = SHIPPED.iter().find(|(shipped, _)| *shipped == "oracle").unwrap().1;
    let contract = Some(world.deploy(&mut alice, oracle));
    world.submit(&mut alice, Op::BindContract { name: name("alice.ghost"), contract, parameters: vec![] }).unwrap();
    let call = |world: &World| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let call = Call { name: name("alice.ghost"), input: vec![], fuel: 1_000_000, asker: None, receipt: false };
        world.node.gateway.call(call, Budget::unlimited(), move |called| sender.send(called).unwrap());
        receiver.recv().unwrap()
    };
    assert_eq!(call(&world).unwrap_err().to_string(), OUT);
    world.fund(alice.id(), 10_000_000);
    let fuel = call(&world).unwrap().fuel;
    assert_eq!(world.node.settle(), Ok(1));
    assert_eq!(balance(&world, alice.id()), 10_000_000 - fuel);
}

#[test]
fn the_price_rises_with_the_load_and_falls_without() {
    let (mut world, alice) = world(GasPolicy { target: 1_000, lowest: 1_000, highest: 1_000_000, ..DEAR });
    world.fund(alice.id(), u64::MAX / 2);
    let price = |world: &World| world.node.service.gas().unwrap().price;
    let mut prices = vec![price(&world)];
    for epoch in 0..4 {
        (0..20).for_each(|number| drop(ask(&world, epoch * 100 + number)));
        world.node.settle().unwrap();
        world.advance(3_600);
        prices.push(price(&world));
    }
    assert!(prices.windows(2).all(|pair| pair[0] < pair[1] && pair[1] <= pair[0] * 9 / 8 + 1), "{prices:?}");
    world.advance(3_600 * 100);
    assert_eq!(price(&world), 1_000);
}

#[test]
fn only_gateways_settle_and_only_the_operator_governs() {
    let (mut world, mut alice) = world(DEAR);
    let uses = vec![GasUse { name: name("alice.ghost"), fuel: 1, executions: 1 }];
    let epoch = world.node.service.gas().unwrap().epoch;
    let settle = Op::SettleGas { epoch, uses };
    assert_eq!(world.submit(&mut alice, settle.clone()), Err(Rejection::NotGateway));
    let policy = Op::SetGas { policy: DEAR, gateways: vec![alice.id()] };
    assert_eq!(world.submit(&mut alice, policy.clone()), Err(Rejection::NotOperator));
    // A policy with another epoch: what was counted under the old one is not lost.
    world.fund(alice.id(), 1_000_000);
    assert_eq!(ask(&world, 0).1, None);
    world.advance(1_000);
    set_gas(&mut world, GasPolicy { epoch: 600, ..DEAR }).unwrap();
    assert_eq!(world.node.settle(), Ok(1));
    assert!(balance(&world, alice.id()) < 1_000_000);
    // A gateway that is none any more keeps its counts.
    assert_eq!(ask(&world, 1).1, None);
    world.govern(policy).unwrap();
    assert_eq!(world.node.settle(), Err(Rejection::NotGateway));
    assert_eq!(world.node.gateway.engine().meter.names_after(None, 10), [name("alice.ghost")]);
}

#[test]
fn a_thousand_names_are_settled_in_a_few_ops() {
    let (world, mut alice) = world(GasPolicy { free: 1 << 40, most: 1 << 41, ..DEAR });
    let park = SHIPPED.iter().find(|(shipped, _)| *shipped == "park").unwrap().1;
    for number in 0..1_100 {
        if number % 200 == 0 {
            world.advance(86_400);
        }
        let text = format!("n{number}.ghost");
        world.register(&mut alice, &text);
        let contract = Some(CodeHash::of(park));
        world.submit(&mut alice, Op::BindContract { name: name(&text), contract, parameters: vec![] }).unwrap();
    }
    (0..1_100).for_each(|number| drop(world.ask_plain(&format!("n{number}.ghost"), "TXT")));
    let before = world.node.service.info().unwrap().seq;
    assert_eq!(world.node.settle(), Ok(1_100));
    assert_eq!(world.node.service.info().unwrap().seq, before + 2);
    let first = world.node.service.usage(None, None, 500).unwrap();
    let second = world.node.service.usage(None, Some(&first[499].name), 500).unwrap();
    assert!(first.len() == 500 && second.len() == 500 && second[0].name > first[499].name);
}
