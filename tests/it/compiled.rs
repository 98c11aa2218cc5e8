//! Compiled contracts: kept in memory and on disk within bounds, compiled at most once, never trusted blindly.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ghostplane::contract::{CodeFolder, CodeRef, ContractError, ContractHost, HostConfig, Question, componentize};
use ghostplane::limits::{COMPILE_WORK, DEPLOYS_COMPILING, DEPLOYS_WAITING};
use ghostplane::metrics::Metrics;
use ghostplane::op::CodeHash;
use ghostplane::wire::{Resolution, Rtype};

use crate::hostile::author::{Everything, guest_with};
use crate::support::name;

const SECRET: &[u8] = b"a secret of these tests";

/// Many contracts that differ in the address they answer with.
struct Contracts {
    /// Answers 10.99.99.99.
    template: Vec<u8>,
    at: usize,
}

impl Contracts {
    fn new() -> Self {
        // A result that stands ready in memory: ok, records, one synthesised RRset of one RDATA.
        let mark = [10, 99, 99, 99];
        let answer = [1_u32, 1_100, 17, 1, 60, 1_120, 1];
        let raw = [0_u32, 1_144, 4, 0, 0, 0];
        let mut memory = vec![0, 0, 0, 0, 0, 0, 0, 0];
        memory.extend([1_040_u32, 1].iter().flat_map(|field| field.to_le_bytes()));
        memory.extend(answer.iter().flat_map(|field| field.to_le_bytes()));
        memory.resize(1_100 - 1_024, 0);
        memory.extend(name("www.alice.ghost").as_wire());
        memory.resize(1_120 - 1_024, 0);
        memory.extend(raw.iter().flat_map(|field| field.to_le_bytes()));
        memory.extend(mark);
        let escaped: String = memory.iter().map(|octet| format!("\\{octet:02x}")).collect();
        let data = format!("(data (i32.const 1024) \"{escaped}\")");
        let template = guest_with(&format!("{REALLOC} {data}"), "i32.const 1024");
        let at = template.windows(4).position(|window| window == mark).unwrap();
        Self { template, at }
    }

    fn number(&self, number: u32) -> Vec<u8> {
        let mut wasm = self.template.clone();
        wasm[self.at + 1..self.at + 4].copy_from_slice(&number.to_be_bytes()[1..]);
        wasm
    }
}

const REALLOC: &str = r#"(export "cabi_realloc" (func $alloc))"#;

/// Executes a contract and gives its address.
fn answer(host: &ContractHost, wasm: &[u8]) -> Vec<u8> {
    let code = CodeRef { hash: CodeHash::of(wasm).0, load: &|| Ok(Some(wasm.to_vec())) };
    let name = name("www.alice.ghost");
    let (execution, _) = host.execute(code, &Question { zone: name.suffix(2), name, rtype: Rtype::A }, Everything);
    match execution.outcome {
        Ok(Resolution::Records(rrsets)) => rrsets[0].rdata[0].to_vec(),
        other => panic!("{other:?}"),
    }
}

fn host(folder: &Path, compiled_bytes: u64, secret: &[u8]) -> (ContractHost, Arc<Metrics>) {
    let metrics = Arc::<Metrics>::default();
    let files = Some(CodeFolder::new(folder.to_owned(), secret));
    let config = HostConfig { compiled_bytes, files, metrics: metrics.clone(), ..HostConfig::default() };
    (ContractHost::new(config).unwrap(), metrics)
}

/// Compilations, loads, faults.
fn counts(metrics: &Metrics) -> (u64, u64, u64) {
    (metrics.contract_compilations.get(), metrics.code_loads.get(), metrics.code_faults.get())
}

const ROOMY: u64 = 64 << 20;

#[test]
fn what_is_deployed_is_compiled_once_and_for_all_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let wasm = Contracts::new().number(7);
    let (first, metrics) = host(dir.path(), ROOMY, SECRET);
    assert!(!first.is_ready(&CodeHash::of(&wasm).0));
    first.check(&wasm).unwrap();
    assert!(first.is_ready(&CodeHash::of(&wasm).0));
    first.check(&wasm).unwrap();
    assert_eq!(answer(&first, &wasm), [10, 0, 0, 7]);
    assert_eq!(counts(&metrics), (1, 0, 0));
    assert!(metrics.compiled_bytes.get() > 0 && metrics.code_file_bytes.get() > 0);
    drop(first);
    let (second, metrics) = host(dir.path(), ROOMY, SECRET);
    assert!(second.is_ready(&CodeHash::of(&wasm).0));
    assert_eq!((answer(&second, &wasm), answer(&second, &wasm)), (vec![10, 0, 0, 7], vec![10, 0, 0, 7]));
    assert_eq!(counts(&metrics), (0, 1, 0));
}

