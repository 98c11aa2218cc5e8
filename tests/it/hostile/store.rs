//! The store and its disk: full, full no more, damaged.

use std::io::{Error, ErrorKind, Result, Write as _};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ghostplane::audit::audit;
use ghostplane::metrics::Trouble;
use ghostplane::node::{Node, Parts, built_in_tlds};
use ghostplane::op::{Op, Rejection};
use ghostplane::registry::{FORMAT, Genesis, Registry};
use ghostplane::state::View as _;
use redb::StorageBackend;

use crate::process::{Server, http_get, local};
use crate::support::{Person, START, World, name};

/// A disk that a test fills.
#[derive(Debug, Clone, Default)]
struct Disk {
    octets: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn check(&self) -> Result<()> {
        if self.full.load(Ordering::Relaxed) { Err(Error::from(ErrorKind::StorageFull)) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.octets.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let octets = self.octets.lock().unwrap();
        let from = offset as usize;
        out.copy_from_slice(octets.get(from..from + out.len()).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<()> {
        let mut octets = self.octets.lock().unwrap();
        if length as usize > octets.len() {
            self.check()?;
        }
        octets.resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        // The header stands where it stood: opening a store on a full disk takes no room.
        if offset > 0 {
            self.check()?;
        }
        self.octets.lock().unwrap()[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn world(disk: &Disk) -> World {
    let (time, operator) = (Arc::new(AtomicU64::new(START)), Person::new(200));
    let genesis = Genesis { format: FORMAT, operator: operator.id(), created: START, salt: vec![0; 16] };
    let disk = disk.clone();
    let registry = Registry::on(move || disk.clone(), || genesis).unwrap();
    let clock = time.clone();
    let clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let parts = Parts::in_memory(built_in_tlds().unwrap(), operator.id(), clock).unwrap();
    World { node: Node::start(Parts { registry, ..parts }).unwrap(), time, operator }
}

/// T17: a full disk refuses writes, with words and a red light; reads go on; and when there is room, so do writes, by
/// themselves.
#[test]
fn writes_resume_when_there_is_room_again() {
    let disk = Disk::default();
    let mut world = world(&disk);
    let mut alice = world.person(1);
    world.register(&mut alice, "before.ghost");
    let health = || world.node.metrics.health.has(Trouble::Store);
    let ask = |label: &str| Op::Register { name: name(&format!("{label}.ghost")), years: 1 };
    for round in 0..3 {
        disk.full.store(true, Ordering::Relaxed);
        let refused: Vec<_> = (0..20).map(|_| world.submit(&mut alice, ask(&format!("full{round}")))).collect();
        for refused in refused {
            assert!(matches!(refused, Err(Rejection::Fault(_) | Rejection::StoreFailed { .. })), "{refused:?}");
        }
        assert!(health());
        assert_eq!(world.ask("before.ghost", "A").rcode, 0);
        disk.full.store(false, Ordering::Relaxed);
        // Until the next try is due, the answer is the same; nobody has to do anything.
        while let Err(rejection) = world.submit(&mut alice, ask(&format!("after{round}"))) {
            assert!(matches!(rejection, Rejection::Fault(_) | Rejection::StoreFailed { .. }), "{rejection}");
            std::thread::yield_now();
        }
        assert!(!health());
    }
    let snapshot = world.node.service.registry.snapshot().unwrap();
    for label in ["before", "after0", "after1", "after2"] {
        assert!(snapshot.name(&name(&format!("{label}.ghost"))).unwrap().is_some(), "{label}");
    }
    assert!(world.node.metrics.health.begun(Trouble::Store) >= 3);
    let found = audit(&world.node.service.registry, &*world.node.service.tlds, &mut |_| {}).unwrap();
    assert!(found.is_clean(), "{:#?}", found.wrong);
}

/// A file system of its own, of a few megaoctets; gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where that may not be.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let args = ["-t", "tmpfs", "-o", "size=96m", "none"];
        let output = Command::new("mount").args(args).arg(dir.path()).output().ok()?;
        output.status.success().then_some(Self(dir))
    }

    /// Leaves no octet free.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        for size in [1 << 20, 4_096] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Fails where something is still open; then it goes with the machine.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// T17, from outside: nothing acknowledged is lost, `readyz` is red meanwhile, a start needs no room, nobody restarts anything.
#[test]
fn a_server_on_a_full_disk_serves_and_writes_again() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: no right to mount a small file system");
        return;
    };
    let data = disk.0.path().join("data");
    let server = Server::start(&data);
    let register = |server: &Server, label: &str| {
        server.run("https", &["name", "register", &format!("{label}.ghost")]).status.success()
    };
    let ready = |server: &Server| http_get(server.port("metrics"), "/readyz").contains("200 OK");
    assert!(register(&server, "before"));
    disk.fill();
    // redb keeps some room in its file; sooner or later it needs more.
    let mut kept: Vec<String> = (0..2_000).map(|n| format!("kept{n}")).collect();
    let refused = kept.iter().position(|label| !register(&server, label)).expect("the disk is full");
    kept.truncate(refused);
    while ready(&server) {
        std::thread::yield_now();
    }
    // It reads.
    assert!(server.ok("https", &["name", "show", "before.ghost"]).contains("before.ghost"));
    server.kill();
    let server = Server::start(&data);
    assert!(server.ok("https", &["name", "show", "before.ghost"]).contains("before.ghost"));
    disk.free();
    while !register(&server, "after") {}
    while !ready(&server) {
        std::thread::yield_now();
    }
    for label in kept.iter().map(String::as_str).chain(["before", "after"]) {
        server.ok("https", &["name", "show", &format!("{label}.ghost")]);
    }
    assert!(server.terminate().success());
    local(&["log", "verify", "--data", data.to_str().unwrap()]);
}

/// T18: a store with a damaged page is refused with words when it is opened, or answers what it held; never anything else.
#[test]
fn a_damaged_page_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.redb");
    let operator = Person::new(200);
    let genesis = || Genesis { format: FORMAT, operator: operator.id(), created: START, salt: vec![0; 16] };
    {
        let registry = Registry::open(&path, genesis).unwrap();
        let parts = Parts::in_memory(built_in_tlds().unwrap(), operator.id(), Arc::new(|| START)).unwrap();
        let time = Arc::new(AtomicU64::new(START));
        let mut world =
            World { node: Node::start(Parts { registry, ..parts }).unwrap(), time, operator: Person::new(200) };
        let mut alice = world.person(1);
        (0..40).for_each(|n| world.register(&mut alice, &format!("n{n}.ghost")));
    }
    let whole = std::fs::read(&path).unwrap();
    let rows = |registry: &Registry| {
        let snapshot = registry.snapshot().unwrap();
        let last = snapshot.last_seq().unwrap();
        let log: Vec<_> = (1..=last).map(|seq| snapshot.log_entry(seq).ok()).collect();
        (snapshot.names_after(None, 500).ok(), log)
    };
    let held = rows(&Registry::open(&path, genesis).unwrap());
    let mut refused = 0;
    for round in 0..60_usize {
        let mut octets = whole.clone();
        // One bit to sixty-four, all over the file.
        for flip in 0..1 + round {
            let at = (round * 7_919 + flip * 104_729 + 4_096) * 13 % octets.len();
            octets[at] ^= 1 << (flip % 8);
        }
        std::fs::write(&path, &octets).unwrap();
        match Registry::open(&path, || panic!("founded anew")) {
            Ok(registry) => {
                // Where the newest commit is damaged, redb goes on from the one before, and says so; a gateway knows from its
                // checkpoint that ops are missing.
                let (names, log) = rows(&registry);
                assert!(held.1.starts_with(&log), "round {round}");
                assert!(log.len() < held.1.len() || names == held.0, "round {round}");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0);
}
