//! The clock: years ahead, years behind, and right again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ghostplane::audit::audit;
use ghostplane::clock::{Clock, GuardedClock, Sources};
use ghostplane::metrics::{Metrics, Trouble};
use ghostplane::node::{Node, Parts, built_in_tlds};
use ghostplane::op::{Op, Rejection};

use crate::process::{Server, http_get, local};
use crate::support::{Person, START, World, name};

const YEARS: u64 = 5 * 365 * 86_400;

/// A world whose time is a guarded clock's: [`World::time`] is the wall clock.
struct Machine {
    world: World,
    steady: Arc<AtomicU64>,
}

impl Machine {
    fn new() -> Self {
        let (wall, steady, operator) = (Arc::new(AtomicU64::new(START)), Arc::new(AtomicU64::new(0)), Person::new(200));
        let read = |number: &Arc<AtomicU64>| -> Clock {
            let number = number.clone();
            Arc::new(move || number.load(Relaxed))
        };
        let metrics = Arc::<Metrics>::default();
        let sources = Sources { wall: read(&wall), steady: read(&steady), slept: Arc::new(|| 0) };
        let clock = GuardedClock::start(sources, 0, false, metrics.clone()).clock();
        let parts = Parts::in_memory(built_in_tlds().unwrap(), operator.id(), clock).unwrap();
        let node = Node::start(Parts { metrics, ..parts }).unwrap();
        Self { world: World { node, time: wall, operator }, steady }
    }

    fn pass(&self, seconds: u64) {
        self.world.advance(seconds);
        self.steady.fetch_add(seconds, Relaxed);
    }
}

/// T15: a commit under a clock that has jumped is refused, unattended ones included; names do not expire by it; and when the
/// clock is right again, so is everything.
#[test]
fn nothing_is_written_under_a_clock_that_has_jumped() {
    for jump in [YEARS as i64, -(YEARS as i64), 3_700, -3_700] {
        let mut machine = Machine::new();
        let mut alice = machine.world.person(1);
        machine.world.register(&mut alice, "alice.ghost");
        machine.world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
        machine.pass(100);
        let turn = |by: i64| machine.world.time.store(machine.world.now().wrapping_add_signed(by), Relaxed);
        turn(jump);
        let jumped = Rejection::ClockJump { now: START + 100 };
        // Signed for either time.
        let renew = || Op::Renew { name: name("alice.ghost"), years: 1 };
        assert_eq!(machine.world.submit(&mut alice, renew()), Err(jumped.clone()), "{jump}");
        // The gateway's own ops, that nobody asks for.
        let sigil = machine.world.node.gateway.engine().sigil.clone();
        assert_eq!(machine.world.node.write(&sigil, Op::RenewDue { names: vec![name("alice.ghost")] }), Err(jumped));
        assert!(machine.world.node.metrics.health.has(Trouble::Clock));
        assert_eq!(machine.world.ask("alice.ghost", "A").rcode, 0);
        turn(-jump);
        machine.pass(10);
        machine.world.submit(&mut alice, renew()).unwrap();
        assert!(!machine.world.node.metrics.health.has(Trouble::Clock));
    }
}

