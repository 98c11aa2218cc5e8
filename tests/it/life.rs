//! The life of names: commit and reveal, fees, plans of renewal, offers, locks, scripts.

use std::process::Command;

use ghostplane::dnssec::{FLAGS_OWNER, Secret, ZoneKey};
use ghostplane::limits::{MAX_COMMITMENTS, YEAR};
use ghostplane::op::{AutoRenew, Op, Price, Rejection, SigilId, Symbol};
use ghostplane::state::life::commitment;
use ghostplane::state::{NameEntry, View as _};
use ghostplane::wire::{Name, Rrset, Rtype};
use ghostplane::writer::Outcome;

use crate::process::{PROGRAM, Server, local};
use crate::support::{Person, World, name};

const DAY: u64 = 86_400;
const SECRET: [u8; 32] = [7; 32];

const PRICES: &str = "[prices]\nregister = 100\nrenew = 50\ntransfer = 20\nrelease = 5\nput_records = 5\n\
    delete_records = 2\ndeploy = 200\nbind = 10\nper_kib = 1\n";

/// `.ghost` with a policy of the test's.
fn world(policy: &str) -> World {
    World::with_policy(&format!("tld = \"ghost\"\ncontract = \"ghost\"\n{policy}\n{PRICES}"))
}

fn entry(world: &World, text: &str) -> NameEntry {
    world.node.service.registry.snapshot().unwrap().name(&name(text)).unwrap().unwrap()
}

fn commit(world: &World, person: &mut Person, text: &str) -> Outcome {
    let hash = commitment(&name(text), &person.id(), &SECRET);
    world.submit(person, Op::Commit { hash })
}

fn reveal(world: &World, person: &mut Person, text: &str) -> Outcome {
    world.submit(person, Op::Reveal { name: name(text), years: 1, secret: SECRET })
}

fn gcc(world: &World, id: SigilId) -> u64 {
    world.node.service.registry.snapshot().unwrap().balance(&id, Symbol::GCC).unwrap().available
}

fn code(outcome: Outcome) -> u16 {
    outcome.map_or_else(|rejection| rejection.code(), |_| 0)
}

#[test]
fn nobody_gets_before_whoever_committed_first() {
    let mut world = world("[registration]\ncommit = true\ncommit_min = 5\ncommit_max = 100");
    let (mut alice, mut mallory) = (world.person(1), world.person(2));
    let terms = world.node.service.terms("alice.ghost").unwrap();
    assert!(terms.commit && terms.available);
    let register = Op::Register { name: name("alice.ghost"), years: 1 };
    assert_eq!(world.submit(&mut alice, register), Err(Rejection::CommitFirst(name("alice.ghost"))));
    commit(&world, &mut alice, "alice.ghost").unwrap();
    world.advance(5);
    // Mallory sees the reveal on its way, and copies name and secret.
    assert_eq!(code(reveal(&world, &mut mallory, "alice.ghost")), 313);
    commit(&world, &mut mallory, "alice.ghost").unwrap();
    let early = reveal(&world, &mut mallory, "alice.ghost");
    assert_eq!(early, Err(Rejection::CommitmentAge { age: 0, min: 5, max: 100 }));
    reveal(&world, &mut alice, "alice.ghost").unwrap();
    world.advance(5);
    assert_eq!(code(reveal(&world, &mut mallory, "alice.ghost")), 302);
    assert!(!world.node.service.terms("alice.ghost").unwrap().available);
    // A secret serves once; a commitment ends.
    world.submit(&mut alice, Op::Release { name: name("alice.ghost") }).unwrap();
    assert_eq!(code(reveal(&world, &mut alice, "alice.ghost")), 313);
    world.advance(101);
    assert_eq!(code(reveal(&world, &mut mallory, "alice.ghost")), 314);
}

