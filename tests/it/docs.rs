//! The documents tell the truth: commands parse, keys, metrics, codes and links exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ghostplane::config::Config;
use ghostplane::zone::policy::Policy;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn documents() -> Vec<(PathBuf, String)> {
    let mut paths =
        vec![root().join("README.md"), root().join("contracts/README.md"), root().join("tests/fuzz/README.md")];
    for folder in ["docs", "docs/internals"] {
        paths.extend(fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.is_file());
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The insides of fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn commands_parse() {
    let mut parsed = 0;
    for (path, text) in documents() {
        for line in blocks(&text, "console").iter().flat_map(|block| block.lines()) {
            let Some(words) = line.strip_prefix("$ ghostplane ") else { continue };
            let words = split(words.split(" #").next().unwrap());
            let args = std::iter::once("ghostplane".to_owned()).chain(words);
            if let Err(error) = ghostplane::cli::command().try_get_matches_from(args) {
                panic!("{}: {line}\n{error}", path.display());
            }
            parsed += 1;
        }
    }
    assert!(parsed > 15, "only {parsed} commands");
}

/// Words, with "…" around those that hold spaces.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('"').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[test]
fn files_that_are_shown_are_valid() {
    let operations = read("docs/operations.md");
    let config = Config::from_toml(blocks(&operations, "toml")[0]).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("None") && !config.listen.is_empty(), "a key is not documented: {shown}");
    let formats = read("docs/formats.md");
    Policy::from_toml(blocks(&formats, "toml")[0]).unwrap();
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let dir = tempfile::tempdir().unwrap();
    let server = crate::process::Server::start(dir.path());
    let scraped = crate::process::http_get(server.port("metrics"), "/metrics");
    let named = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = |word: &&str| word.starts_with("ghostplane_") || word.starts_with("process_");
        words.filter(ours).map(str::to_owned).collect()
    };
    let served: BTreeSet<String> = scraped
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| named(line.split(['{', ' ']).next().unwrap_or_default()))
        .collect();
    assert!(served.len() > 10, "{scraped}");
    assert_eq!(named(&read("docs/operations.md")), served);
    assert!(crate::process::http_get(server.port("metrics"), "/readyz").contains("ready"));
}

#[test]
fn every_rejection_code_and_method_is_documented() {
    let formats = read("docs/formats.md");
    let source = read("src/op/rejection.rs");
    let codes = source.split("pub fn code(&self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let codes: Vec<&str> = codes.lines().filter_map(|line| line.split("=> ").nth(1)?.strip_suffix(',')).collect();
    assert!(codes.len() > 30);
    for code in codes {
        assert!(formats.contains(&format!("\n| {code} | ")), "rejection {code}");
    }
    let source = read("src/api/jsonrpc.rs");
    let methods = source.split("match method {").nth(1).unwrap().split("_ =>").next().unwrap();
    let strings = methods.split('"').skip(1).step_by(2);
    let methods: Vec<&str> = strings.filter(|text| text.contains('.') && !text.contains(' ')).collect();
    assert!(methods.len() > 8);
    for method in methods {
        assert!(formats.contains(&format!("| `{method}` |")), "{method}");
    }
}

#[test]
fn every_conformance_case_is_documented() {
    let document = read("docs/conformance.md");
    let mut cases = 0;
    for file in fs::read_dir(root().join("tests/conformance/cases")).unwrap() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
        for id in source.split("Case {").skip(1).filter_map(|case| case.split("id: \"").nth(1)?.split('"').next()) {
            assert!(document.contains(&format!("\n| `{id}` | ")), "{id}");
            cases += 1;
        }
    }
    assert_eq!(document.matches("\n| `").count() - document.matches("\n| `--").count(), cases);
}

#[test]
fn links_lead_somewhere() {
    for (path, text) in documents() {
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if !link.starts_with("http") && !link.starts_with('#') {
                let target = path.parent().unwrap().join(link.split('#').next().unwrap());
                assert!(target.exists(), "{}: {link}", path.display());
            }
        }
    }
}
