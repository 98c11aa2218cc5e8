//! Whether this machine lets us execute at all: a tiny program is compiled, loaded and called.
//!
//! Machine code needs memory that may be executed. systemd's `MemoryDenyWriteExecute` and SELinux can forbid it; then
//! everything else works, and every answer is a failure.

use super::{ReadFault, Reads, Worlds};
use crate::wire::{Name, Resolution, Rtype, Scope, Subnet};

/// A core module: `call` and `cabi_realloc` give constants, and the memory is zero. So `call` returns an empty list.
pub(super) const PROGRAM: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x0f\x02\x60\x02\x7f\x7f\x01\x7f\x60\x04\x7f\x7f\x7f\x7f\x01\x7f\
    \x03\x03\x02\x00\x01\
    \x05\x03\x01\x00\x01\
    \x07\x20\x03\x06memory\x02\x00\x04call\x00\x00\x0ccabi_realloc\x00\x01\
    \x0a\x0c\x02\x04\x00\x41\x10\x0b\x05\x00\x41\x80\x08\x0b";

/// A registry without anything.
pub(super) struct Nothing;

impl Reads for Nothing {
    fn lookup(&mut self, _name: &Name, _rtype: Rtype) -> Result<Resolution, ReadFault> {
        Ok(Resolution::NxDomain)
    }

    fn zone(&mut self) -> Name {
        Name::root()
    }

    fn owner_key(&mut self) -> Option<[u8; 32]> {
        None
    }

    fn bound_contract(&mut self) -> Option<[u8; 32]> {
        None
    }

    fn bound_worlds(&mut self) -> Result<Worlds, ReadFault> {
        Ok(Worlds::default())
    }

    fn parameters(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn now(&mut self) -> u64 {
        0
    }

    fn client_subnet(&mut self, _scope: Scope) -> Option<Subnet> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ContractHost, HostConfig};

    #[test]
    fn it_passes_here_and_again() {
        let host = ContractHost::new(HostConfig::default()).unwrap();
        assert_eq!((host.self_test(), host.self_test()), (Ok(()), Ok(())));
    }
}
