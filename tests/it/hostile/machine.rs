//! A machine that has too little of something.

use std::process::Command;

use crate::process::{PROGRAM, Server};

/// T27: 516 GiB of addresses are reserved where they can be; here they cannot.
#[test]
fn it_serves_in_four_gigabytes_of_address_space() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_within(4 << 20, dir.path());
    server.ok("https", &["name", "register", "alice.ghost"]);
    server.ok("https", &["record", "set", "alice.ghost", "A", "192.0.2.1"]);
    let answer = server.ok("quic", &["query", "alice.ghost", "A"]);
    assert!(answer.contains("192.0.2.1"), "{answer}");
}

/// Forbids itself executable memory that was writable once (as systemd's MemoryDenyWriteExecute does), then runs a program.
const DENIES: &str = "import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0: sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])";

/// T19: code that cannot be executed here is no bad code, and it is said why.
#[test]
fn memory_that_may_not_be_executed_is_named() {
    let mut python = Command::new("python3");
    python.args(["-c", DENIES, PROGRAM, "contract", "test", "contracts/built/ghost.wasm", "--quiet", "--scenario"]);
    let Ok(output) = python.arg("contracts/ghost/ghost.scenario").current_dir(env!("CARGO_MANIFEST_DIR")).output()
    else {
        crate::clients::skip("python3");
        return;
    };
    if output.status.code() == Some(77) {
        println!("skipped: no PR_SET_MDWE in this kernel");
        return;
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("cannot load contracts now"), "{output:?}");
    assert!(said.contains("executable"), "{said}");
}
