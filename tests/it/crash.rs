//! What is left after a SIGKILL at any moment: every acknowledged op, no half one.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use ed25519_dalek::SigningKey;
use ghostplane::audit::audit;
use ghostplane::cli::author::{self, Author, Call as _, OpResult, Target};
use ghostplane::cli::signing::Signers;
use ghostplane::gateway::Tlds;
use ghostplane::node::{SHIPPED, built_in_tlds};
use ghostplane::op::{self, Op, SigilId};
use ghostplane::registry::{FORMAT, Genesis, OpenError, Registry};
use ghostplane::state::{At, Model, View as _, apply};
use ghostplane::wire::{Rrset, rdata};
use serde_json::Value;

use crate::process::{PROGRAM, Server};
use crate::support::name;

fn never() -> Genesis {
    panic!("there is a registry already")
}

/// Replays the log from nothing and compares every row with the tables.
fn assert_log_is_the_state(data: &Path) -> Registry {
    let registry = Registry::open(&data.join("registry.redb"), never).unwrap();
    let snapshot = registry.snapshot().unwrap();
    let shipped = SHIPPED.iter().map(|(_, wasm)| wasm.to_vec());
    let rules = Tlds::new(built_in_tlds().unwrap(), shipped, registry.genesis().operator);
    let mut model = Model::default();
    for seq in 1..=snapshot.last_seq().unwrap() {
        let entry = snapshot.log_entry(seq).unwrap().unwrap_or_else(|| panic!("no op {seq} in the log"));
        let op = op::verify(&entry.op, registry.id(), entry.time).unwrap();
        let effects = apply(&model, &rules, At { seq, time: entry.time }, &op);
        model.commit(&effects.unwrap_or_else(|error| panic!("op {seq}: {error:?}")).changes);
    }
    let [names, rrsets, contracts, accounts, _] = snapshot.counts().unwrap();
    assert_eq!(names as usize, model.names.len());
    assert_eq!(rrsets as usize, model.rrsets.values().map(|types| types.len()).sum::<usize>());
    assert_eq!((contracts as usize, accounts as usize), (model.contracts.len(), model.accounts.len()));
    for (id, account) in &model.accounts {
        assert_eq!(snapshot.account(id).unwrap(), *account);
    }
    for (name, entry) in &model.names {
        assert_eq!(snapshot.name(name).unwrap().as_ref(), Some(entry));
        let Ok(below) = model.rrsets_below(name);
        assert_eq!(snapshot.rrsets_below(name).unwrap(), below);
    }
    let found = audit(&registry, &rules, &mut |_| {}).unwrap();
    assert!(found.is_clean(), "{:#?}", found.wrong);
    registry
}

fn load_key(path: &Path) -> SigningKey {
    use ed25519_dalek::pkcs8::DecodePrivateKey as _;
    SigningKey::from_pkcs8_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Registers names and puts records, batch after batch, until the server is gone; tells of every batch that
/// was acknowledged.
fn write_until_killed(server: &Server, data: &Path, round: usize, told: &mpsc::Sender<Vec<(u64, Vec<u8>)>>) {
    let mut rpc = server.rpc();
    let target = Target::fetch(&mut rpc).unwrap();
    let mut author = Author::fetch(load_key(&data.join("dev.pem")), &mut rpc).unwrap();
    for batch in 0.. {
        let mut ops = Vec::new();
        for n in 0..4 {
            let owner = name(&format!("r{round}b{batch}n{n}.ghost"));
            ops.push(author.sign(&target, Op::Register { name: owner.clone(), years: 1 }));
            let text = rdata::txt(format!("{round} {batch} {n}").as_bytes());
            let rrset = Rrset::new(owner.clone(), "TXT".parse().unwrap(), 60, [text]);
            let rrset = Signers::new(&author.key, Vec::new()).sign(&owner, &rrset, target.time, 30);
            ops.push(author.sign(&target, Op::put(owner, vec![rrset])));
        }
        let Ok(outcomes) = author::submit(&mut rpc, &ops) else { return };
        let acknowledged = outcomes.iter().zip(ops).map(|(outcome, op)| match outcome {
            OpResult::Accepted { seq, .. } => (*seq, op),
            rejected => panic!("{rejected:?}"),
        });
        told.send(acknowledged.collect()).unwrap();
    }
}

/// How often to cut: `GHOSTPLANE_CUTS=1000` for a long night.
fn cuts() -> usize {
    std::env::var("GHOSTPLANE_CUTS").map_or(4, |cuts| cuts.parse().expect("a number"))
}

#[test]
fn an_acknowledged_op_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let mut all = Vec::new();
    let cuts = cuts();
    for (round, batches) in [1, 4, 2, 9].into_iter().cycle().take(cuts).enumerate() {
        let server = Server::start(data);
        let (told, heard) = mpsc::channel();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| write_until_killed(&server, data, round, &told));
            for _ in 0..batches {
                all.extend(heard.recv().unwrap());
            }
            // The next batches are on their way, at whatever point they may be.
            let pid = server.pid();
            assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
            writing.join().unwrap();
        });
        drop(told);
        all.extend(heard.iter().flatten());
        server.kill();
        // Replaying all of a long log after each cut would take the night.
        if round % 20 > 3 && round + 1 < cuts {
            continue;
        }
        let registry = assert_log_is_the_state(data);
        let snapshot = registry.snapshot().unwrap();
        for (seq, op) in &all {
            assert_eq!(snapshot.log_entry(*seq).unwrap().map(|entry| entry.op).as_ref(), Some(op), "op {seq}");
        }
    }
}

