//! A machine that has too little of something.

use crate::process::Server;

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
