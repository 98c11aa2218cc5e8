//! Attackers that read the disk or the memory: key files, core dumps, swap, logs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};

use crate::process::{PROGRAM, Server, local};

/// A line of a file of `/proc`, behind its key.
fn proc_line(pid: u32, file: &str, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).trim().to_owned()
}

/// T23: a crash leaves no file with keys in it, and keys are not swapped.
#[test]
fn a_server_is_never_dumped_and_its_keys_are_never_swapped() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let limits = proc_line(server.pid(), "limits", "Max core file size");
    assert_eq!(limits.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
    let locked: u64 = proc_line(server.pid(), "status", "VmLck:").trim_end_matches(" kB").parse().unwrap();
    let allowed = proc_line(std::process::id(), "limits", "Max locked memory");
    let allowed = allowed.split_whitespace().next().unwrap().parse().unwrap_or(u64::MAX);
    assert!(locked >= 32 || allowed < 32 << 10, "{locked} KiB of {allowed} octets");
    // Of a process that may be dumped, these files are its user's.
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}/mem", server.pid())).unwrap());
    assert_eq!(owner, 0);
}

/// Every form in which octets are usually printed.
fn forms(octets: &[u8]) -> Vec<String> {
    let decimal: Vec<String> = octets.iter().take(8).map(ToString::to_string).collect();
    let (hex, base64) = (HEXLOWER.encode(octets), BASE64.encode(octets));
    vec![hex, HEXUPPER.encode(octets), base64, decimal.join(", ")]
}

/// What nobody may read anywhere but in its file: of every private key in a folder, its seed.
fn secrets(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let is_key = entry.extension().is_some_and(|ending| ending == "pem" || ending == "key");
        if entry.is_dir() {
            found.extend(secrets(&entry));
        } else if is_key && fs::read_to_string(&entry).unwrap().contains("PRIVATE KEY") {
            let body = body(&entry);
            // PKCS#8 of Ed25519: the octets behind the last OCTET STRING of 32. Of P-256 the same, further ahead.
            let der = BASE64.decode(body.as_bytes()).unwrap();
            let at = der.windows(2).position(|pair| pair == [4, 32]).unwrap() + 2;
            found.extend(forms(&der[at..at + 32]));
            found.push(body);
        }
    }
    found
}

/// The base64 of a PEM file.
fn body(path: &Path) -> String {
    fs::read_to_string(path).unwrap().lines().filter(|line| !line.starts_with("-----")).collect()
}

/// Killed when dropped.
struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        // Has ended already where nothing failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The log of everything, with keys made, used, rolled and told, has none of them.
#[test]
fn no_log_tells_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--dev", "--log-level", "trace", "--port-base", "0", "--data"]).arg(dir.path());
    let mut server = Traced(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = server.0.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    let lines = BufReader::new(server.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lines: Vec<String> = lines.take_while(|line| line != "ready").collect();
    let https = lines.iter().find_map(|line| line.strip_prefix("listening https")).unwrap().trim();
    let run = |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        let output = command.args(args).args(["--server", https, "--data"]).arg(dir.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["name", "register", "alice.ghost"]);
    run(&["name", "sign", "alice.ghost"]);
    let told = run(&["name", "update-key", "add", "alice.ghost", "k", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let shared = told["secret"].as_str().unwrap().to_owned();
    let data = dir.path().to_str().unwrap();
    local(&["zone", "roll", "ghost", "--next", "--data", data]);
    let status = Command::new("kill").args(["-s", "TERM", &server.0.id().to_string()]).status().unwrap();
    assert!(status.success() && server.0.wait().unwrap().success());
    let log = log.join().unwrap();
    let mut secrets: BTreeSet<String> = secrets(dir.path()).into_iter().collect();
    assert!(secrets.len() > 40, "{} forms", secrets.len());
    secrets.insert(shared.clone());
    secrets.extend(forms(&BASE64.decode(shared.as_bytes()).unwrap()));
    assert!(log.contains("TRACE"), "{} octets of log", log.len());
    assert!(secrets.iter().all(|secret| !log.contains(secret)));
}

/// A key file that is none may be one that was pasted wrong: what is said of it has nothing of it.
#[test]
fn no_error_tells_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let good = dir.path().join("good.pem");
    local(&["sigil", "new", good.to_str().unwrap()]);
    let body = body(&good);
    let made = rcgen::generate_simple_self_signed(["gw.example".to_owned()]).unwrap();
    let certificate = file("cert.pem", &made.cert.pem());
    let spoiled = [
        format!("-----BEGIN PRIVATE KEY {body}-----END PRIVATE KEY-----\n"),
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n"),
        format!("-----BEGIN PRIVATE KEY-----\n{body}!\n-----END PRIVATE KEY-----\n"),
        format!("-----BEGIN PRIVATE KEY-----{body}\n-----END {body}-----\n"),
        format!("-----BEGIN {body}-----\n"),
        format!("Private-key-format: v1.3\nAlgorithm: {body}\nPrivateKey: {body}\n"),
        format!("{{\"name\": \"{body}\", \"secret\": \"{body}\"}}\n"),
        body.clone(),
    ];
    let (cert, out) = (certificate.to_str().unwrap(), dir.path().join("out.pem"));
    for (at, text) in spoiled.iter().enumerate() {
        let path = file(&format!("{at}.pem"), text);
        let path = path.to_str().unwrap();
        let commands = [
            vec!["sigil", "show", path],
            vec!["sigil", "import", path, "--out", out.to_str().unwrap()],
            vec!["--passphrase-file", path, "sigil", "show", path],
            vec!["name", "register", "a.ghost", "--sigil", path, "--commitment", path],
            vec!["serve", "--check-config", "--cert", cert, "--key", path],
        ];
        for args in commands {
            let output = Command::new(PROGRAM).args(&args).env_remove("GHOSTPLANE_DATA").output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(!output.status.success() && !said.contains(&body[20..]), "{args:?}: {said}");
            let decimal: Vec<String> = body.bytes().skip(20).take(8).map(|octet| octet.to_string()).collect();
            assert!(!said.contains(&decimal.join(", ")), "{args:?}: {said}");
        }
    }
}
