//! Whether octets are a contract, said clearly, before anything compiles or runs.

use std::sync::Arc;

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentTypeRef, Encoding,
    Instance, Parser, Payload,
};

use super::budget::Budget;
use super::fuel::EXECUTION;
use super::library::Compiled;
use super::{MODULES, PACKAGE, VERSION};
use crate::limits::{COMPILE_WORK, CONTRACT_FUEL, CONTRACT_MEMORY, CONTRACT_TABLE, COVENANT_FUEL, MAX_CONTRACT};

/// Why octets are not a contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    #[error("{0} octets, more than {MAX_CONTRACT}")]
    TooLarge(usize),
    #[error("malformed at octet {at}: {what}")]
    Malformed { at: usize, what: String },
    #[error("a core module, not a component; `ghostplane contract build` makes one of it")]
    CoreModule,
    #[error("imports {0}, which contracts do not have")]
    UnknownImport(String),
    #[error("is built for {0}; this gateway has version {VERSION} of the worlds")]
    Version(String),
    #[error("imports something of the world under another type or version: {0}")]
    ImportType(String),
    #[error("exports none of `resolve`, `judge` and `call`: it is of no world")]
    MissingExport,
    #[error("exports `{0}` under another type: {1}")]
    ExportType(&'static str, String),
    #[error("starts with {0} octets of memory, more than {CONTRACT_MEMORY}")]
    Memory(u64),
    #[error("starts with {0} table elements, more than {CONTRACT_TABLE}")]
    Table(u64),
    #[error("has a component inside; a contract is one component around core modules")]
    Nested,
    #[error("has more than {MODULES} core modules, or instances of them")]
    Modules,
    #[error("would take the compiler too long: {0} units of work, more than {COMPILE_WORK}; split what is large")]
    Work(u64),
    #[error("takes {0} units of fuel to begin with, more than {1} for one execution: use less memory, fewer segments")]
    Instance(u64, u64),
    #[error("cannot be compiled: {0}")]
    Compile(String),
    #[error("code does not have the hash it is bound by")]
    Hash,
    /// Not the contract's fault, and never remembered.
    #[error("too many contracts wait for the compiler")]
    Busy,
    /// Not the contract's fault either: the machine has no descriptors, no address space or the like.
    #[error("the gateway cannot load contracts now: {0}")]
    Machine(String),
}

/// A contract that passed [`ContractHost::check`](super::ContractHost::check); nothing else makes one.
#[derive(Debug, Clone)]
pub struct CheckedContract {
    pub(super) hash: [u8; 32],
    pub(super) compiled: Arc<Compiled>,
}

impl CheckedContract {
    /// SHA-256 of the component.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Octets of its machine code.
    pub fn code_bytes(&self) -> u64 {
        self.compiled.bytes()
    }

    /// The worlds it is of.
    pub fn worlds(&self) -> Worlds {
        self.compiled.worlds()
    }
}

/// Which worlds a contract is of: what it exports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Worlds {
    /// `resolve`
    pub resolver: bool,
    /// `judge`
    pub covenant: bool,
    /// `call`
    pub program: bool,
}

pub(super) const RESOLVE: &str = "resolve";
pub(super) const JUDGE: &str = "judge";
pub(super) const CALL: &str = "call";

impl Worlds {
    /// The worlds in full, version and all.
    pub fn names(self) -> impl Iterator<Item = String> {
        let all = [(self.resolver, "resolver"), (self.covenant, "covenant"), (self.program, "program")];
        all.into_iter().filter(|(is, _)| *is).map(|(_, world)| format!("{PACKAGE}{world}@{VERSION}"))
    }

    /// The worlds of these [names](Self::names); others are passed over.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut worlds = Self::default();
        for name in names {
            match name.strip_prefix(PACKAGE).and_then(|name| name.split_once('@')) {
                Some(("resolver", _)) => worlds.resolver = true,
                Some(("covenant", _)) => worlds.covenant = true,
                Some(("program", _)) => worlds.program = true,
                _ => {}
            }
        }
        worlds
    }

    fn note(&mut self, export: &str) {
        match export {
            RESOLVE => self.resolver = true,
            JUDGE => self.covenant = true,
            CALL => self.program = true,
            _ => {}
        }
    }
}

/// Kind and cost of a contract, by its form. Nothing is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    pub worlds: Worlds,
    /// For the compiler, at most `COMPILE_WORK`.
    pub work: u64,
    /// Fuel that every execution begins with.
    pub instance_fuel: u64,
}

/// The worlds of a contract, by its exports; nothing is compiled.
///
/// # Errors
/// It is none.
pub fn worlds(wasm: &[u8]) -> Result<Worlds, ContractError> {
    Ok(estimate(wasm)?.worlds)
}

const PAGE: u64 = 64 * 1024;