/// What does not come from here is not even given to wasmtime: it is compiled again, counted, and replaced.
#[test]
fn machine_code_that_was_changed_is_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    let wasm = Contracts::new().number(8);
    let compile = || drop(host(dir.path(), ROOMY, SECRET).0.check(&wasm).unwrap());
    let file = || fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    compile();
    let whole = fs::read(file()).unwrap();
    let spoilt = [
        [&whole[..whole.len() / 2], &[whole[whole.len() / 2] ^ 1], &whole[whole.len() / 2 + 1..]].concat(),
        whole[..whole.len() - 1].to_vec(),
        whole[32..].to_vec(),
        Vec::new(),
    ];
    for octets in spoilt {
        fs::write(file(), octets).unwrap();
        let (host, metrics) = host(dir.path(), ROOMY, SECRET);
        assert_eq!(answer(&host, &wasm), [10, 0, 0, 8]);
        assert_eq!(counts(&metrics), (1, 0, 1));
        assert_eq!(fs::read(file()).unwrap().len(), whole.len());
    }
    // From another data directory: the secret is another.
    let (other, metrics) = host(dir.path(), ROOMY, b"another secret");
    assert_eq!(answer(&other, &wasm), [10, 0, 0, 8]);
    assert_eq!(counts(&metrics), (1, 0, 1));
}

#[test]
fn a_folder_that_cannot_be_used_is_done_without() {
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("taken");
    fs::write(&taken, b"a file").unwrap();
    let (without, metrics) = host(&taken, ROOMY, SECRET);
    assert_eq!(answer(&without, &Contracts::new().number(9)), [10, 0, 0, 9]);
    assert_eq!(counts(&metrics), (1, 0, 1));
    // It vanishes under the running gateway.
    let folder = dir.path().join("compiled");
    let (host, metrics) = host(&folder, ROOMY, SECRET);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(answer(&host, &Contracts::new().number(9)), [10, 0, 0, 9]);
    assert_eq!(counts(&metrics), (1, 0, 1));
}

/// The oldest make room in count and in octets; what has gone is compiled again.
#[test]
fn machine_code_on_disk_stays_within_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let contracts = Contracts::new();
    let sizes =
        || -> Vec<u64> { fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect() };
    let bounded = |files: usize, octets: u64| {
        let metrics = Arc::<Metrics>::default();
        let mut folder = CodeFolder::new(dir.path().to_owned(), SECRET);
        (folder.files, folder.octets) = (files, octets);
        let config = HostConfig { files: Some(folder), metrics: metrics.clone(), ..HostConfig::default() };
        (ContractHost::new(config).unwrap(), metrics)
    };
    let (few, _) = bounded(3, 64 << 20);
    for number in 0..10 {
        few.check(&contracts.number(number)).unwrap();
        assert!(sizes().len() <= 3);
    }
    let one = sizes()[0];
    drop(few);
    // A narrower bound holds from the start, and a third one does not fit.
    let (small, metrics) = bounded(1_000, 2 * one + one / 2);
    assert_eq!((sizes().len(), metrics.code_file_bytes.get()), (2, 2 * one));
    for number in 10..20 {
        small.check(&contracts.number(number)).unwrap();
        assert!(sizes().iter().sum::<u64>() <= 2 * one + one / 2);
    }
    drop(small);
    let (again, metrics) = bounded(1_000, 64 << 20);
    assert_eq!(
        (answer(&again, &contracts.number(0)), answer(&again, &contracts.number(19))),
        (vec![10, 0, 0, 0], vec![10, 0, 0, 19])
    );
    assert_eq!(counts(&metrics), (1, 1, 0));
}

/// T29: a disk that takes nothing more costs a restart a compilation, and no answer.
#[test]
fn a_full_disk_fails_no_execution() {
    let dir = tempfile::tempdir().unwrap();
    let contracts = Contracts::new();
    let (host, metrics) = host(dir.path(), ROOMY, SECRET);
    host.check(&contracts.number(1)).unwrap();
    let kept = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let ending = kept[64..].strip_suffix(".code").unwrap();
    // Files are written beside their places, by number: the next one goes to a device that is always full.
    let next = contracts.number(2);
    let fresh = dir.path().join(format!("{}{ending}.1.new", CodeHash::of(&next)));
    std::os::unix::fs::symlink("/dev/full", &fresh).unwrap();
    assert_eq!(answer(&host, &next), [10, 0, 0, 2]);
    assert_eq!(counts(&metrics), (2, 0, 1));
    assert!(!fresh.exists() && fs::read_dir(dir.path()).unwrap().count() == 1);
    // From memory, and once more after the disk has room again.
    assert_eq!(answer(&host, &next), [10, 0, 0, 2]);
    assert_eq!(answer(&host, &contracts.number(3)), [10, 0, 0, 3]);
    assert_eq!(counts(&metrics), (3, 0, 1));
}

