//! The shipped contracts: what is committed is what their source builds to, and what `contract new` begins with works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ghostplane::contract::componentize;
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

/// Each has its scenario beside its source.
#[test]
fn scenarios_of_the_shipped_contracts() {
    for (name, _) in SHIPPED {
        let file = contracts().join(name).join(format!("{name}.scenario"));
        let tested = ghostplane().args(["contract", "test", name, "-s"]).arg(file).output().unwrap();
        assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stdout));
    }
}

/// What is not as expected is told, and one flag makes it expected.
#[test]
fn a_scenario_that_fails_says_what_came() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("park.scenario");
    fs::write(&file, "params hello\nask example.ghost TXT\n  no-data\nask example.ghost A\n  no-data\n").unwrap();
    let test = |more: &[&str]| {
        let tested = ghostplane().args(["contract", "test", "park", "-s"]).arg(&file).args(more).output().unwrap();
        (tested.status.code(), String::from_utf8(tested.stdout).unwrap())
    };
    let (code, told) = test(&[]);
    assert_eq!(code, Some(1));
    for words in
        ["FAIL line 2", "made example.ghost. 3600 TXT \"hello\"", "ok   line 4", "2 questions in 1 files, 1 not"]
    {
        assert!(told.contains(words), "{words:?} is not in {told}");
    }
    assert_eq!(test(&["--update"]).0, Some(0));
    assert_eq!(test(&[]).0, Some(0));
    fs::write(&file, "ask example.ghost\n").unwrap();
    let told = ghostplane().args(["contract", "test", "park", "-s"]).arg(&file).output().unwrap();
    assert!(String::from_utf8_lossy(&told.stderr).contains("line 1"));
}

fn ghostplane() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ghostplane"))
}

/// What `contract new` writes builds and passes its own scenario, in every language.
#[test]
fn a_new_project_builds_and_passes() {
    if !have_toolchain() {
        return;
    }
    // The shipped contracts' crates, which a project needs as well. Another test builds them, but maybe later.
    let cargo = std::env::var("WASM_CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut words = cargo.split(' ');
    let mut fetch = Command::new(words.next().unwrap());
    fetch.args(words).args(["fetch", "--locked", "--manifest-path"]).arg(contracts().join("Cargo.toml"));
    let fetched = fetch.output().unwrap();
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    let dir = tempfile::tempdir().unwrap();
    for language in ["rust", "zig", "c"] {
        let folder = dir.path().join(format!("hello-{language}"));
        let run = |arguments: &[&str], folder: &Path| {
            let mut command = ghostplane();
            command.args(arguments).current_dir(folder).env("CARGO_NET_OFFLINE", "true");
            let ran =
                command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("new")).output().unwrap();
            assert!(ran.status.success(), "{language}: {}", String::from_utf8_lossy(&ran.stderr));
            String::from_utf8(ran.stdout).unwrap()
        };
        run(&["contract", "new", folder.to_str().unwrap(), "--lang", language], dir.path());
        if language == "rust" {
            // The versions that are known to build, and are fetched already.
            fs::copy(contracts().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        }
        run(&["contract", "build"], &folder);
        assert!(run(&["contract", "test"], &folder).contains("3 questions in 1 files, 0 not as expected"));
    }
}
