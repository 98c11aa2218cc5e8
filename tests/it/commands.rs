//! The command line: exit codes, what errors say, JSON that parses.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::process::{PROGRAM, Server};

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(PROGRAM).current_dir(folder).args(args).env_remove("GHOSTPLANE_DATA").output().unwrap()
}

#[test]
fn signatures_are_renewed_in_one_go() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let show = || server.ok("https", &["name", "show", "alice.ghost"]);
    server.ok("https", &["name", "register", "alice.ghost", "--unsigned"]);
    assert!(show().contains("unsigned zone"), "{}", show());
    server.ok("https", &["name", "sign", "alice.ghost", "--valid-days", "9"]);
    server.ok("https", &["record", "set", "alice.ghost", "A", "192.0.2.1", "--valid-days", "30"]);
    server.ok("https", &["record", "set", "sub.alice.ghost", "NS", "ns.example."]);
    assert!(show().contains("days: run `record resign`"), "{}", show());
    let signatures = || -> Vec<String> {
        let listed = server.ok("https", &["record", "list", "alice.ghost", "--json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        listed.as_array().unwrap().iter().map(|rrset| rrset["rrsigs"].to_string()).collect()
    };
    let before = signatures();
    server.ok("https", &["record", "resign", "alice.ghost", "--valid-days", "200"]);
    assert!(show().contains("signed zone; the first ends at") && !show().contains("resign"), "{}", show());
    for (before, after) in before.iter().zip(signatures()) {
        // NS is the child's to sign.
        assert_eq!(*before == after, before == "[]");
    }
    let said = server.ok("quic", &["query", "alice.ghost", "A", "--require-owner"]);
    assert!(said.contains("VALIDATION: secure, signed by the owner"), "{said}");
    let mallory = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
    let doubted = server.run("quic", &["query", "alice.ghost", "A", "--owner", mallory, "--json"]);
    assert_eq!(doubted.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&doubted.stdout).unwrap();
    assert_eq!(told["validation"]["verdict"], "secure, signed by the owner");
}

/// Runs a command that must fail with `code` and all of `words` in its error.
fn fails(folder: &Path, code: i32, args: &[&str], words: &[&str]) {
    let output = run(folder, args);
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn bad_input_is_told_what_where_and_what_next() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, octets: &[u8]| fs::write(dir.path().join(name), octets).unwrap();
    write("ghost.zone", b"$TTL 3600\n@ SOA ns hostmaster 1 2 3 4 5\n@ NS ns\nns A 300.1.2.3\n");
    write("noise.zone", &[0xff, 0, b'(', b'"', 0x80].repeat(500));
    write("ghost.toml", b"tld = \"ghost\"\ncontract = \"ghost\"\nnonsense = 1\n");
    write("bad.wasm", b"\0asm\x01\0\0\0");
    write("noise.wasm", b"noise");
    write("open.pem", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n");
    write("gateway.toml", b"[limits]\nquery_burst = 0\n");
    let cases: [(i32, &[&str], &[&str]); 14] = [
        (1, &["zone", "check", "ghost.zone"], &["ghost.zone: line 4: error", "A"]),
        (1, &["zone", "check", "noise.zone"], &["noise.zone: line 1: error"]),
        (1, &["zone", "check", "ghost.toml"], &["nonsense"]),
        (1, &["zone", "check", "absent.zone"], &["absent.zone", "No such file"]),
        (1, &["contract", "check", "bad.wasm"], &["core module", "contract build"]),
        (1, &["contract", "check", "noise.wasm"], &["error:"]),
        (1, &["contract", "build", "bad.wasm", "--out", "x.wasm"], &["of no world"]),
        (1, &["sigil", "show", "open.pem"], &["chmod 600"]),
        (1, &["serve", "--config", "gateway.toml", "--check-config"], &["gateway.toml", "limits.query_burst"]),
        (1, &["query", "alice.ghost", "--server", "127.0.0.1:1", "--via", "tcp"], &["cannot connect to 127.0.0.1:1"]),
        (1, &["query", "alice..ghost", "--via", "udp"], &["alice..ghost", "not a name"]),
        (1, &["name", "register", "alice.ghost"], &["ca.pem", "--data DIR"]),
        (2, &["query", "alice.ghost", "--via", "pigeon"], &["pigeon", "quic"]),
        (2, &["query", "alice.ghost", "NOTATYPE"], &["NOTATYPE"]),
    ];
    for (code, args, words) in cases {
        fails(dir.path(), code, args, words);
    }
}

#[test]
fn every_reading_command_has_json() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    server.ok("https", &["name", "register", "alice.ghost", "--json"]);
    server.ok("https", &["record", "set", "alice.ghost", "A", "192.0.2.1", "--json"]);
    let json = |service: &str, args: &[&str]| -> Value {
        let text = server.ok(service, &[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    };
    assert_eq!(json("https", &["name", "show", "alice.ghost"])["name"], "alice.ghost.");
    assert_eq!(json("https", &["name", "list"])[0]["rrsets"], 2);
    assert_eq!(json("https", &["record", "list", "alice.ghost"])[0]["rdata"][0], "192.0.2.1");
    assert_eq!(json("https", &["mana", "show"])["level"], 5);
    assert!(json("https", &["contract", "show", "ghost"])["bytes"].as_u64() > Some(1_000));
    let answer = json("quic", &["query", "alice.ghost", "A"]);
    assert_eq!((&answer["RCODE"], &answer["answerRRs"][0]["rdata"]), (&Value::from(0), &Value::from("192.0.2.1")));
    let loaded = json("quic", &["bench", "--name", "alice.ghost", "--queries", "50"]);
    assert_eq!((&loaded["rcodes"]["NOERROR"], &loaded["errors"]), (&Value::from(50), &serde_json::json!({})));
    for args in [["sigil", "show", "dev.pem", "--json"].as_slice(), &["zone", "check", "../zones", "--json"]] {
        let folder =
            if args[0] == "zone" { Path::new(env!("CARGO_MANIFEST_DIR")).join("src") } else { dir.path().to_owned() };
        let output = run(&folder, args);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap();
    }
    // Nothing of the kind as exit code 1.
    assert_eq!(server.run("quic", &["query", "example.org", "A"]).status.code(), Some(1));
    assert_eq!(server.run("quic", &["query", "nobody.ghost", "A"]).status.code(), Some(0));
}

#[test]
fn a_master_file_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let file = dir.path().join("names.zone");
    fs::write(
        &file,
        "$ORIGIN ghost.\n$TTL 600\nalice A 192.0.2.1\n      TXT \"two words\"\nwww.alice 60 CNAME alice\nns A 192.0.2.9\nbob A 999.0.0.1\n",
    )
    .unwrap();
    let output = server.run("https", &["zone", "import", file.to_str().unwrap(), "--json"]);
    let refused: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines: Vec<u64> = refused.as_array().unwrap().iter().map(|refused| refused["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [6, 7], "{refused:#}");
    assert_eq!(
        server.ok("h3", &["query", "www.alice.ghost", "A", "--via", "h3", "--short"]),
        "alice.ghost.\n192.0.2.1\n"
    );
    assert_eq!(server.ok("tls", &["query", "alice.ghost", "TXT", "--via", "tls", "--short"]), "\"two words\"\n");
}

/// With a passphrase no key lies in the open: the server's, and an owner's.
#[test]
fn key_files_may_be_under_a_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let passphrase = dir.path().join("passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    let passphrase = passphrase.to_str().unwrap();
    fails(dir.path(), 1, &["--passphrase-file", passphrase, "sigil", "new", "a.pem"], &["can be read by others"]);
    fs::set_permissions(passphrase, fs::Permissions::from_mode(0o600)).unwrap();
    let data = dir.path().join("data");
    let server = Server::start_with(&data, &["--passphrase-file", passphrase]);
    for file in ["operator.pem", "dev.pem", "keys/tld-ghost.pem", "keys/online-p256.pem"] {
        let pem = fs::read_to_string(data.join(file)).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{file}");
    }
    let register = ["name", "register", "alice.ghost"];
    let refused = server.run("https", &register);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--passphrase-file"), "{refused:?}");
    server.ok("https", &[&register[..], &["--passphrase-file", passphrase]].concat());
    fs::write(passphrase, "wrong horse\n").unwrap();
    let show = ["--passphrase-file", passphrase, "sigil", "show", "data/dev.pem"];
    fails(dir.path(), 1, &show, &["cannot be decrypted with this passphrase"]);
}

/// A load of `queries` queries from one client, told in JSON; for as long as that takes.
fn bench(server: &Server, via: &str, queries: &str, args: &[&str]) -> Output {
    let most = ["--duration", "3600", "--timeout", "600", "--connections", "1", "--concurrency", "1"];
    server.run(via, &[&["bench", "--json", "--via", via, "--queries", queries], &most[..], args].concat())
}

fn told(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_load_does_what_its_shape_says() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let check = |via: &str, shape: &str, opened: u64, resumed: u64, early: u64| {
        let output = bench(&server, via, "12", &["--shape", shape]);
        let run = told(&output);
        let counts = [&run["opened"], &run["resumed"], &run["early_data_accepted"]].map(Value::as_u64);
        assert_eq!(counts, [opened, resumed, early].map(Some), "{via}, {shape}: {run:#}");
        assert_eq!((&run["via"], &run["shape"]), (&Value::from(via), &Value::from(shape)));
        assert_eq!((&run["rcodes"], &run["errors"]), (&serde_json::json!({ "NOERROR": 12 }), &serde_json::json!({})));
        assert!(output.stderr.is_empty(), "{output:?}");
    };
    for via in ["udp", "tcp", "tls", "quic", "https", "h3"] {
        check(via, "steady", 1, 0, 0);
    }
    for via in ["tls", "quic", "https", "h3"] {
        check(via, "handshake", 12, 0, 0);
        // The first one has nothing to resume.
        check(via, "resumption", 12, 11, 0);
    }
    check("quic", "early-data", 12, 11, 11);
}

#[test]
fn a_load_tells_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    server.ok("https", &["name", "register", "wild.ghost"]);
    let names = dir.path().join("names");
    fs::write(&names, "ns.ghost A\n\nwild.ghost SOA\n").unwrap();
    let names = ["--names", names.to_str().unwrap(), "--zipf", "1.5", "--dnssec"];
    let misses = ["--misses", "100", "--below", "wild.ghost", "--type", "TXT"];
    let absent = bench(&server, "quic", "10", &[&names[..], &misses].concat());
    let run = told(&absent);
    let asked = serde_json::json!({ "percent": 100, "below": "wild.ghost.", "answers": 10, "empty": 10 });
    assert_eq!((&run["misses"], &run["names"], &run["zipf"]), (&asked, &Value::from(2), &Value::from(1.5)));
    assert_eq!((&run["type"], &run["dnssec"]), (&Value::from("TXT"), &Value::from(true)));
    let warning = String::from_utf8(absent.stderr).unwrap();
    assert_eq!(warning.matches("10 of 10 misses were denied").count(), 1, "{warning}");
    assert!(warning.contains("record set '*.wild.ghost.' TXT"), "{warning}");
    let absent = bench(&server, "quic", "10", &["--misses", "100", "--below", "wild.ghost"]);
    assert_eq!(told(&absent)["rcodes"], serde_json::json!({ "NXDOMAIN": 10 }));
    assert!(String::from_utf8(absent.stderr).unwrap().contains("10 of 10 misses were denied"));
    // What the warning says to do.
    server.ok("https", &["record", "set", "*.wild.ghost.", "A", "192.0.2.1"]);
    let present = bench(&server, "quic", "10", &["--misses", "100", "--below", "wild.ghost"]);
    assert_eq!((&told(&present)["rcodes"], &present.stderr[..]), (&serde_json::json!({ "NOERROR": 10 }), &b""[..]));
    let text = server.ok("quic", &[&["bench", "--queries", "20"], &names[..]].concat());
    assert!(text.contains("questions    2 names, Zipf 1.5, DNSSEC (DO)"), "{text}");
}

#[test]
fn a_load_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, octets: &[u8]| fs::write(dir.path().join(name), octets).unwrap();
    write("names", b"a.ghost\n\nb.ghost NOTATYPE\n");
    write("dots", b"a.ghost\nb..ghost\n");
    write("words", b"a.ghost A AAAA\n");
    write("one", b"a.ghost\n");
    write("none", b"\n\n");
    write("noise", &[0xff; 10]);
    let long = ["a".repeat(60).as_str(); 4].join(".");
    let cases: [(i32, &[&str], &[&str]); 20] = [
        (
            1,
            &["--shape", "handshake", "--via", "udp"],
            &["--shape handshake", "TLS", "udp", "--via tls, quic, https or h3"],
        ),
        (1, &["--shape", "handshake", "--via", "tcp"], &["--shape handshake", "TLS", "tcp"]),
        (1, &["--shape", "resumption", "--via", "udp"], &["--shape resumption", "TLS", "udp"]),
        (1, &["--shape", "resumption", "--via", "tcp"], &["--shape resumption", "TLS", "tcp"]),
        (1, &["--shape", "early-data", "--via", "udp"], &["--shape early-data", "--via quic only"]),
        (1, &["--shape", "early-data", "--via", "h3"], &["--shape early-data", "--via quic only"]),
        (1, &["--names", "absent"], &["--names absent", "No such file"]),
        (1, &["--names", "names"], &["--names names: line 3", "NOTATYPE", "not a record type"]),
        (1, &["--names", "dots"], &["--names dots: line 2", "b..ghost", "label is empty"]),
        (1, &["--names", "words"], &["--names words: line 1", "more than a name and a record type"]),
        (1, &["--names", "none"], &["--names none holds no name"]),
        (1, &["--names", "noise"], &["--names noise", "utf-8"]),
        (1, &["--names", "one", "--zipf", "1"], &["--zipf", "--names one holds one only"]),
        (1, &["--misses", "9", "--below", &long], &["--below", "longer than 255 octets"]),
        (2, &["--zipf", "1"], &["required", "--names"]),
        (2, &["--names", "one", "--zipf", "nan"], &["nan", "--zipf", "finite number, 0"]),
        (2, &["--names", "one", "--zipf", "inf"], &["inf", "--zipf", "finite number, 0"]),
        (2, &["--names", "one", "--zipf", "-1"], &["-1", "--zipf", "finite number, 0"]),
        (2, &["--below", "a.ghost"], &["required", "--misses"]),
        (2, &["--misses", "9"], &["required", "--below"]),
    ];
    for (code, args, words) in cases {
        fails(dir.path(), code, &[&["bench"], args].concat(), words);
    }
}