#[test]
fn open_commitments_are_bounded_and_forgotten() {
    let mut world = world("");
    let mut alice = world.person(1);
    for number in 0..MAX_COMMITMENTS {
        commit(&world, &mut alice, &format!("n{number}.ghost")).unwrap();
    }
    assert_eq!(code(commit(&world, &mut alice, "more.ghost")), 408);
    commit(&world, &mut alice, "n0.ghost").unwrap();
    world.advance(8 * DAY);
    commit(&world, &mut alice, "more.ghost").unwrap();
    assert_eq!(world.node.service.commitments(&alice.id().to_string()).unwrap().len(), 1);
}

#[test]
fn fees_are_paid_to_the_operator_by_the_year() {
    let mut world = world(
        "[labels.premium]\ngold = \"GCC 100\"\n[registration]\ngrace_days = 10\nredemption_days = 10\n[fees]\n\
         register = \"GCC 2\"\nrenew = \"GCC 1.5\"\nrestore = \"GCC 10\"\ntransfer = \"COIN 1\"",
    );
    let mut alice = world.person(1);
    let unit = 1_000_000_000;
    let register = |years| Op::Register { name: name("alice.ghost"), years };
    let short = Rejection::Balance { token: Symbol::GCC, have: 0, need: 6 * unit };
    assert_eq!(world.submit(&mut alice, register(3)), Err(short));
    world.fund(alice.id(), 20 * unit);
    world.submit(&mut alice, register(3)).unwrap();
    assert_eq!(gcc(&world, alice.id()), 14 * unit);
    let operator = world.operator.id();
    assert_eq!(gcc(&world, operator), 6 * unit);
    world.submit(&mut alice, Op::Renew { name: name("alice.ghost"), years: 1 }).unwrap();
    assert_eq!(gcc(&world, alice.id()), 12_500_000_000);
    let premium = Op::Register { name: name("gold.ghost"), years: 1 };
    let dear = Rejection::Balance { token: Symbol::GCC, have: 12_500_000_000, need: 100 * unit };
    assert_eq!(world.submit(&mut alice, premium), Err(dear));
    // Nobody has made the token that a transfer is to be paid in.
    let give = Op::Transfer { name: name("alice.ghost"), to: operator };
    assert_eq!(code(world.submit(&mut alice, give)), 800);
    // Restoring costs its own fee and the renewal's, out of one balance.
    world.advance(4 * YEAR + 15 * DAY);
    world.submit(&mut alice, Op::Restore { name: name("alice.ghost"), years: 1 }).unwrap();
    assert_eq!(gcc(&world, alice.id()), unit);
    let why: Vec<String> =
        world.node.service.moves(&alice.id().to_string(), None, 9).unwrap().into_iter().map(|line| line.why).collect();
    assert_eq!(why, ["fee", "fee", "fee", "fee", "mint"]);
    let fee = world.node.service.terms("gold.ghost").unwrap().renew.unwrap();
    assert_eq!((fee.token.as_str(), fee.amount.as_str(), fee.decimals), ("GCC", "100", 0));
}

#[test]
fn dates_stay_as_the_owner_has_seen_them() {
    let mut world = world("[registration]\ngrace_days = 3\nredemption_days = 4");
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    let view = world.node.service.name("alice.ghost").unwrap();
    let expires = world.now() + YEAR;
    assert_eq!((view.expires, view.life.grace_until, view.free_at), (expires, expires + 3 * DAY, expires + 7 * DAY));
    let phase = |world: &World| world.node.service.name("alice.ghost").unwrap().life.phase;
    for (wait, expected) in [(YEAR - 1, "live"), (1, "grace"), (3 * DAY, "redemption"), (4 * DAY, "free")] {
        world.advance(wait);
        assert_eq!(phase(&world), expected);
    }
    assert_eq!(code(world.submit(&mut alice, Op::Renew { name: name("alice.ghost"), years: 1 })), 304);
    assert_eq!(code(world.submit(&mut alice, Op::Restore { name: name("alice.ghost"), years: 1 })), 304);
    assert!(world.node.service.terms("alice.ghost").unwrap().available);
}

