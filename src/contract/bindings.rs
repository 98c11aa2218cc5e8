//! Host side of the WIT worlds, generated: their types. The functions are linked by hand in `guest`, because each
//! takes fuel.
#![allow(unsafe_code, reason = "the generated lifting and lowering code is unsafe; no line of it is ours")]

wasmtime::component::bindgen!({
    world: "contract",
    path: "contracts/wit",
});
