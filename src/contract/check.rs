//! Whether octets are a contract, said clearly, before anything compiles or runs.

use std::sync::Arc;

use wasmparser::{BinaryReaderError, ComponentTypeRef, Encoding, Parser, Payload};

use super::host::Compiled;
use crate::limits::{CONTRACT_MEMORY, CONTRACT_TABLE, MAX_CONTRACT};

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
    #[error("imports something of the world under another type or version: {0}")]
    ImportType(String),
    #[error("does not export `resolve`")]
    MissingExport,
    #[error("exports `resolve` under another type: {0}")]
    ExportType(String),
    #[error("starts with {0} octets of memory, more than {CONTRACT_MEMORY}")]
    Memory(u64),
    #[error("starts with {0} table elements, more than {CONTRACT_TABLE}")]
    Table(u64),
    #[error("cannot be compiled: {0}")]
    Compile(String),
    #[error("code does not have the hash it is bound by")]
    Hash,
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
}

const PACKAGE: &str = "ghostplane:contract/";
const EXPORT: &str = "resolve";
const PAGE: u64 = 64 * 1024;

/// Looks through a component and the modules in it. What is wrong here has a name; what is left for the
/// compiler's validation is only "malformed".
pub(super) fn scan(wasm: &[u8]) -> Result<(), ContractError> {
    if wasm.len() > MAX_CONTRACT {
        return Err(ContractError::TooLarge(wasm.len()));
    }
    let mut scan = Scan::default();
    for payload in Parser::new(0).parse_all(wasm) {
        scan.payload(payload?)?;
    }
    if scan.exported { Ok(()) } else { Err(ContractError::MissingExport) }
}

/// How deep the payload is nested: imports and exports count in the outermost component only.
#[derive(Default)]
struct Scan {
    depth: usize,
    exported: bool,
}

impl Scan {
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), ContractError> {
        match payload {
            Payload::Version { encoding, .. } => self.enter(encoding)?,
            Payload::End(_) => self.depth -= 1,
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
                    self.exported |= export?.name.name == EXPORT;
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
        self.depth += 1;
        Ok(())
    }
}

fn known_import(name: &str) -> Result<(), ContractError> {
    if name.starts_with(PACKAGE) { Ok(()) } else { Err(ContractError::UnknownImport(super::failure::text(name))) }
}

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
