//! Imports go down only (docs/architecture.md), and the core stays pure.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer, lowest first.
const LAYERS: [&[&str]; 5] = [
    // Where a secret lies is no IO: nothing comes out otherwise.
    &["config", "dnssec", "limits", "locked", "metrics", "op", "state", "tlog", "wire", "zone"],
    &["contract", "registry", "secret_file", "threads"],
    &["audit", "cache", "clock", "forward", "gateway", "notary", "processors", "stopwatch", "work", "writer"],
    &["api", "observe", "transport"],
    &["cli", "descriptors", "lib", "main", "node", "server"],
];

/// Imports inside a layer that go one way only: what is named may import what stands left of it.
const CORE_ORDER: [&str; 7] = ["limits", "wire", "dnssec", "op", "tlog", "state", "zone"];

/// Crates that one place alone may name.
const HEAVY: [(&str, &[&str]); 11] = [
    ("idna", &["wire"]),
    ("unicode_security", &["wire"]),
    ("wasmtime", &["contract"]),
    ("redb", &["registry"]),
    ("quinn_proto", &["transport", "server"]),
    ("hickory_resolver", &["forward"]),
    ("clap", &["cli"]),
    ("rcgen", &["transport"]),
    ("x509_parser", &["transport"]),
    ("prometheus_client", &["transport"]),
    ("rustix", &["contract", "descriptors", "locked", "processors", "secret_file"]),
];

/// What has no place in the core: IO, clocks, randomness, locks, async.
const IMPURE: [&str; 11] = [
    "std::fs",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant::now",
    "getrandom",
    "Mutex",
    "RwLock",
    "tokio",
    "async ",
    "println!",
];

struct Source {
    path: PathBuf,
    module: String,
    /// Without comments and tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 50, "only {} files", found.len());
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let first = path.strip_prefix(root).unwrap().iter().next().unwrap().to_str().unwrap();
            let module = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            found.push(Source { path, module, code });
        }
    }
}

fn layer_of(module: &str) -> usize {
    let at = LAYERS.iter().position(|layer| layer.contains(&module));
    at.unwrap_or_else(|| panic!("module {module} is in no layer; put it into LAYERS"))
}

fn imports(code: &str) -> Vec<&str> {
    let names = code.split("crate::").skip(1);
    names.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()).collect()
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for source in sources() {
        let mine = layer_of(&source.module);
        for import in imports(&source.code) {
            // `crate::{a, b}` would hide from this test.
            assert!(!import.is_empty(), "{}: write `use crate::module::…`", source.path.display());
            let order = |module: &str| CORE_ORDER.iter().position(|name| *name == module);
            let sideways = matches!((order(&source.module), order(import)), (Some(mine), Some(other)) if other > mine);
            if layer_of(import) > mine || sideways {
                wrong.push(format!("{} imports {import}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_is_pure() {
    let core = sources().into_iter().filter(|source| LAYERS[0].contains(&source.module.as_str()));
    for source in core {
        for word in IMPURE {
            assert!(!source.code.contains(word), "{} has {word}", source.path.display());
        }
    }
}

/// A name's rows are changed with a permit only: where permits are made is where such changes are made, and nowhere else.
#[test]
fn only_permits_change_names() {
    const OF_NAMES: [&str; 9] = [
        "PutName(",
        "DropName(",
        "PutRrset(",
        "DropRrset(",
        "PutUpdates(",
        "PutCovenants(",
        "PutNameLife(",
        "DropNameLife(",
        "DropNameGas(",
    ];
    // A pattern is followed by an arrow or an equals sign.
    let is_pattern = |line: &str, at: usize| line[at..].contains("=>") || line[at..].contains(") =");
    let (mut made, mut elsewhere) = (0, Vec::new());
    for source in sources().iter().filter(|source| source.path.to_str().unwrap().contains("state/apply")) {
        for line in source.code.lines() {
            let found = OF_NAMES.iter().find_map(|change| line.find(&format!("Change::{change}")));
            if found.is_none_or(|at| is_pattern(line, at)) {
                continue;
            }
            match source.path.ends_with("permit.rs") {
                true => made += 1,
                false => elsewhere.push(format!("{}: {}", source.path.display(), line.trim())),
            }
        }
    }
    assert!(made > 8, "only {made} changes are made with permits");
    assert!(elsewhere.is_empty(), "without a permit: {elsewhere:#?}");
}

#[test]
fn a_heavy_crate_has_one_home() {
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources() {
        for (krate, homes) in HEAVY {
            if source.code.contains(&format!("{krate}::")) {
                *named.entry(krate).or_default() += 1;
                assert!(homes.contains(&source.module.as_str()), "{} names {krate}", source.path.display());
            }
        }
    }
    assert_eq!(named.len(), HEAVY.len(), "{named:?}");
}

#[test]
fn every_dependency_has_a_reason() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let mut reason = false;
    for line in dependencies.lines() {
        match line {
            "" => {}
            line if line.starts_with("# ---") => reason = false,
            line if line.starts_with('#') => reason = true,
            line => assert!(reason, "no comment above {line:?}"),
        }
        if line.is_empty() {
            reason = false;
        }
    }
}

/// RESINFO (RFC 9606) tells clients which extended errors may come: exactly those that the code sends.
#[test]
fn every_extended_error_is_sent_somewhere() {
    let sources = sources();
    let elsewhere = |source: &&Source| !source.path.ends_with("wire/rtype.rs");
    let code: String = sources.iter().filter(elsewhere).map(|source| source.code.as_str()).collect();
    for sent in ghostplane::wire::EdeCode::ALL {
        assert!(code.contains(&format!("EdeCode::{sent:?}")), "{sent:?} is never sent");
    }
}