/// Looks through a component and the modules in it. What is wrong here has a name; what is left for the
/// compiler's validation is only "malformed".
///
/// # Errors
/// It is no contract, or too dear.
pub fn estimate(wasm: &[u8]) -> Result<Estimate, ContractError> {
    let Scan { worlds, budget, fuel, .. } = Scan::of(wasm)?;
    if worlds == Worlds::default() {
        return Err(ContractError::MissingExport);
    }
    let fuel = fuel.saturating_add(EXECUTION);
    let least = if worlds.covenant { COVENANT_FUEL } else { CONTRACT_FUEL };
    if fuel > least {
        return Err(ContractError::Instance(fuel, least));
    }
    Ok(Estimate { worlds, work: budget.work(), instance_fuel: fuel })
}

/// What has been seen. A module is one deep, or two inside the component: imports and exports of the contract are at one.
#[derive(Default)]
struct Scan {
    depth: usize,
    worlds: Worlds,
    budget: Budget,
    /// Fuel of an instance of each module, by index.
    modules: Vec<u64>,
    defined: u32,
    instances: u32,
    /// Of all instances.
    fuel: u64,
}

impl Scan {
    fn of(wasm: &[u8]) -> Result<Self, ContractError> {
        if wasm.len() > MAX_CONTRACT {
            return Err(ContractError::TooLarge(wasm.len()));
        }
        let mut scan = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            scan.payload(payload?)?;
        }
        Ok(scan)
    }

    fn payload(&mut self, payload: Payload<'_>) -> Result<(), ContractError> {
        self.budget.section(&payload)?;
        match payload {
            Payload::Version { encoding, .. } => self.enter(encoding)?,
            Payload::End(_) => self.leave()?,
            Payload::ComponentImportSection(imports) if self.depth == 1 => {
                for import in imports {
                    let import = import?;
                    // A type alias brings nothing in; the world's own types come this way.
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        known_import(import.name.name)?;
                    }
                }
            }
            Payload::ComponentExportSection(exports) if self.depth == 1 => {
                for export in exports {
                    let export = export?;
                    self.worlds.note(export.name.name);
                    if export.kind == ComponentExternalKind::Module {
                        self.same_module(export.index);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    if let ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, index, .. } = alias? {
                        self.same_module(index);
                    }
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.instance(module_index)?;
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    bounded_memory(memory?.initial)?;
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    bounded_table(table?.ty.initial)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn enter(&mut self, encoding: Encoding) -> Result<(), ContractError> {
        if self.depth == 0 && encoding == Encoding::Module {
            return Err(ContractError::CoreModule);
        }
        // Calls between components are code that the compiler makes up from their types.
        if self.depth > 0 && encoding == Encoding::Component {
            return Err(ContractError::Nested);
        }
        self.depth += 1;
        if encoding == Encoding::Module {
            self.defined += 1;
            if self.defined > MODULES {
                return Err(ContractError::Modules);
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), ContractError> {
        self.depth -= 1;
        if self.depth == 1 {
            self.modules.push(self.budget.leave_module()?.fuel());
        }
        Ok(())
    }

    /// The next index is of a module that has one already.
    fn same_module(&mut self, index: u32) {
        self.modules.push(self.fuel_of(index));
    }

    /// An index of no module here cannot be linked. The linker finds that out.
    fn fuel_of(&self, index: u32) -> u64 {
        self.modules.get(index as usize).copied().unwrap_or(u64::MAX)
    }

    fn instance(&mut self, module: u32) -> Result<(), ContractError> {
        self.instances += 1;
        if self.instances > MODULES {
            return Err(ContractError::Modules);
        }
        self.fuel = self.fuel.saturating_add(self.fuel_of(module));
        Ok(())
    }
}

/// An interface of ours, of our version. A later patch would do as well, but there is none.
fn known_import(name: &str) -> Result<(), ContractError> {
    match name.strip_prefix(PACKAGE).map(|rest| rest.split_once('@')) {
        Some(Some((interface, VERSION))) if INTERFACES.contains(&interface) => Ok(()),
        Some(Some((_, version))) if version != VERSION => Err(ContractError::Version(super::failure::text(name))),
        _ => Err(ContractError::UnknownImport(super::failure::text(name))),
    }
}

/// What the worlds import.
const INTERFACES: [&str; 6] = ["types", "registry", "context", "crypto", "debug", "writes"];

fn bounded_memory(pages: u64) -> Result<(), ContractError> {
    let octets = pages.saturating_mul(PAGE);
    if octets > CONTRACT_MEMORY as u64 { Err(ContractError::Memory(octets)) } else { Ok(()) }
}

fn bounded_table(elements: u64) -> Result<(), ContractError> {
    if elements > CONTRACT_TABLE as u64 { Err(ContractError::Table(elements)) } else { Ok(()) }
}

impl From<BinaryReaderError> for ContractError {
    fn from(error: BinaryReaderError) -> Self {
        Self::Malformed { at: error.offset(), what: super::failure::text(error.message()) }
    }
}
