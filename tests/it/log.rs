//! The log: what it proves, who vouches for it, and what `log verify` finds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use ghostplane::audit::audit;
use ghostplane::gateway::Tlds;
use ghostplane::node::built_in_tlds;
use ghostplane::notary::{Notary, Refusal, Witnesses, check_continues};
use ghostplane::op::{self, Op, OpBody, SigilId};
use ghostplane::registry::{FORMAT, Genesis, LogEntry, Registry, examine};
use ghostplane::state::{At, Change, View as _, apply};
use ghostplane::tlog::{
    self, Checkpoint, Hash, Hashes as _, Leaf, Note, NoteError, ProofFile, Purpose, VerifierKey, leaf_hash,
};
use ghostplane::wire::{Rrset, rdata};
use redb::ReadableTable as _;
use serde_json::{Value, json};

use crate::process::{PROGRAM, Server};
use crate::support::{START, name};

fn run(args: &[&str], data: &Path) -> Output {
    Command::new(PROGRAM).args(args).arg("--data").arg(data).output().unwrap()
}

/// `log verify` of a stopped server's store: exit code, and what it says.
fn verify_store(data: &Path) -> (Option<i32>, Value) {
    let output = run(&["log", "verify", "--json"], data);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::String(told)))
}

#[test]
fn a_log_is_proven_witnessed_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let at = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let (key, state) = (at("w.pem"), at("w.state"));
    let witness = ["log", "witness", "--name", "w.example/1", "--key", &key, "--state", &state];
    let shown = run(&[&witness[..], &["--show-key"]].concat(), &data);
    let vkey: VerifierKey = String::from_utf8(shown.stdout).unwrap().trim().parse().unwrap();
    assert_eq!((vkey.name(), vkey.purpose()), ("w.example/1", Purpose::Cosignature));
    fs::write(at("config.toml"), format!("[log]\nwitnesses = [\"{vkey}\"]\nquorum = 1\n")).unwrap();

    let server = Server::start_with(&data, &["--config", &at("config.toml")]);
    server.ok("https", &["name", "register", "alice.ghost"]);
    server.ok("https", &["record", "set", "alice.ghost", "A", "192.0.2.1"]);
    server.ok("https", &["name", "register", "bob.ghost"]);
    let log_key: VerifierKey = fs::read_to_string(data.join("log.vkey")).unwrap().trim().parse().unwrap();

    // Registered, signed, a record: three ops, each proven.
    let history = server.ok("https", &["name", "history", "alice.ghost"]);
    assert!(history.contains("register") && history.contains("put_records"), "{history}");
    assert!(history.contains("3 ops, each proven to be in the log of"), "{history}");
    assert!(server.ok("https", &["name", "history", "nobody.ghost"]).starts_with("0 ops"), "{history}");
    let json = |args: &[&str]| -> Value { serde_json::from_str(&server.ok("https", args)).unwrap() };
    let history = json(&["name", "history", "alice.ghost", "--json"]);
    assert_eq!(history["ops"].as_array().map(Vec::len), Some(3));
    let seq = history["ops"][1]["seq"].as_u64().unwrap();

    // A proof file stands on its own.
    let file = at("op.tlog-proof");
    let proof = json(&["log", "proof", &seq.to_string(), "--out", &file, "--json"]);
    let file = ProofFile::parse(&fs::read(file).unwrap()).unwrap();
    let op = BASE64.decode(proof["op"]["op"].as_str().unwrap().as_bytes()).unwrap();
    let leaf = tlog::leaf(proof["op"]["time"].as_u64().unwrap(), &op);
    assert_eq!(file.verify(leaf_hash(&leaf), &log_key).unwrap().size, proof["size"].as_u64().unwrap());
    assert!(file.verify(leaf_hash(b"another"), &log_key).is_err());
    assert!(server.ok("https", &["log", "show", "--from", &seq.to_string(), "--limit", "1"]).contains("alice.ghost."));
    let none = server.run("https", &["log", "proof", "99999"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("not found"), "{none:?}");

    // Tiles are what the tree is made of, entries what it is made over.
    let mut rpc = server.rpc();
    let size = proof["size"].as_u64().unwrap();
    let tile = rpc.get(&format!("/log/tile/0/000.p/{size}")).unwrap();
    let index = seq as usize - 1;
    assert_eq!(tile[32 * index..32 * index + 32], leaf_hash(&leaf).0);
    let bundle = rpc.get(&format!("/log/tile/entries/000.p/{size}")).unwrap();
    assert!(bundle.windows(leaf.len()).any(|window| window == leaf));
    for path in ["/log/tile/0/000", "/log/tile/0/000.p/255", "/log/tile/1/000.p/1", "/log/tile/x", "/log/"] {
        assert!(rpc.get(path).unwrap_err().to_string().contains("404"), "{path}");
    }

    // A witness signs what continues what it has seen.
    assert!(server.ok("https", &witness).starts_with("signed: "));
    let witnessed = json(&["log", "checkpoint", "--witnessed", "--json"]);
    assert_eq!(witnessed["signatures"], json!([log_key.name(), "w.example/1"]));
    let note = Note::parse(witnessed["note"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(note.verify(&[log_key.clone(), vkey.clone()]).unwrap().len(), 2);
    server.ok("https", &["record", "set", "alice.ghost", "A", "192.0.2.2"]);
    assert!(server.ok("https", &witness).contains(", 1 more than before"));
    let checkpoint = server.ok("https", &["log", "checkpoint"]);
    assert!(checkpoint.contains(log_key.name()) && checkpoint.contains("w.example/1"), "{checkpoint}");
    // What the operator does not know is not taken.
    let mut stranger = Note::parse(rpc.get("/log/checkpoint").unwrap().as_ref()).unwrap();
    stranger.signatures = vec![stranger.cosign("w.example/1", &SigningKey::from_bytes(&[9; 32]), 1)];
    let refused = rpc.post("/log/add-cosignatures", "text/plain", stranger.to_string().into()).unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
    let refused = rpc.post("/log/add-cosignatures", "text/plain", "noise".into()).unwrap_err();
    assert!(refused.to_string().contains("400"), "{refused}");

    // A log with two histories is found out: this witness has seen another one.
    let log_secret = load_key(&data.join("keys/log.pem"));
    let other = Checkpoint::new(log_key.name().to_owned(), 3, Hash([7; 32]));
    fs::write(at("other.state"), Note::sign(other.to_string(), log_key.name(), &log_secret).to_string()).unwrap();
    let other = at("other.state");
    let refused = server.run("https", &["log", "witness", "--name", "w.example/1", "--key", &key, "--state", &other]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("two histories"), "{refused:?}");
    let more = Checkpoint::new(log_key.name().to_owned(), 9_999, Hash([7; 32]));
    fs::write(&other, Note::sign(more.to_string(), log_key.name(), &log_secret).to_string()).unwrap();
    let refused = server.run("https", &["log", "witness", "--name", "w.example/1", "--key", &key, "--state", &other]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("lost some"), "{refused:?}");

    // Every op over the wire, those that stand in the tree by their hash among them (the shipped contracts).
    assert!(rpc.get("/log/op/1").is_ok());
    let verified = json(&["log", "verify", "--json"]);
    assert_eq!((&verified["clean"], verified["ops"].as_u64()), (&Value::Bool(true), Some(size + 1)));
    let busy = run(&["log", "verify"], &data);
    assert!(String::from_utf8_lossy(&busy.stderr).contains("in use by another process"), "{busy:?}");
    drop(rpc);
    assert!(server.terminate().success());

    let before = fs::read(data.join("registry.redb")).unwrap();
    let (code, told) = verify_store(&data);
    assert_eq!((code, &told["clean"], &told["wrong"]), (Some(0), &Value::Bool(true), &json!([])), "{told}");
    assert_eq!(told["checkpoint"], told["ops"], "{told}");
    assert!(fs::read(data.join("registry.redb")).unwrap() == before, "looking changed the store");
    // A checkpoint of more than there is: what a rolled-back store looks like. Nothing is signed over it again.
    let newest = data.join("log.checkpoint");
    let kept = fs::read(&newest).unwrap();
    fs::write(&newest, Note::sign(more.to_string(), log_key.name(), &log_secret).to_string()).unwrap();
    let (code, told) = verify_store(&data);
    assert!(code == Some(1) && told["wrong"][0].as_str().unwrap().contains("lost some"), "{told}");
    let refused = run(&["serve", "--dev", "--port-base", "0"], &data);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("lost some"), "{refused:?}");
    fs::write(&newest, kept).unwrap();
    assert!(Server::start(&data).terminate().success());
}

fn load_key(path: &Path) -> SigningKey {
    use ed25519_dalek::pkcs8::DecodePrivateKey as _;
    SigningKey::from_pkcs8_pem(&fs::read_to_string(path).unwrap()).unwrap()
}

// --- A store without a server ----------------------------------------------------------------------

fn author() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn rules() -> Tlds {
    Tlds::new(built_in_tlds().unwrap(), [], SigilId::from(&author().verifying_key()))
}

fn never() -> Genesis {
    panic!("there is a registry already")
}

/// A store with more ops than a tile has, names that come and go, and tokens that move.
fn make_store(path: &Path) -> Registry {
    let key = author();
    let id = SigilId::from(&key.verifying_key());
    let registry = Registry::open(path, || Genesis { format: FORMAT, operator: id, created: 0, salt: vec![] }).unwrap();
    let rules = rules();
    let mut nonce = 0;
    let mut write = |ops: Vec<Op>| {
        let transaction = registry.begin_write().unwrap();
        let tables = transaction.tables().unwrap();
        for op in ops {
            let at = At { seq: nonce + 1, time: START + nonce };
            let body = OpBody { registry: registry.id(), nonce, expires: at.time + 60, op };
            let verified = op::verify(&op::sign(&key, &body), registry.id(), at.time).unwrap();
            let effects = apply(&tables, &rules, at, &verified).unwrap();
            let entry = LogEntry { time: at.time, op: verified.bytes().to_vec() };
            tables.write(at.seq, &entry, &effects).unwrap();
            nonce += 1;
        }
        drop(tables);
        transaction.commit().unwrap();
    };
    write(vec![Op::GrantMana { to: id, level: 5, amount: u64::MAX }]);
    write(vec![Op::Mint { token: op::Symbol::GCC, to: id, amount: 1_000 }]);
    write(vec![Op::DeployContract { wasm: vec![0; 20_000] }]);
    for n in 0..14 {
        let owned = name(&format!("n{n}.ghost"));
        let mut ops = vec![Op::Register { name: owned.clone(), years: 1 }];
        ops.extend((0..18).map(|text| {
            let mut rrset = Rrset::new(owned.clone(), "TXT".parse().unwrap(), 60, [rdata::txt(&[text; 9])]);
            let zone_key = ghostplane::dnssec::ZoneKey::of_sigil(&key);
            rrset.rrsigs = vec![zone_key.sign_until(&owned, &rrset, START - 60, START + 90_000).into()];
            Op::put(owned.clone(), vec![rrset])
        }));
        if n % 3 == 0 {
            ops.push(Op::Release { name: owned });
        }
        write(ops);
    }
    registry
}

fn found(path: &Path) -> Vec<String> {
    let examined = examine(path).unwrap();
    let mut wrong = audit(&examined.registry, &rules(), &mut |_| {}).unwrap().wrong;
    wrong.extend((!examined.intact).then(|| "not intact".to_owned()));
    wrong
}

#[test]
fn every_kind_of_row_that_is_changed_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let pristine = dir.path().join("pristine.redb");
    let registry = make_store(&pristine);
    let snapshot = registry.snapshot().unwrap();
    let size = snapshot.last_seq().unwrap();
    assert!(size > 256 && snapshot.hashes(1, 0, 1).is_ok());
    assert!(matches!(Leaf::parse(&snapshot.log_entry(3).unwrap().unwrap().leaf()), Some(Leaf::Digest { .. })));
    let (owner, gone) = (name("n1.ghost"), name("n0.ghost"));
    assert_eq!(snapshot.history(&gone, 0, u64::MAX, 100).unwrap().len(), 20, "a released name keeps its history");
    let entry = snapshot.name(&owner).unwrap().unwrap();
    let rrset = snapshot.rrsets_below(&owner).unwrap().remove(0);
    let id = SigilId::from(&author().verifying_key());
    let account = snapshot.account(&id).unwrap();
    drop((snapshot, registry));
    assert_eq!(found(&pristine), [] as [&str; 0]);

    let copy = dir.path().join("copy.redb");
    let changed = |change: &dyn Fn(&Path)| {
        fs::copy(&pristine, &copy).unwrap();
        change(&copy);
        found(&copy)
    };
    let rows = |changes: Vec<Change>| {
        changed(&|path| {
            let registry = Registry::open(path, never).unwrap();
            let transaction = registry.begin_write().unwrap();
            transaction.tables().unwrap().write_changes(&changes).unwrap();
            transaction.commit().unwrap();
        })
    };
    let mut longer = entry.clone();
    longer.expires += 1;
    assert_eq!(rows(vec![Change::PutName(owner.clone(), longer)]), ["names: n1.ghost. is not what the log makes it"]);
    assert_eq!(rows(vec![Change::DropName(owner.clone())]), ["names: n1.ghost. is missing"]);
    assert_eq!(rows(vec![Change::PutName(gone.clone(), entry)]), ["names: n0.ghost. should not be there"]);
    // Rows of before rates were kept are right without one; another rate is not.
    assert_eq!(rows(vec![Change::PutRrset(rrset.clone(), None)]), [] as [&str; 0]);
    let dearer = vec![Change::PutRrset(rrset.clone(), Some(9))];
    assert_eq!(rows(dearer), ["records: n1.ghost. TXT is not what the log makes it"]);
    let other = Rrset { ttl: 61, ..rrset };
    assert_eq!(rows(vec![Change::PutRrset(other, None)]), ["records: n1.ghost. TXT is not what the log makes it"]);
    let granted = account.granted(START, 5, 1);
    let said = rows(vec![Change::PutAccount(id, granted), Change::PutAccount(SigilId([9; 32]), granted)]);
    assert!(said.len() == 2 && said.iter().any(|said| said.contains(&id.to_string())), "{said:?}");

    let table = |change: &dyn Fn(&redb::WriteTransaction)| {
        changed(&|path| {
            let database = redb::Database::open(path).unwrap();
            let transaction = database.begin_write().unwrap();
            change(&transaction);
            transaction.commit().unwrap();
        })
    };
    let log = redb::TableDefinition::<u64, &[u8]>::new("log");
    let flip = |seq: u64, at: usize| {
        table(&|transaction| {
            let mut log = transaction.open_table(log).unwrap();
            let mut row = log.get(seq).unwrap().unwrap().value().to_vec();
            row[at] ^= 1;
            log.insert(seq, &row[..]).unwrap();
        })
    };
    // The time of an op is nobody's signature but the tree's.
    let said = flip(size, 5);
    assert!(
        said.iter().any(|said| said == &format!("tree: hash {} of level 0 is not what the log makes it", size - 1))
    );
    let said = flip(7, 100);
    assert!(said[0].starts_with("log: op 7: ") && said[1].contains("cannot be compared"), "{said:?}");
    let said = table(&|transaction| drop(transaction.open_table(log).unwrap().remove(9).unwrap()));
    assert_eq!(said[0], "log: after op 8 comes op 10");
    let said = table(&|transaction| drop(transaction.open_table(log).unwrap().remove(size).unwrap()));
    assert!(said.iter().any(|said| said == &format!("tree: hash {} of level 0 should not be there", size - 1)));
    let tree = redb::TableDefinition::<(u8, u64), &[u8; 32]>::new("tree");
    let said = table(&|transaction| drop(transaction.open_table(tree).unwrap().insert((1, 0), &[0; 32]).unwrap()));
    assert_eq!(said, ["tree: hash 0 of level 1 is not what the log makes it"]);
    let history = redb::TableDefinition::<(&[u8], u64), ()>::new("history");
    let key = gone.sort_key();
    let said = table(&|transaction| drop(transaction.open_table(history).unwrap().remove((&key[..], 4)).unwrap()));
    assert_eq!(said, ["history: n0.ghost. op 4 is missing"]);
    let balances = redb::TableDefinition::<(&[u8], &str), &[u8]>::new("balances");
    let said = table(&|transaction| {
        transaction.open_table(balances).unwrap().retain(|_, _| false).unwrap();
    });
    assert_eq!(said, [format!("balances: {id} GCC is missing")]);
    let said = table(&|transaction| drop(transaction.open_table(redb::TableDefinition::<u64, u64>::new("x")).unwrap()));
    assert_eq!(said, ["x: the whole table should not be there"]);
}

