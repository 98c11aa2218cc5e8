//! What contract authors do before anything is deployed: `contract new`, `build`, `check`, `test`, `run`, `disasm`, `wit`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::trial::{Desk, Trial, scenario};
use crate::contract::{CheckedContract, ContractHost, HostConfig, WIT, componentize, estimate};
use crate::limits::{COMPILE_WORK, MAX_CONTRACT};
use crate::op::CodeHash;

/// Languages that a project can be begun in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    Rust,
    Zig,
    C,
}

#[derive(Debug, Args)]
pub struct NewArgs {
    /// Folder to make; its name is the contract's
    folder: PathBuf,
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Project folder, or a core module (.wasm)
    #[arg(default_value = ".")]
    source: PathBuf,
    /// Contract to write [default: NAME.wasm in the project folder]
    #[arg(long, short)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Contract, or name of a shipped one [default: the one of the project folder]
    contract: Option<PathBuf>,
    /// Scenario files [default: *.scenario in the contract's folder]
    #[arg(long, short)]
    scenario: Vec<PathBuf>,
    /// Write what came into the files as what is expected
    #[arg(long)]
    update: bool,
    /// Print nothing for what is as expected
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Contract, or name of a shipped one
    contract: PathBuf,
    /// `NAME TYPE` to ask, or `--call` what to call it with
    question: Vec<String>,
    /// Call the program with these octets
    #[arg(long, conflicts_with = "question")]
    call: Option<String>,
    /// Lines of a scenario file that come before, `record www.example.ghost 60 A 192.0.2.1` for one
    #[arg(long = "with")]
    with: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What comes with a new project: files, `{name}` in them replaced.
type Template = &'static [(&'static str, &'static str)];

const RUST: Template = &[
    ("Cargo.toml", include_str!("../../contracts/templates/rust/Cargo.toml.in")),
    (".cargo/config.toml", include_str!("../../contracts/.cargo/config.toml")),
    ("src/lib.rs", include_str!("../../contracts/templates/rust/lib.rs.in")),
    ("wit/world.wit", WIT),
    ("sdk/Cargo.toml", include_str!("../../contracts/templates/rust/sdk.toml.in")),
    ("sdk/src/base64.rs", include_str!("../../contracts/sdk/src/base64.rs")),
    ("sdk/src/caip.rs", include_str!("../../contracts/sdk/src/caip.rs")),
    ("sdk/src/covenants.rs", include_str!("../../contracts/sdk/src/covenants.rs")),
    ("sdk/src/defaults.rs", include_str!("../../contracts/sdk/src/defaults.rs")),
    ("sdk/src/lib.rs", include_str!("../../contracts/sdk/src/lib.rs")),
    ("sdk/src/name.rs", include_str!("../../contracts/sdk/src/name.rs")),
    ("sdk/src/rdata.rs", include_str!("../../contracts/sdk/src/rdata.rs")),
    ("sdk/src/rrtype.rs", include_str!("../../contracts/sdk/src/rrtype.rs")),
    ("sdk/src/runtime.rs", include_str!("../../contracts/sdk/src/runtime.rs")),
    ("sdk/src/text.rs", include_str!("../../contracts/sdk/src/text.rs")),
    ("{name}.scenario", include_str!("../../contracts/templates/scenario.in")),
];

const ZIG: Template = &[
    ("src/contract.zig", include_str!("../../contracts/templates/zig/contract.zig.in")),
    ("sdk/ghostplane.zig", include_str!("../../contracts/zig/ghostplane.zig")),
    ("{name}.scenario", include_str!("../../contracts/templates/scenario.in")),
];

const C: Template = &[
    ("src/contract.c", include_str!("../../contracts/templates/c/contract.c.in")),
    ("sdk/ghostplane.h", include_str!("../../contracts/c/ghostplane.h")),
    ("{name}.scenario", include_str!("../../contracts/templates/scenario.in")),
];

/// `contract new`
pub fn new(args: &NewArgs) -> anyhow::Result<()> {
    let name = args.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    ensure!(
        name.bytes().all(plain) && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase),
        "{name:?}: a contract's name begins with a letter a-z and has letters, digits and hyphens"
    );
    ensure!(!args.folder.exists(), "{} is there already", args.folder.display());
    let template = match args.lang {
        Language::Rust => RUST,
        Language::Zig => ZIG,
        Language::C => C,
    };
    for (path, text) in template {
        let path = args.folder.join(path.replace("{name}", &name));
        let folder = path.parent().context("a file is in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        std::fs::write(&path, text.replace("{name}", &name)).with_context(|| path.display().to_string())?;
    }
    let folder = args.folder.display();
    println!("{folder}: a contract that greets. Next:\n");
    println!(
        "  cd {folder}\n  ghostplane contract build\n  ghostplane contract test\n  ghostplane contract deploy {name}.wasm"
    );
    Ok(())
}

/// `contract build`
pub fn build(args: &BuildArgs) -> anyhow::Result<()> {
    let (core, default_out) = if args.source.is_dir() { compile(&args.source)? } else { (args.source.clone(), None) };
    let built = componentize(&read(&core)?).with_context(|| core.display().to_string())?;
    let checked = check(&built)?;
    let out = args.out.clone().or(default_out).context("name the file to write with --out")?;
    std::fs::write(&out, &built).with_context(|| out.display().to_string())?;
    println!("{}: {}", out.display(), described(&built, &checked));
    Ok(())
}

/// `contract check`
pub fn check_file(file: &Path) -> anyhow::Result<()> {
    let code = read(file)?;
    let checked = check(&code)?;
    println!("{}", described(&code, &checked));
    Ok(())
}

fn described(code: &[u8], checked: &CheckedContract) -> String {
    let worlds: Vec<String> = checked.worlds().names().collect();
    let (hash, octets, machine) = (CodeHash::of(code), code.len(), checked.code_bytes() / 1_024);
    // It has passed the same a moment ago.
    let costs = estimate(code).map_or_else(
        |error| error.to_string(),
        |costs| {
            let (work, most) = (costs.work, COMPILE_WORK);
            format!("{work} of {most} units for the compiler, {} fuel an instance", costs.instance_fuel)
        },
    );
    format!("{hash}, {octets} octets ({machine} KiB compiled), {}, {costs}", worlds.join(", "))
}

fn check(code: &[u8]) -> anyhow::Result<CheckedContract> {
    Ok(ContractHost::new(HostConfig::default())?.check(code)?)
}

/// Builds the project of a folder; gives the core module, and where the contract goes.
fn compile(folder: &Path) -> anyhow::Result<(PathBuf, Option<PathBuf>)> {
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).context("a folder with a name")?;
    let out = Some(folder.join(format!("{name}.wasm")));
    let core = if folder.join("Cargo.toml").exists() {
        rust(&folder, &name)?
    } else if folder.join("src/contract.zig").exists() {
        let target = target(&folder)?;
        let emitted = target.join("core.wasm");
        let mut zig = zig("build-exe")?;
        zig.args(["-target", "wasm32-freestanding", "-O", "ReleaseSmall", "-fno-entry", "-fstrip", "-rdynamic"]);
        zig.args(["--stack", "8192", "--dep", "ghostplane", "-Mroot=src/contract.zig"]);
        zig.arg("-Mghostplane=sdk/ghostplane.zig").arg(format!("-femit-bin={}", emitted.display()));
        run(zig.current_dir(&folder), "zig")?;
        emitted
    } else if folder.join("src/contract.c").exists() {
        let emitted = target(&folder)?.join("core.wasm");
        let mut cc = match std::env::var("WASM_CC") {
            Ok(cc) => shell_words(&cc)?,
            Err(_) => zig("cc")?,
        };
        cc.args(["-target", "wasm32-freestanding", "-Os", "-nostdlib", "-ffreestanding", "-Wall", "-Isdk"]);
        cc.args(["-Wl,--no-entry,-z,stack-size=8192,--strip-all", "src/contract.c", "-o"]).arg(&emitted);
        run(cc.current_dir(&folder), "the C compiler")?;
        emitted
    } else {
        bail!("{} holds no project: no Cargo.toml, src/contract.zig or src/contract.c", folder.display());
    };
    Ok((core, out))
}