fn gateway(world: &World) -> SigilId {
    SigilId::from(&world.node.gateway.engine().sigil.verifying_key())
}

fn plan(years: u32, amount: u64) -> Option<AutoRenew> {
    Some(AutoRenew { years, most: Some(Price { token: Symbol::GCC, amount }) })
}

#[test]
fn a_planned_renewal_is_paid_a_day_ahead_from_the_owners_account() {
    let mut world = world("[fees]\nrenew = \"GCC 0.000000005\"");
    let (mut alice, mut bob) = (world.person(1), world.person(2));
    let gateways = vec![gateway(&world)];
    let policy = ghostplane::state::gas::DEFAULT_POLICY;
    world.govern(Op::SetGas { policy, gateways }).unwrap();
    for text in ["a.ghost", "b.ghost", "c.ghost"] {
        world.register(&mut alice, text);
        world.submit(&mut alice, Op::SetAutoRenew { name: name(text), plan: plan(2, 10) }).unwrap();
    }
    world.submit(&mut alice, Op::SetAutoRenew { name: name("c.ghost"), plan: plan(2, 9) }).unwrap();
    let hindrance = |world: &World, text: &str| {
        let view = world.node.service.name(text).unwrap();
        view.life.auto_renew.and_then(|plan| plan.hindrance)
    };
    assert_eq!(hindrance(&world, "a.ghost").unwrap(), "too little GCC: have 0, need 10 (in its smallest unit)");
    assert!(hindrance(&world, "c.ghost").unwrap().contains("more than the owner's plan allows"));
    world.fund(alice.id(), 15);
    assert_eq!(hindrance(&world, "a.ghost"), None);
    world.advance(YEAR - DAY - 1);
    assert_eq!(world.node.renew_due(), Ok(0));
    let renew = |names: &[&str]| Op::RenewDue { names: names.iter().map(|text| name(text)).collect() };
    assert_eq!(world.submit(&mut alice, renew(&["a.ghost"])), Err(Rejection::NotGateway));
    world.advance(1);
    let (seq, before) = (world.node.service.info().unwrap().seq, entry(&world, "a.ghost").expires);
    // Both are due, and the account pays for one.
    assert_eq!(world.node.renew_due(), Ok(2));
    assert_eq!(world.node.service.info().unwrap().seq, seq + 1);
    assert_eq!(entry(&world, "a.ghost").expires, before + 2 * YEAR);
    assert_eq!([entry(&world, "b.ghost").expires, entry(&world, "c.ghost").expires], [before, before]);
    assert_eq!(gcc(&world, alice.id()), 5);
    // What cannot be paid makes no op, however often it is looked at; in grace it is still tried.
    assert_eq!(world.node.renew_due(), Ok(0));
    world.advance(10 * DAY);
    world.fund(alice.id(), 5);
    assert_eq!(world.node.renew_due(), Ok(1));
    assert_eq!(entry(&world, "b.ghost").expires, before + 2 * YEAR);
    // A new owner has made no plan.
    world.submit(&mut alice, Op::Transfer { name: name("a.ghost"), to: bob.id() }).unwrap();
    assert_eq!(world.node.service.name("a.ghost").unwrap().life.auto_renew, None);
    let off = Op::SetAutoRenew { name: name("a.ghost"), plan: None };
    world.submit(&mut bob, off).unwrap();
}