/// What stands in a store is covered by its pages' checksums, and what those cover is compared with the log. So a flipped
/// bit is either told of, or the store holds exactly what it held: it fell into octets that nothing is in.
#[test]
fn a_flipped_bit_is_found_or_lies_where_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.redb");
    let registry = make_store(&path);
    let notary = Notary::new(author(), registry.id(), Witnesses::default(), Some(dir.path())).unwrap();
    notary.write_down(&registry.snapshot().unwrap()).unwrap();
    // As a killed server leaves it, and as one that has stopped.
    let open = fs::read(&path).unwrap();
    drop(registry);
    let newest: Checkpoint =
        Note::parse(&fs::read(dir.path().join("log.checkpoint")).unwrap()).unwrap().text.parse().unwrap();
    let closed = fs::read(&path).unwrap();
    let rules = rules();
    let original = audit(&examine(&path).unwrap().registry, &rules, &mut |_| {}).unwrap();
    assert!(original.is_clean() && original.ops == newest.size);

    // All of the header, and as many other places as a test has time for.
    let some = |octets: &[u8], most| (4_096..octets.len()).step_by((octets.len() / most) | 1).collect::<Vec<usize>>();
    let of = |octets, places: Vec<usize>| places.into_iter().map(move |at| (octets, at));
    let header = || (0..320).step_by(9).collect();
    let places = of(&closed, header()).chain(of(&closed, some(&closed, 80)));
    let places = places.chain(of(&open, header())).chain(of(&open, some(&open, 20)));
    let copy: PathBuf = dir.path().join("copy.redb");
    let (mut told, mut unused) = (0, 0);
    for (number, (octets, at)) in places.enumerate() {
        let mut octets = octets.clone();
        octets[at] ^= 1 << (number % 8);
        fs::write(&copy, &octets).unwrap();
        let Ok(examined) = examine(&copy) else {
            told += 1;
            continue;
        };
        let again = audit(&examined.registry, &rules, &mut |_| {}).unwrap();
        let continues = check_continues(&copy, &newest, &examined.registry.snapshot().unwrap());
        if examined.intact && examined.newest && again.is_clean() && continues.is_ok() {
            assert_eq!(again, original, "octet {at} changed what is in the store, and nothing told of it");
            unused += 1;
        } else {
            told += 1;
        }
    }
    println!("{told} told of, {unused} where nothing is");
    assert!(told > 20, "{told} told of, {unused} where nothing is");
}

