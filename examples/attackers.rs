//! Contracts that mean harm, for benches/attack.sh: `attackers FOLDER` writes them.

use std::path::PathBuf;

use ghostplane::contract::componentize;

/// What each does in `resolve`. The first burns nearly its whole fuel and answers all the same, so that it is never in
/// quarantine; the others break.
const ATTACKERS: [(&str, &str); 4] = [
    (
        "burn",
        "(local $n i32) (local.set $n (i32.const 370000))
         (loop $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (br_if $l)) (i32.const 1024)",
    ),
    ("loop", "(loop $l (br $l)) unreachable"),
    ("trap", "unreachable"),
    (
        "flood",
        "(loop $l (call $lookup (local.get $name) (local.get $len) (i32.const 1) (i32.const 64)) (br $l)) unreachable",
    ),
];

/// At 1024 stands the result NXDOMAIN; the heap begins at 32768.
fn module(resolve: &str) -> String {
    format!(
        r#"(module
          (import "ghostplane:contract/registry@0.2.0" "lookup" (func $lookup (param i32 i32 i32 i32)))
          (memory (export "memory") 2)
          (data (i32.const 1024) "\00\00\00\00\04\00\00\00")
          (global $next (mut i32) (i32.const 32768))
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get 3)))
            (local.get $at))
          (func $resolve (export "resolve") (param $name i32) (param $len i32) (param $type i32) (param $zone i32)
            (param $zone_len i32) (result i32)
            {resolve}))"#
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("attackers FOLDER")?);
    for (name, resolve) in ATTACKERS {
        std::fs::write(folder.join(format!("{name}.wasm")), componentize(&wat::parse_str(module(resolve))?)?)?;
    }
    Ok(())
}
