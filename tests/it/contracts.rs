//! The shipped contracts: what is committed is what their source builds to, and the guide's example works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ghostplane::contract::{ContractHost, HostConfig, componentize};
use ghostplane::node::SHIPPED;
use ghostplane::op::CodeHash;

use crate::clients::skip;

fn contracts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts")
}

#[test]
fn what_is_built_in_is_what_is_committed_with_its_hash() {
    let sums = fs::read_to_string(contracts().join("built/SHA256SUMS")).unwrap();
    let listed: Vec<String> =
        SHIPPED.iter().map(|(name, wasm)| format!("{}  {name}.wasm", CodeHash::of(wasm))).collect();
    assert_eq!(sums.lines().count(), listed.len());
    for line in listed {
        assert!(sums.contains(&line), "{line} is not in SHA256SUMS");
    }
}

fn build(args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    // Beside the gateway's own artefacts, so that the next run has little to do.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contracts");
    command.arg(contracts().join("build.sh")).args(args).env("WASM_TARGET_DIR", target);
    command
}

/// True if the compilers that made the committed files are here.
fn have_toolchain() -> bool {
    let wanted = fs::read_to_string(contracts().join("built/TOOLCHAIN")).unwrap();
    let found = build(&["--toolchain"]).output().unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    found == wanted || skip("compilers of contracts/built/TOOLCHAIN")
}

#[test]
fn built_from_source() {
    if !have_toolchain() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let built = build(&["--core", dir.path().to_str().unwrap()]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for (name, committed) in SHIPPED {
        let core = fs::read(dir.path().join(format!("{name}.wasm"))).unwrap();
        assert!(componentize(&core).unwrap() == committed, "{name}.wasm differs; run contracts/build.sh");
    }
}

/// The Rust example of docs/contracts.md, built as the guide says.
#[test]
fn the_guides_example_is_a_contract() {
    if !have_toolchain() {
        return;
    }
    let guide = fs::read_to_string(contracts().join("../docs/contracts.md")).unwrap();
    let block = |language: &str| guide.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("src")).unwrap();
    fs::write(dir.path().join("src/lib.rs"), block("rust,ignore")).unwrap();
    let sdk = contracts().join("sdk");
    let manifest = block("toml").replace("…/contracts/sdk", sdk.to_str().unwrap());
    let package = "[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n[profile.release]\npanic = \"abort\"\n";
    fs::write(dir.path().join("Cargo.toml"), format!("{package}{manifest}")).unwrap();
    // The versions that are known to build, and are fetched already.
    fs::copy(contracts().join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let mut cargo = Command::new(variable("WASM_CARGO", "cargo"));
    cargo.args(["build", "--release", "--offline", "--target", "wasm32-unknown-unknown"]).current_dir(dir.path());
    cargo.env("RUSTC", variable("WASM_RUSTC", "rustc")).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Ok(linker) = std::env::var("WASM_LD") {
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide");
    let built = cargo.env("CARGO_TARGET_DIR", &target).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let core = fs::read(target.join("wasm32-unknown-unknown/release/mine.wasm")).unwrap();
    ContractHost::new(HostConfig::default()).unwrap().check(&componentize(&core).unwrap()).unwrap();
}