#[test]
fn a_name_is_sold_for_what_was_agreed() {
    let mut world = world("[registration]\ntransfer = \"accept\"\n[fees]\ntransfer = \"GCC 0.000000003\"");
    let (mut alice, mut bob, mut carol) = (world.person(1), world.person(2), world.person(3));
    world.register(&mut alice, "alice.ghost");
    let about = || name("alice.ghost");
    let give = Op::Transfer { name: about(), to: bob.id() };
    assert_eq!(world.submit(&mut alice, give), Err(Rejection::NeedsAcceptance(about())));
    let until = world.now() + DAY;
    let offer = |to, amount| {
        let price = Some(Price { token: Symbol::GCC, amount });
        Op::Offer { name: name("alice.ghost"), to, price, until }
    };
    world.submit(&mut alice, offer(bob.id(), 50)).unwrap();
    let first = world.offer("alice.ghost");
    // The seller asks for more: who accepts the first offer does not pay the second price.
    world.submit(&mut alice, offer(bob.id(), 70)).unwrap();
    let second = world.offer("alice.ghost");
    world.fund(bob.id(), 72);
    let accept = |offer| Op::Accept { name: name("alice.ghost"), offer };
    assert_eq!(code(world.submit(&mut bob, accept(first))), 316);
    assert_eq!(code(world.submit(&mut carol, accept(second))), 316);
    // The fee is the buyer's, too; a rejection leaves nothing half done.
    let short = Rejection::Balance { token: Symbol::GCC, have: 2, need: 3 };
    assert_eq!(world.submit(&mut bob, accept(second)), Err(short));
    assert_eq!(gcc(&world, bob.id()), 72);
    world.fund(bob.id(), 1);
    world.submit(&mut bob, accept(second)).unwrap();
    assert_eq!((gcc(&world, alice.id()), gcc(&world, bob.id())), (70, 0));
    assert_eq!(entry(&world, "alice.ghost").owner, bob.id());
    assert_eq!(code(world.submit(&mut bob, accept(second))), 316);
    // Whom it is for may decline; nobody else has a say; it ends by itself.
    let free = |to, until| Op::Offer { name: name("alice.ghost"), to, price: None, until };
    world.submit(&mut bob, free(carol.id(), until)).unwrap();
    assert_eq!(code(world.submit(&mut alice, Op::Withdraw { name: about() })), 305);
    world.submit(&mut carol, Op::Withdraw { name: about() }).unwrap();
    world.submit(&mut bob, free(carol.id(), until)).unwrap();
    world.advance(DAY);
    assert_eq!(code(world.submit(&mut carol, accept(world.node.service.info().unwrap().seq))), 316);
    for wrong in [0, world.now(), world.now() + 31 * DAY] {
        assert_eq!(code(world.submit(&mut bob, free(carol.id(), wrong))), 317);
    }
    let itself = bob.id();
    assert_eq!(code(world.submit(&mut bob, free(itself, world.now() + 1))), 308);
    world.advance(YEAR - 10 * DAY);
    let beyond = world.now() + 10 * DAY;
    assert_eq!(code(world.submit(&mut bob, free(carol.id(), beyond))), 317);
}

/// Puts a DNSKEY RRset signed by the person: the sigil's key, online keys and others.
fn put_keys(world: &World, person: &mut Person, text: &str, more: &[Vec<u8>]) -> Outcome {
    let apex: Name = name(text);
    let key = ZoneKey::of_sigil(&person.key);
    let online = world.node.service.keys.get().online()[0].dnskey().to_vec();
    let keys = [vec![key.dnskey().to_vec(), online], more.to_vec()].concat();
    let mut rrset = Rrset::new(apex.clone(), Rtype::DNSKEY, 3_600, keys);
    rrset.rrsigs = vec![key.sign_until(&apex, &rrset, world.now() - 60, world.now() + 30 * DAY).into()];
    world.submit(person, Op::put(apex, vec![rrset]))
}