#[test]
fn a_round_of_witnessing_keeps_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let registry = make_store(&dir.path().join("registry.redb"));
    let keys = [2, 3].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let names = ["w/2", "w/3"];
    let of = |at: usize| VerifierKey::new(names[at], Purpose::Cosignature, &keys[at].verifying_key()).unwrap();
    let witnesses = Witnesses { keys: vec![of(0), of(1)], quorum: 2 };
    let notary = Notary::new(author(), registry.id(), witnesses.clone(), Some(dir.path())).unwrap();
    let snapshot = registry.snapshot().unwrap();
    let offered = notary.offered(&snapshot, START).unwrap();
    let signed = |note: &Note, at: usize, time: u64| {
        let mut note = note.clone();
        note.signatures = vec![note.cosign(names[at], &keys[at], time)];
        note.to_string().into_bytes()
    };
    assert_eq!(notary.cosign(&signed(&offered, 0, START + 301), START), Err(Refusal::Ahead));
    assert_eq!(notary.cosign(&signed(&offered, 0, START), START), Ok(1));
    assert_eq!(notary.cosign(&signed(&offered, 0, START + 1), START), Ok(1), "one witness counts once");
    assert_eq!(notary.witnessed(), None);
    let other = Note::sign(Checkpoint::new("other".to_owned(), 1, Hash([0; 32])).to_string(), "other", &author());
    assert_eq!(notary.cosign(&signed(&other, 0, START), START), Err(Refusal::NotOffered));
    assert_eq!(notary.cosign(offered.to_string().as_bytes(), START), Err(Refusal::Note(NoteError::Untrusted)));
    assert_eq!(notary.cosign(&signed(&offered, 1, START), START), Ok(2));
    let witnessed = notary.witnessed().unwrap();
    assert_eq!((witnessed.signatures.len(), &witnessed.text), (3, &offered.text));
    assert_eq!(notary.newest(&snapshot).unwrap(), witnessed);
    // It outlives a restart; and another key cannot take the log over.
    let again = Notary::new(author(), registry.id(), witnesses.clone(), Some(dir.path())).unwrap();
    assert_eq!(again.witnessed(), Some(witnessed));
    again.check_past(&snapshot).unwrap();
    assert!(Notary::new(SigningKey::from_bytes(&[5; 32]), registry.id(), witnesses, Some(dir.path())).is_err());
}
