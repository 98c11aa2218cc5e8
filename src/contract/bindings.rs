//! Host side of the WIT world, generated.
#![allow(unsafe_code, reason = "the generated lifting and lowering code is unsafe; no line of it is ours")]

wasmtime::component::bindgen!({
    world: "resolver",
    path: "contracts/wit",
    imports: { default: trappable },
});