fn target(folder: &Path) -> anyhow::Result<PathBuf> {
    let target = folder.join("target");
    std::fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
    Ok(target)
}

fn rust(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    const TARGET: &str = "wasm32-unknown-unknown";
    let mut cargo = shell_words(&std::env::var("WASM_CARGO").unwrap_or_else(|_| "cargo".to_owned()))?;
    cargo.args(["build", "--release", "--target", TARGET]).current_dir(folder);
    // The caller's own flags are for the caller's own machine.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Ok(rustc) = std::env::var("WASM_RUSTC") {
        cargo.env("RUSTC", rustc);
    }
    if let Ok(linker) = std::env::var("WASM_LD") {
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    run(&mut cargo, "cargo").context("if the target is missing: rustup target add wasm32-unknown-unknown")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), PathBuf::from);
    Ok(target.join(TARGET).join("release").join(format!("{}.wasm", name.replace('-', "_"))))
}

/// `zig`, or what ZIG names.
fn zig(command: &str) -> anyhow::Result<Command> {
    let mut zig = shell_words(&std::env::var("ZIG").unwrap_or_else(|_| "zig".to_owned()))?;
    zig.arg(command);
    Ok(zig)
}

fn shell_words(text: &str) -> anyhow::Result<Command> {
    let mut words = text.split_whitespace();
    let mut command = Command::new(words.next().context("an empty command")?);
    command.args(words);
    Ok(command)
}

