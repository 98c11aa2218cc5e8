//! Write a Ghostplane resolution contract in Rust: a function from [`Question`] to [`Resolution`].
//!
//! ```ignore
//! #![no_std]
//! use ghostplane_contract::{Failure, Question, Resolution, registry};
//!
//! ghostplane_contract::contract!(resolve);
//!
//! fn resolve(question: &Question) -> Result<Resolution, Failure> {
//!     Ok(registry::lookup(&question.name, question.rr_type))
//! }
//! ```
//!
//! Every question gets a fresh instance, so the allocator only ever hands out (nothing is freed) and a
//! panic is a trap: the asker gets SERVFAIL.

#![no_std]

pub extern crate alloc;

#[cfg(target_arch = "wasm32")]
mod runtime;

pub mod caip;
pub mod defaults;
pub mod name;
pub mod rdata;
pub mod rrtype;

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "resolver",
        path: "../wit",
        pub_export_macro: true,
        default_bindings_module: "ghostplane_contract::bindings",
        additional_derives: [PartialEq, Eq],
    });
}

pub use bindings::ghostplane::contract::registry;
pub use bindings::ghostplane::contract::types::{Answer, Failure, Question, Resolution, Rrset};

/// Exports a `fn(&Question) -> Result<Resolution, Failure>` as the contract.
#[macro_export]
macro_rules! contract {
    ($resolve:path) => {
        struct Contract;

        impl $crate::bindings::Guest for Contract {
            fn resolve(question: $crate::Question) -> Result<$crate::Resolution, $crate::Failure> {
                $resolve(&question)
            }
        }

        $crate::bindings::export!(Contract with_types_in $crate::bindings);
    };
}