/// T15: a log that stands in the future keeps its history, and goes on in the present once its operator says so.
#[test]
fn a_log_that_is_ahead_is_set_right_by_its_operator() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    // As it was before there was a guard: one commit under a wrong clock.
    world.advance(YEARS);
    world.register(&mut alice, "ahead.ghost");
    world.time.store(START + 60, Relaxed);
    let ahead = Rejection::LogAhead { latest: START + YEARS, now: START + 60 };
    let register = Op::Register { name: name("now.ghost"), years: 1 };
    assert_eq!(world.submit(&mut alice, register.clone()), Err(ahead.clone()));
    assert!(world.node.metrics.health.has(Trouble::LogAhead));
    // Nobody else can.
    let policy = ghostplane::state::load::DEFAULT_POLICY;
    assert_eq!(world.submit(&mut alice, Op::SetLoad { policy }), Err(Rejection::NotOperator));
    assert_eq!(world.submit(&mut alice, register.clone()), Err(ahead));
    let amended = world.govern(Op::SetLoad { policy }).unwrap();
    assert_eq!(amended.time, START + 60);
    assert_eq!(world.submit(&mut alice, register).unwrap().time, START + 60);
    assert!(!world.node.metrics.health.has(Trouble::LogAhead));
    // The past is still there, and accounts fill from now on.
    let mana = |world: &World| world.node.service.account(&alice.id().to_string()).unwrap().mana;
    let before = mana(&world);
    world.advance(3_600);
    assert!(mana(&world) > before);
    let found = audit(&world.node.service.registry, &*world.node.service.tlds, &mut |_| {}).unwrap();
    assert!(found.is_clean(), "{:#?}", found.wrong);
    // In a log without it, an op that is older than the one before it is wrong: see `log`.
    assert_eq!(found.ops, world.node.service.registry.snapshot().unwrap().last_seq().unwrap());
}

/// T15, from outside: a sentence, a metric, a red light; `--accept-time` once; and a log that is ahead has its command.
#[test]
fn a_server_tells_that_its_clock_has_jumped() {
    let dir = tempfile::tempdir().unwrap();
    let (data, clock) = (dir.path().join("data"), dir.path().join("clock").to_str().unwrap().to_owned());
    // The wall clock, and what a steady one counts.
    let turn = |wall: u64, steady: u64| std::fs::write(&clock, format!("{wall} {steady}\n")).unwrap();
    let at = ["--clock", &clock];
    turn(START, 0);
    let server = Server::start_with(&data, &at);
    let run = |server: &Server, args: &[&str]| {
        let output = server.run("https", &[args, &at].concat());
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(told).unwrap())
    };
    // Its reasons are up to a second old.
    let ready_says = |server: &Server, words: &str| {
        let ready = || http_get(server.port("metrics"), "/readyz");
        while !ready().contains(words) {
            std::thread::yield_now();
        }
    };
    assert!(run(&server, &["name", "register", "alice.ghost"]).0);
    ready_says(&server, "200 OK");
    turn(START + YEARS, 10);
    let (ok, told) = run(&server, &["name", "register", "bob.ghost"]);
    assert!(!ok && told.contains("904") && told.contains("--accept-time"), "{told}");
    ready_says(&server, "the clock has jumped");
    let scraped = http_get(server.port("metrics"), "/metrics");
    assert!(scraped.contains("ghostplane_trouble{kind=\"clock\"} 1"), "{scraped}");
    assert!(run(&server, &["name", "show", "alice.ghost"]).1.contains("alice.ghost"));
    turn(START + 20, 20);
    assert!(run(&server, &["name", "register", "bob.ghost"]).0);
    ready_says(&server, "200 OK");
    server.kill();
    // Off for years, by the wall clock: it serves what it knows, and does not believe that.
    turn(START + YEARS, 0);
    let server = Server::start_with(&data, &at);
    ready_says(&server, "the clock has jumped");
    assert!(!run(&server, &["name", "register", "carol.ghost"]).0);
    server.kill();
    let server = Server::start_with(&data, &[&at[..], &["--accept-time"]].concat());
    assert!(run(&server, &["name", "register", "carol.ghost"]).0);
    server.kill();
    // It was wrong all the same.
    turn(START + 100, 0);
    let server = Server::start_with(&data, &[&at[..], &["--accept-time"]].concat());
    let (ok, told) = run(&server, &["name", "register", "dora.ghost"]);
    assert!(!ok && told.contains("905") && told.contains("amend-time"), "{told}");
    let (ok, told) = run(&server, &["log", "amend-time"]);
    assert!(ok, "{told}");
    let (ok, told) = run(&server, &["name", "register", "dora.ghost"]);
    assert!(ok, "{told}");
    ready_says(&server, "200 OK");
    assert!(server.terminate().success());
    local(&["log", "verify", "--data", data.to_str().unwrap()]);
}