fn run(command: &mut Command, what: &str) -> anyhow::Result<()> {
    let hint = || format!("{what} cannot be started; docs/contracts.md says what to install");
    let status = command.status().with_context(hint)?;
    ensure!(status.success(), "{what} failed");
    Ok(())
}

/// Reads a contract file, or takes a shipped one by its name.
pub fn load(contract: &Path) -> anyhow::Result<Vec<u8>> {
    let shipped = crate::node::SHIPPED.iter().find(|(name, _)| Path::new(name) == contract);
    match shipped {
        Some((_, code)) if !contract.is_file() => Ok(code.to_vec()),
        _ => read(contract),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let octets = crate::node::read_bounded(path).with_context(|| path.display().to_string())?;
    ensure!(octets.len() <= 16 * MAX_CONTRACT, "{} is far longer than a contract can be", path.display());
    Ok(octets)
}

/// `contract test`; `false` if something came out otherwise than expected.
pub fn test(args: &TestArgs) -> anyhow::Result<bool> {
    let contract = match &args.contract {
        Some(contract) => contract.clone(),
        None => {
            let folder = std::env::current_dir()?;
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            folder.join(format!("{name}.wasm"))
        }
    };
    let code = load(&contract)?;
    let host = ContractHost::new(HostConfig::default())?;
    let worlds = host.check(&code)?.worlds();
    let files = if args.scenario.is_empty() { scenarios_beside(&contract)? } else { args.scenario.clone() };
    let trial = Trial { host: &host, code: &code };
    let (mut asked, mut failed) = (0, 0);
    for file in &files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let report = scenario(&trial, Desk::new(&code, worlds), &text).with_context(|| file.display().to_string())?;
        if !args.quiet || report.failed > 0 {
            print!("{}\n{}", file.display(), report.text);
        }
        if args.update && report.updated != text {
            std::fs::write(file, &report.updated).with_context(|| file.display().to_string())?;
        }
        asked += report.asked;
        failed += report.failed;
    }
    println!("{asked} questions in {} files, {failed} not as expected", files.len());
    Ok(failed == 0 || args.update)
}

fn scenarios_beside(contract: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = contract.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "scenario") {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "{} holds no *.scenario file; name one with --scenario", folder.display());
    Ok(files)
}

/// `contract run`
pub fn run_once(args: &RunArgs) -> anyhow::Result<bool> {
    let code = load(&args.contract)?;
    let host = ContractHost::new(HostConfig::default())?;
    let mut desk = Desk::new(&code, host.check(&code)?.worlds());
    let line = match (&args.call, &args.question[..]) {
        (Some(input), _) => format!("call \"{}\"", input.replace('\\', "\\\\").replace('"', "\\\"")),
        (None, [name, rtype]) => {
            // The name is whatever the question is about.
            let asked = crate::wire::Name::from_user(name).with_context(|| format!("{name:?} is not a name"))?;
            desk.set(&format!("name {}", asked.suffix(2)))?;
            format!("ask {name} {rtype}")
        }
        _ => bail!("give NAME and TYPE, or --call INPUT"),
    };
    for with in &args.with {
        desk.set(with).with_context(|| with.clone())?;
    }
    let told = Trial { host: &host, code: &code }.run(&desk, &line)?;
    if args.json {
        println!("{:#}", json!({ "outcome": told.outcome, "notes": told.notes, "cost": told.cost }));
    } else {
        told.outcome.iter().chain(&told.notes).chain(&told.cost).for_each(|line| println!("{line}"));
    }
    Ok(!told.outcome.iter().any(|line| line.starts_with("failure")))
}

/// `contract disasm`
pub fn disasm(contract: &Path) -> anyhow::Result<()> {
    print!("{}", wasmprinter::print_bytes(load(contract)?).map_err(|error| anyhow::anyhow!("{error}"))?);
    Ok(())
}