#[test]
fn a_locked_name_keeps_its_keys_and_whoever_stole_the_sigil_is_seen() {
    let mut world = world("[registration]\nunlock_delay = 600");
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    put_keys(&world, &mut alice, "alice.ghost", &[]).unwrap();
    let lock = |delay| Op::Lock { name: name("alice.ghost"), delay };
    let unlock = || Op::Unlock { name: name("alice.ghost") };
    assert_eq!(code(world.submit(&mut alice, unlock())), 319);
    assert_eq!(code(world.submit(&mut alice, lock(31 * DAY))), 320);
    world.submit(&mut alice, lock(3 * DAY)).unwrap();
    let other = Secret::Ed25519(ed25519_dalek::SigningKey::from_bytes(&[99; 32]));
    let other = ZoneKey::new(other, FLAGS_OWNER).dnskey().to_vec();
    assert_eq!(code(put_keys(&world, &mut alice, "alice.ghost", std::slice::from_ref(&other))), 318);
    let online = [&[1, 0], &other[2..]].concat();
    put_keys(&world, &mut alice, "alice.ghost", &[online]).unwrap();
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
    let gone = Op::Release { name: name("alice.ghost") };
    assert_eq!(
        world.submit(&mut alice, gone.clone()),
        Err(Rejection::Locked { name: name("alice.ghost"), opens: None })
    );
    // A thief cannot make the lock shorter; what is begun is seen, and can be taken back.
    world.submit(&mut alice, lock(0)).unwrap();
    world.submit(&mut alice, unlock()).unwrap();
    let opens = world.now() + 3 * DAY;
    assert_eq!(world.node.service.name("alice.ghost").unwrap().life.lock.unwrap().opens, Some(opens));
    assert_eq!(code(world.submit(&mut alice, unlock())), 319);
    world.advance(3 * DAY - 1);
    world.submit(&mut alice, lock(0)).unwrap();
    world.advance(1);
    assert_eq!(code(world.submit(&mut alice, gone.clone())), 318);
    world.submit(&mut alice, unlock()).unwrap();
    world.advance(3 * DAY);
    assert_eq!(world.node.service.name("alice.ghost").unwrap().life.lock, None);
    put_keys(&world, &mut alice, "alice.ghost", &[other]).unwrap();
    world.submit(&mut alice, gone).unwrap();
}

#[test]
fn a_lock_ends_offers() {
    let mut world = world("");
    let (mut alice, mut bob) = (world.person(1), world.person(2));
    world.register(&mut alice, "alice.ghost");
    let until = world.now() + DAY;
    world.submit(&mut alice, Op::Offer { name: name("alice.ghost"), to: bob.id(), price: None, until }).unwrap();
    let offer = world.offer("alice.ghost");
    world.submit(&mut alice, Op::Lock { name: name("alice.ghost"), delay: 0 }).unwrap();
    assert_eq!(world.offer("alice.ghost"), 0);
    assert_eq!(code(world.submit(&mut bob, Op::Accept { name: name("alice.ghost"), offer })), 318);
}

#[test]
fn names_in_any_script_are_registered_shown_and_answered() {
    let mut world = world("[labels.reserved]\n\"büro\" = \"taken by the office\"");
    let mut alice = world.person(1);
    world.register(&mut alice, "Bücher.ghost");
    world.put(&mut alice, "bücher.ghost", "CNAME", &["日本語.ghost."]).unwrap();
    let told = world.ask_plain("xn--bcher-kva.ghost", "CNAME");
    assert_eq!(told.records, ["answer xn--bcher-kva.ghost. 3600 CNAME xn--wgv71a119e.ghost."]);
    let view = world.node.service.name("BÜCHER.ghost").unwrap();
    assert_eq!((view.name.as_str(), view.life.unicode.as_deref()), ("xn--bcher-kva.ghost.", Some("bücher.ghost")));
    assert_eq!(world.node.service.name("a\u{200d}b.ghost").unwrap_err().to_string().matches("UTS 46").count(), 1);
    // What no label in another script can be the A-label of is not registered.
    for wrong in ["xn--99999999.ghost", "xn--bucher-xyd.ghost", "xn--ab-m1t.ghost"] {
        let refused = world.submit(&mut alice, Op::Register { name: name(wrong), years: 1 });
        assert!(
            matches!(&refused, Err(Rejection::LabelRefused(why)) if why.contains("A-label")),
            "{wrong}: {refused:?}"
        );
    }
    let office = world.submit(&mut alice, Op::Register { name: name("büro.ghost"), years: 1 });
    assert!(matches!(&office, Err(Rejection::LabelRefused(why)) if why.contains("the office")), "{office:?}");
}

