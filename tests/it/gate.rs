//! What an op must show before anyone checks its signature.

use std::net::IpAddr;

use ghostplane::op::{self, Op, OpBody, Rejection};

use crate::support::{Person, World, name};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

fn signed(world: &World, person: &Person, nonce: u64, label: &str) -> Vec<u8> {
    let op = Op::Register { name: name(&format!("{label}.ghost")), years: 1 };
    let body = OpBody { registry: world.node.service.registry.id(), nonce, expires: world.now() + 60, op };
    op::sign(&person.key, &body)
}

fn forged(world: &World, person: &Person) -> Vec<u8> {
    let mut bytes = signed(world, person, 0, "forged");
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

fn check(world: &World, bytes: Vec<u8>, from: IpAddr) -> Result<(), Rejection> {
    world.node.service.verify_all(&[bytes], from).unwrap().remove(0).map(drop)
}

#[test]
fn nobody_without_mana_is_verified() {
    let mut world = World::new();
    let (alice, nobody) = (world.person(1), Person::new(9));
    // A wrong signature and a right one: it makes no difference.
    let poor = Err(Rejection::Mana { have: 0, need: 1, ready_at: None });
    assert_eq!(check(&world, forged(&world, &nobody), HERE), poor);
    assert_eq!(check(&world, signed(&world, &nobody, 0, "a"), HERE), poor);
    assert_eq!(check(&world, signed(&world, &alice, 0, "a"), HERE), Ok(()));
    // The operator and gateways write for nothing.
    let operator = Person { key: world.operator.key.clone(), nonce: 0 };
    assert_eq!(check(&world, signed(&world, &operator, 1, "a"), HERE), Ok(()));
}

/// Whoever has a level and nothing left is told when there will be more, however often it asks; of what costs nothing it
/// is heard, now and then.
#[test]
fn who_has_nothing_left_is_heard_for_what_costs_nothing() {
    let mut world = World::new();
    let alice = Person::new(1);
    world.govern(Op::GrantMana { to: alice.id(), level: 1, amount: 0 }).unwrap();
    for _ in 0..40 {
        let told = check(&world, signed(&world, &alice, 0, "a"), HERE);
        assert!(matches!(told, Err(Rejection::Mana { have: 0, ready_at: Some(_), .. })), "{told:?}");
    }
    let body = OpBody {
        registry: world.node.service.registry.id(),
        nonce: 0,
        expires: world.now() + 60,
        op: Op::VetoRecovery { name: name("alice.ghost") },
    };
    let veto = op::sign(&alice.key, &body);
    let told: Vec<_> = (0..20).map(|_| check(&world, veto.clone(), HERE)).collect();
    assert!(told[..16].iter().all(Result::is_ok), "{told:?}");
    assert!(told[16..].iter().all(|told| *told == Err(Rejection::TooManyForgeries { seconds: 4 })), "{told:?}");
    world.advance(10_000);
    assert_eq!(check(&world, signed(&world, &alice, 0, "a"), HERE), Ok(()));
}

#[test]
fn what_is_stale_goes_unverified() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    let mut stale = signed(&world, &alice, 0, "b");
    *stale.last_mut().unwrap() ^= 1;
    assert_eq!(check(&world, stale, HERE), Err(Rejection::Nonce { expected: 1, got: 0 }));
    // Several at once, each with the next nonce.
    assert_eq!(check(&world, signed(&world, &alice, 1, "c"), HERE), Ok(()));
    let ahead = check(&world, signed(&world, &alice, 40, "c"), HERE);
    assert_eq!(ahead, Err(Rejection::Nonce { expected: 1, got: 40 }));
    let late = signed(&world, &alice, 1, "d");
    world.advance(61);
    assert!(matches!(check(&world, late, HERE), Err(Rejection::Expired { .. })));
}

#[test]
fn forgers_are_listened_to_seldom_and_their_victims_always() {
    let mut world = World::new();
    let (alice, bob) = (world.person(1), world.person(2));
    let told: Vec<_> = (0..20).map(|_| check(&world, forged(&world, &alice), HERE)).collect();
    assert!(told[..16].iter().all(|told| *told == Err(Rejection::BadSignature)), "{told:?}");
    let struck = Err(Rejection::TooManyForgeries { seconds: 4 });
    assert!(told[16..].iter().all(|told| *told == struck), "{told:?}");
    // The same neighbourhood for another author, and the author from elsewhere.
    assert_eq!(check(&world, signed(&world, &bob, 0, "b"), HERE), Ok(()));
    assert_eq!(check(&world, signed(&world, &alice, 0, "a"), THERE), Ok(()));
    world.advance(4);
    assert_eq!(check(&world, signed(&world, &alice, 0, "a"), HERE), Ok(()));
    assert_eq!(check(&world, forged(&world, &alice), HERE), Err(Rejection::BadSignature));
    assert_eq!(check(&world, forged(&world, &alice), HERE), struck);
}