#[test]
fn an_import_that_was_killed_completes_when_it_is_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let mut lines = String::new();
    for n in 0..240 {
        writeln!(
            lines,
            r#"{{"name":"imported{n}","owner":{},"records":{{"A":["192.0.2.{}"],"TXT":["number {n}"]}}}}"#,
            n / 3,
            n % 250 + 1
        )
        .unwrap();
    }
    lines.push_str("{\"name\":\"ns\",\"owner\":1,\"records\":{\"A\":[\"192.0.2.1\"]}}\n");
    let file = data.join("names.jsonl");
    std::fs::write(&file, lines).unwrap();
    let file = file.to_str().unwrap();
    for wanted in [1, 90] {
        let server = Server::start(data);
        let mut rpc = server.rpc();
        let mut seq = || rpc.call("registry.info", Value::Null).unwrap()["names"].as_u64().unwrap();
        let before = seq();
        let https = format!("127.0.0.1:{}", server.port("https"));
        let mut import = Command::new(PROGRAM);
        import.args(["zone", "import", file, "--tld", "ghost", "--server", &https, "--data"]).arg(data);
        let mut import = import.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        while seq() < before + wanted && import.try_wait().unwrap().is_none() {}
        server.kill();
        let output = import.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || told.contains("run it again"), "{told}");
        assert_log_is_the_state(data);
    }
    let server = Server::start(data);
    let report = data.join("report.jsonl");
    let import = ["zone", "import", file, "--tld", "ghost", "--report", report.to_str().unwrap()];
    server.ok("https", &import);
    let refused = std::fs::read_to_string(&report).unwrap();
    assert!(refused.lines().count() == 1 && refused.contains("name server"), "{refused}");
    for n in [0, 101, 239] {
        let asked = format!("imported{n}.ghost");
        assert_eq!(server.ok("quic", &["query", &asked, "A", "--short"]).trim(), format!("192.0.2.{}", n % 250 + 1));
    }
    // Once more, and there is nothing left to do.
    let again = server.run("https", &import);
    assert!(again.status.success() && String::from_utf8_lossy(&again.stderr).contains("0 ops to sign"), "{again:?}");
    let info = server.rpc().call("registry.info", Value::Null).unwrap();
    assert_eq!((info["names"].as_u64(), info["rrsets"].as_u64()), (Some(240), Some(720)));
    server.kill();
    assert_log_is_the_state(data);
}

#[test]
fn a_server_that_was_told_to_stop_has_closed_its_registry() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        assert!(Server::start(dir.path()).terminate().success());
        let mut builder = redb::Database::builder();
        builder.set_repair_callback(|repair| panic!("not closed: {}", repair.progress()));
        drop(builder.open(dir.path().join("registry.redb")).unwrap());
    }
}

#[test]
fn a_data_directory_has_one_process_and_one_format() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let second =
        Command::new(PROGRAM).args(["serve", "--dev", "--port-base", "0", "--data"]).arg(dir.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another process"), "{second:?}");
    assert!(server.terminate().success());

    let path = dir.path().join("other.redb");
    let operator = SigilId([0; 32]);
    let genesis = || Genesis { format: FORMAT + 1, operator, created: 0, salt: vec![] };
    drop(Registry::open(&path, genesis));
    let refused = Registry::open(&path, never).err().unwrap();
    assert!(matches!(refused, OpenError::Format { found, .. } if found == FORMAT + 1), "{refused}");
    std::fs::write(&path, b"not a registry, but long enough to be taken for one").unwrap();
    assert!(matches!(Registry::open(&path, never).err().unwrap(), OpenError::Damaged { .. }));
    assert_eq!(std::fs::read(&path).unwrap(), b"not a registry, but long enough to be taken for one");
}