/// From the command line and on simulated time: a name is registered, gets records and guardians, is nearly stolen, is
/// recovered when its key is lost, given away, forgotten by whoever has it then, and registered by another.
#[test]
fn a_name_lives_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let (data, clock) = (dir.path().join("data"), path("clock"));
    let time = std::cell::Cell::new(1_800_000_000);
    let advance = |seconds: u64| {
        time.set(time.get() + seconds);
        std::fs::write(&clock, format!("{}\n", time.get())).unwrap();
    };
    advance(0);
    let server = Server::start_with(&data, &["--clock", &clock]);
    let ok = |args: &[&str]| server.ok("https", &[args, &["--clock", &clock]].concat());
    let refused = |args: &[&str]| {
        let output = server.run("https", args);
        assert!(!output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let asked = |args: &[&str]| {
        let output = server.run("quic", &[&["query", "alice.ghost", "A"], args, &["--clock", &clock]].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let who = ["alice", "bob", "carol", "mallory", "again", "heir", "next"];
    let key = |name: &str| path(&format!("{name}.pem"));
    let did: std::collections::HashMap<_, _> =
        who.iter().map(|name| (*name, local(&["sigil", "new", &key(name)]))).collect();
    let fund = |name: &str| ok(&["mana", "grant", &did[name], "--level", "3"]);
    who.iter().for_each(|name| drop(fund(name)));

    // Registered, with records that its owner signs.
    ok(&["name", "register", "alice.ghost", "--sigil", &key("alice")]);
    ok(&["record", "set", "alice.ghost", "A", "192.0.2.1", "--sigil", &key("alice")]);
    let told = asked(&["--validate", "--owner", &did["alice"]]);
    assert!(told.contains("192.0.2.1") && told.contains("secure"), "{told}");

    // Guardians: two of two, three days.
    let set = ok(&[
        "guardian",
        "set",
        "create",
        "--member",
        &did["bob"],
        "--member",
        &did["carol"],
        "--threshold",
        "2",
        "--sigil",
        &key("alice"),
    ]);
    let set = set.lines().last().unwrap().to_owned();
    ok(&["guardian", "recovery", "alice.ghost", &set, "--delay", "3days", "--sigil", &key("alice")]);
    let recover = |to: &str| {
        let file = path(&format!("to-{to}.op"));
        ok(&["guardian", "recover", "alice.ghost", "--to", &did[to], "--sigil", &key("bob"), "--draft", &file]);
        local(&["op", "sign", &file, "--sigil", &key("carol")]);
        ok(&["op", "submit", &file]);
    };
    // They are talked into it; the owner sees and stops it.
    recover("mallory");
    assert!(ok(&["name", "show", "alice.ghost"]).contains(&did["mallory"]));
    advance(DAY);
    ok(&["guardian", "veto", "alice.ghost", "--sigil", &key("alice")]);
    advance(7 * DAY);
    assert!(refused(&["guardian", "finish", "alice.ghost", "--sigil", &key("bob")]).contains("rejected (632)"));
    // The key is lost: nobody stops this one.
    std::fs::remove_file(key("alice")).unwrap();
    recover("again");
    assert!(refused(&["guardian", "finish", "alice.ghost", "--sigil", &key("bob")]).contains("rejected (63"));
    advance(3 * DAY);
    ok(&["guardian", "finish", "alice.ghost", "--sigil", &key("bob")]);
    let shown = ok(&["name", "show", "alice.ghost"]);
    let owner = shown.lines().find(|line| line.starts_with("owner")).unwrap();
    assert!(owner.ends_with(&did["again"]), "{shown}");
    ok(&["name", "sign", "alice.ghost", "--sigil", &key("again")]);
    ok(&["record", "set", "alice.ghost", "A", "192.0.2.2", "--sigil", &key("again")]);
    let told = asked(&["--validate", "--owner", &did["again"]]);
    assert!(told.contains("192.0.2.2") && told.contains("secure"), "{told}");

    // Given away, and taken.
    ok(&["name", "offer", "alice.ghost", "--to", &did["heir"], "--sigil", &key("again")]);
    ok(&["name", "accept", "alice.ghost", "--sigil", &key("heir")]);
    let refused_to = refused(&["record", "set", "alice.ghost", "A", "192.0.2.3", "--sigil", &key("again")]);
    assert!(refused_to.contains("rejected"), "{refused_to}");

    // Expired: 20 days of grace, then 10 in which it can be restored, then it is anybody's.
    advance(350 * DAY);
    fund("next");
    assert!(refused(&["name", "register", "alice.ghost", "--sigil", &key("next")]).contains("rejected (302)"));
    advance(10 * DAY);
    let early = refused(&["name", "register", "alice.ghost", "--sigil", &key("next")]);
    assert!(early.contains("rejected (303)"), "{early}");
    assert!(!asked(&[]).contains("192.0.2.2"));
    advance(15 * DAY);
    let late = refused(&["name", "renew", "alice.ghost", "--sigil", &key("heir")]);
    assert!(late.contains("restore"), "{late}");
    assert!(refused(&["name", "register", "alice.ghost", "--sigil", &key("next")]).contains("rejected ("));
    advance(10 * DAY);
    ok(&["name", "register", "alice.ghost", "--sigil", &key("next")]);
    assert!(!ok(&["record", "list", "alice.ghost"]).contains("192.0.2"));
    ok(&["record", "set", "alice.ghost", "A", "192.0.2.4", "--sigil", &key("next")]);
    let told = asked(&["--validate", "--owner", &did["next"]]);
    assert!(told.contains("192.0.2.4") && told.contains("secure"), "{told}");

    // All of it can be proven, and the store is what the log says.
    let history = ok(&["name", "history", "alice.ghost"]);
    for kind in [
        "register",
        "put_records",
        "set_recovery",
        "start_recovery",
        "veto_recovery",
        "finish_recovery",
        "offer",
        "accept",
    ] {
        assert!(history.contains(kind), "{kind}: {history}");
    }
    assert!(history.contains("each proven to be in the log"), "{history}");
    server.kill();
    let verified = || {
        let output = Command::new(PROGRAM).args(["log", "verify", "--data"]).arg(&data).output().unwrap();
        (output.status.code(), format!("{output:?}"))
    };
    let (code, clean) = verified();
    assert_eq!(code, Some(0), "{clean}");
    // One octet of what is stored, wherever the owner's key stands in it.
    let store = data.join("registry.redb");
    let whole = std::fs::read(&store).unwrap();
    let owner: SigilId = did["next"].parse().unwrap();
    let places: Vec<usize> = (0..whole.len() - 32).filter(|at| whole[*at..*at + 32] == owner.0).collect();
    let mut told = 0;
    for at in &places {
        let mut flipped = whole.clone();
        flipped[at + 31] ^= 1;
        std::fs::write(&store, flipped).unwrap();
        let (code, said) = verified();
        let same = said.contains(&clean);
        assert!(code != Some(0) || same, "octet {at} changed the store, and nothing told of it: {said}");
        told += usize::from(code != Some(0));
    }
    println!("{told} of {} flipped octets told of", places.len());
    assert!(told >= 5, "{told} of {} flipped octets were told of", places.len());
    std::fs::write(&store, whole).unwrap();
    assert_eq!(verified().0, Some(0));
}
