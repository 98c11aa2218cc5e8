//! Core modules to components: what `ghostplane contract build` and contracts/build.sh do.

use wasmparser::{Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldKey};

use crate::limits::MAX_CONTRACT;

/// The world a contract is written against.
pub const WIT: &str = include_str!("../../contracts/wit/world.wit");

/// Octets of the core module; some of it is debug information that does not get into the component.
const MAX_CORE_MODULE: usize = 16 * MAX_CONTRACT;

/// Why a core module does not become a component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComponentizeError {
    #[error("module has {0} octets, more than {MAX_CORE_MODULE}")]
    TooLarge(usize),
    #[error("not a WebAssembly module: {0}")]
    Malformed(String),
    #[error("module exports none of `resolve`, `judge` and `call`: it is of no world")]
    NoWorld,
    #[error("module does not fit the worlds of ghostplane:contract: {0}")]
    Encode(String),
}

/// Encodes a core module as a component. A module without a `component-type` section, as any compiler without a
/// binding generator makes it, is taken to follow the canonical ABI of the worlds whose functions it exports. A
/// component is returned as it is.
pub fn componentize(wasm: &[u8]) -> Result<Vec<u8>, ComponentizeError> {
    if wasm.len() > MAX_CORE_MODULE {
        return Err(ComponentizeError::TooLarge(wasm.len()));
    }
    match kind(wasm).map_err(|error| ComponentizeError::Malformed(error.to_string()))? {
        Kind::Component => Ok(wasm.to_vec()),
        Kind::TypedModule => encode(wasm),
        Kind::BareModule(exports) => encode(&with_world(wasm, &exports)?),
    }
}

enum Kind {
    Component,
    /// A core module that says which world it is of.
    TypedModule,
    /// One that does not, and what it exports.
    BareModule(Vec<String>),
}

fn kind(wasm: &[u8]) -> Result<Kind, wasmparser::BinaryReaderError> {
    let mut exports = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export?.name.to_owned());
                }
            }
            Payload::Version { encoding: Encoding::Component, .. } => return Ok(Kind::Component),
            Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                return Ok(Kind::TypedModule);
            }
            _ => {}
        }
    }
    Ok(Kind::BareModule(exports))
}

fn with_world(module: &[u8], exports: &[String]) -> Result<Vec<u8>, ComponentizeError> {
    let mut resolve = Resolve::default();
    // The WIT is part of this program, and the tests run this line.
    let package = resolve.push_source("world.wit", WIT).expect("the shipped WIT is valid");
    let world = resolve.select_world(&[package], Some("contract")).expect("the shipped WIT has world contract");
    let world_exports = &mut resolve.worlds[world].exports;
    world_exports.retain(|key, _| matches!(key, WorldKey::Name(name) if exports.contains(name)));
    if world_exports.is_empty() {
        return Err(ComponentizeError::NoWorld);
    }
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the shipped world can be written as a component type");
    Ok(module)
}

fn encode(module: &[u8]) -> Result<Vec<u8>, ComponentizeError> {
    let encoded = ComponentEncoder::default().validate(true).module(module).and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| ComponentizeError::Encode(format!("{error:#}")))
}
