//! A machine that has too little of something.

use std::process::{Command, Output};

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

/// Runs the program where it may not execute what it has written; `None` where that cannot be had.
fn without_executable_memory(args: &[&str]) -> Option<Output> {
    let mut python = Command::new("python3");
    python.args(["-c", DENIES, PROGRAM]).args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    let Ok(output) = python.output() else {
        crate::clients::skip("python3");
        return None;
    };
    if output.status.code() == Some(77) {
        println!("skipped: no PR_SET_MDWE in this kernel");
        return None;
    }
    assert!(!output.status.success(), "{output:?}");
    Some(output)
}

/// T19: code that cannot be executed here is no bad code, and it is said why.
#[test]
fn memory_that_may_not_be_executed_is_named() {
    let scenario = "contracts/ghost/ghost.scenario";
    let args = ["contract", "test", "contracts/built/ghost.wasm", "--quiet", "--scenario", scenario];
    let Some(output) = without_executable_memory(&args) else { return };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot load contracts now"), "{output:?}");
    assert!(said.contains("executable"), "{said}");
}

/// T19: a server that could only fail does not start, and never says that it is ready.
#[test]
fn nothing_is_served_without_executable_memory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let Some(output) = without_executable_memory(&["serve", "--dev", "--data", data, "--port-base", "0"]) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("MemoryDenyWriteExecute=no"), "{said}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ready"), "{output:?}");
}
