//! Write a Ghostplane contract in Rust: a function from [`Question`] to [`Resolution`].
//!
//! ```ignore
//! #![no_std]
//! use ghostplane_contract::{Failure, Question, Resolution, registry};
//!
//! ghostplane_contract::resolver!(resolve);
//!
//! fn resolve(question: &Question) -> Result<Resolution, Failure> {
//!     Ok(registry::lookup(&question.name, question.rr_type).into())
//! }
//! ```
//!
//! [`covenant!`] and [`program!`] export the other two kinds; a contract may be of several.
//!
//! Every question gets a fresh instance, so the allocator only ever hands out (nothing is freed) and a
//! panic is a trap: the asker gets SERVFAIL.

#![no_std]

pub extern crate alloc;

#[cfg(target_arch = "wasm32")]
mod runtime;

pub mod base64;
pub mod caip;
pub mod covenants;
pub mod defaults;
pub mod name;
pub mod rdata;
pub mod rrtype;
pub mod text;

#[doc(hidden)]
pub mod bindings {
    pub mod imports {
        wit_bindgen::generate!({
            world: "imports",
            path: "../wit",
            generate_all,
            additional_derives: [PartialEq, Eq],
        });
    }

    pub mod resolver {
        wit_bindgen::generate!({
            world: "resolver",
            path: "../wit",
            pub_export_macro: true,
            default_bindings_module: "ghostplane_contract::bindings::resolver",
            with: {
                "ghostplane:contract/types@0.2.0": super::imports::ghostplane::contract::types,
                "ghostplane:contract/registry@0.2.0": super::imports::ghostplane::contract::registry,
                "ghostplane:contract/context@0.2.0": super::imports::ghostplane::contract::context,
                "ghostplane:contract/crypto@0.2.0": super::imports::ghostplane::contract::crypto,
                "ghostplane:contract/debug@0.2.0": super::imports::ghostplane::contract::debug,
            },
        });
    }

    pub mod covenant {
        wit_bindgen::generate!({
            world: "covenant",
            path: "../wit",
            pub_export_macro: true,
            default_bindings_module: "ghostplane_contract::bindings::covenant",
            additional_derives: [PartialEq, Eq],
            with: {
                "ghostplane:contract/types@0.2.0": super::imports::ghostplane::contract::types,
                "ghostplane:contract/registry@0.2.0": super::imports::ghostplane::contract::registry,
                "ghostplane:contract/context@0.2.0": super::imports::ghostplane::contract::context,
                "ghostplane:contract/crypto@0.2.0": super::imports::ghostplane::contract::crypto,
                "ghostplane:contract/debug@0.2.0": super::imports::ghostplane::contract::debug,
                "ghostplane:contract/writes@0.2.0": generate,
            },
        });
    }

    pub mod program {
        wit_bindgen::generate!({
            world: "program",
            path: "../wit",
            pub_export_macro: true,
            default_bindings_module: "ghostplane_contract::bindings::program",
            with: {
                "ghostplane:contract/types@0.2.0": super::imports::ghostplane::contract::types,
                "ghostplane:contract/registry@0.2.0": super::imports::ghostplane::contract::registry,
                "ghostplane:contract/context@0.2.0": super::imports::ghostplane::contract::context,
                "ghostplane:contract/crypto@0.2.0": super::imports::ghostplane::contract::crypto,
                "ghostplane:contract/debug@0.2.0": super::imports::ghostplane::contract::debug,
            },
        });
    }
}

pub use bindings::covenant::ghostplane::contract::writes;
pub use bindings::imports::ghostplane::contract::types::{
    Answer, Caa, Cert, Failure, Found, Mx, Question, Rdata, Resolution, Rrset, Srv, Sshfp, SvcParam, Svcb, Tlsa, Uri, Wallet,
};
pub use bindings::imports::ghostplane::contract::{context, crypto, debug, registry};

/// Exports a `fn(&Question) -> Result<Resolution, Failure>` that answers questions.
#[macro_export]
macro_rules! resolver {
    ($resolve:path) => {
        const _: () = {
            struct Contract;

            impl $crate::bindings::resolver::Guest for Contract {
                fn resolve(question: $crate::Question) -> Result<$crate::Resolution, $crate::Failure> {
                    $resolve(&question)
                }
            }

            $crate::bindings::resolver::export!(Contract with_types_in $crate::bindings::resolver);
        };
    };
}

/// Exports a `fn(&Write) -> Result<(), String>` that allows or denies writes.
#[macro_export]
macro_rules! covenant {
    ($judge:path) => {
        const _: () = {
            struct Contract;

            impl $crate::bindings::covenant::Guest for Contract {
                fn judge(write: $crate::writes::Write) -> Result<(), $crate::alloc::string::String> {
                    $judge(&write)
                }
            }

            $crate::bindings::covenant::export!(Contract with_types_in $crate::bindings::covenant);
        };
    };
}

/// Exports a `fn(&[u8]) -> Result<Vec<u8>, Failure>` that anyone may call.
#[macro_export]
macro_rules! program {
    ($call:path) => {
        const _: () = {
            struct Contract;

            impl $crate::bindings::program::Guest for Contract {
                fn call(
                    input: $crate::alloc::vec::Vec<u8>,
                ) -> Result<$crate::alloc::vec::Vec<u8>, $crate::Failure> {
                    $call(&input)
                }
            }

            $crate::bindings::program::export!(Contract with_types_in $crate::bindings::program);
        };
    };
}

impl Resolution {
    /// One RRset at the asked name, of the asked type; no data without records.
    pub fn synthesised(question: &Question, ttl: u32, rdata: alloc::vec::Vec<Rdata>) -> Self {
        if rdata.is_empty() {
            return Self::NoData;
        }
        let (owner, rr_type) = (question.name.clone(), question.rr_type);
        Self::Records(alloc::vec![Answer::Synthesised(Rrset { owner, rr_type, ttl, rdata })])
    }

    /// The stored data: what is there without a contract.
    pub fn stored(question: &Question) -> Self {
        registry::lookup(&question.name, question.rr_type).into()
    }
}

impl From<Found> for Resolution {
    fn from(found: Found) -> Self {
        let answers = |handles: alloc::vec::Vec<u32>| handles.into_iter().map(Answer::Stored).collect();
        match found {
            Found::Records(handles) => Self::Records(answers(handles)),
            Found::Alias(handles) => Self::Alias(answers(handles)),
            Found::Delegation(handles) => Self::Delegation(answers(handles)),
            Found::NoData => Self::NoData,
            Found::NxDomain => Self::NxDomain,
        }
    }
}

/// RDATA of the stored RRset of a type at a name itself, aliases not followed; empty if there is none.
pub fn stored_rdata(name: &[u8], rr_type: u16) -> alloc::vec::Vec<Rdata> {
    match registry::lookup(name, rr_type) {
        Found::Records(handles) => handles.first().map(|handle| registry::read(*handle).rdata).unwrap_or_default(),
        _ => alloc::vec::Vec::new(),
    }
}

impl Failure {
    /// [`Failure::Other`] with these words.
    pub fn other(words: impl Into<alloc::string::String>) -> Self {
        Self::Other(words.into())
    }
}
