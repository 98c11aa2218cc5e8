//! `componentize IN.wasm OUT.wasm`: a core module becomes a component of world `resolver`. For
//! contracts/build.sh; people have `ghostplane contract build`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(from), Some(to), None) = (args.next(), args.next(), args.next()) else {
        return Err("usage: componentize IN.wasm OUT.wasm".into());
    };
    let component = ghostplane::contract::componentize(&std::fs::read(from)?)?;
    Ok(std::fs::write(to, component)?)
}