/// What the process has held at most, as Linux tells it.
fn peak_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned()
}

/// So many different contracts are deployed, then each is executed, in an order that no cache likes.
fn many_at_once(many: u32, compiled_bytes: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (host, metrics) = host(dir.path(), compiled_bytes, SECRET);
    let contracts = Contracts::new();
    let mut resident = 0;
    let begun = Instant::now();
    for number in 0..many {
        host.check(&contracts.number(number)).unwrap();
        resident = resident.max(metrics.compiled_bytes.get());
    }
    let (compiling, begun) = (begun.elapsed(), Instant::now());
    for number in (0..many).chain((0..many).rev()) {
        assert_eq!(answer(&host, &contracts.number(number))[1..], number.to_be_bytes()[1..], "contract {number}");
        resident = resident.max(metrics.compiled_bytes.get());
    }
    let executing = begun.elapsed();
    let (compilations, loads, faults) = counts(&metrics);
    println!(
        "{many} contracts: {:.2?} to compile one, {:.1?} to execute one, {loads} loads from disk, {} KiB of machine code",
        compiling / many,
        executing / (2 * many),
        resident >> 10
    );
    println!("{}", peak_memory());
    assert!(resident <= compiled_bytes, "{resident} octets of machine code");
    assert_eq!((compilations, faults), (u64::from(many), 0));
    // Not all fit: the rest came from the disk, and some of it more than once.
    let kept = metrics.compiled_contracts.get();
    assert!(kept < u64::from(many) && loads >= u64::from(many) - kept, "{kept} kept, {loads} loaded");
}

#[test]
fn more_contracts_than_fit_in_memory_are_live_at_once() {
    many_at_once(150, 1 << 20);
}

/// `cargo test --release --test it ten_thousand -- --ignored`; docs/performance.md has what it takes.
#[test]
#[ignore = "compiles for half a minute"]
fn ten_thousand_contracts_are_live_at_once() {
    many_at_once(10_000, ghostplane::limits::COMPILED_BYTES);
}

#[test]
fn deployments_wait_for_the_compiler_in_bounded_number() {
    let host = ContractHost::new(HostConfig::default()).unwrap();
    let contracts = Contracts::new();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let (host, contracts) = (&host, &contracts);
        let many = 4 * (DEPLOYS_COMPILING + DEPLOYS_WAITING) as u32;
        let threads: Vec<_> = (0..many).map(|n| scope.spawn(move || host.check(&contracts.number(n)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().map(drop)).collect()
    });
    let refused = outcomes.iter().filter(|outcome| **outcome == Err(ContractError::Busy)).count();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(ContractError::Busy))));
    assert!(refused < outcomes.len());
    // Being refused then is not remembered.
    (0..outcomes.len() as u32).for_each(|n| drop(host.check(&contracts.number(n)).unwrap()));
}

/// A few kilobytes over which the compiler would sit for a minute, with gigabytes, are refused before it begins.
#[test]
fn what_would_keep_the_compiler_busy_is_not_compiled() {
    let metrics = Arc::<Metrics>::default();
    let host = ContractHost::new(HostConfig { metrics: metrics.clone(), ..HostConfig::default() }).unwrap();
    let values = "i64 ".repeat(100);
    let body = "i64.const 1 ".repeat(100) + &"loop (type $t) local.get 0 br_if 0 end ".repeat(1_000);
    let types = format!("{REALLOC} (type $t (func (param {values}) (result {values})))");
    let wasm = guest_with(&types, &(body + &"drop ".repeat(100) + "local.get 0"));
    assert!(wasm.len() < 16 << 10);
    match host.check(&wasm) {
        Err(error @ ContractError::Work(work)) => {
            assert!(work > COMPILE_WORK && error.to_string().contains("would take the compiler too long"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(metrics.contract_compilations.get(), 0);
    let nested = wat::parse_str("(component (component))").unwrap();
    assert_eq!(host.check(&nested).unwrap_err(), ContractError::Nested);
    // What comes with the program is nowhere near.
    for (contract, wasm) in ghostplane::node::SHIPPED {
        assert!(ghostplane::contract::worlds(wasm).is_ok(), "{contract}");
        assert_eq!(componentize(wasm).unwrap(), wasm);
    }
}
