//! What a leaf of the tree holds.

use minicbor::{Decode, Encode};

use crate::limits::MAX_LEAF;
use crate::op::CodeHash;

/// The octets of the leaf of an op that was accepted at `time` (seconds since 1970): deterministic CBOR of `[time, op]`,
/// or where that is longer than `MAX_LEAF`, of `[time, SHA-256 of op, octets of op]`. Entry bundles give a leaf 16 bits
/// of length (C2SP tlog-tiles), and ops that deploy contracts are longer than that.
pub fn leaf(time: u64, op: &[u8]) -> Vec<u8> {
    let whole = encode(&Whole { time, op: op.to_vec() });
    if whole.len() <= MAX_LEAF {
        return whole;
    }
    encode(&Digest { time, hash: CodeHash::of(op), octets: op.len() as u64 })
}

/// A leaf that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// Op time, and the signed op.
    Whole { time: u64, op: Vec<u8> },
    /// Op time, and the SHA-256 and length of a signed op that is to be had elsewhere.
    Digest { time: u64, hash: CodeHash, octets: u64 },
}

impl Leaf {
    /// Reads a leaf; `None` for octets that [`leaf`] never makes.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        if octets.len() > MAX_LEAF {
            return None;
        }
        if let Ok(Whole { time, op }) = minicbor::decode(octets)
            && leaf(time, &op) == octets
        {
            return Some(Self::Whole { time, op });
        }
        let digest: Digest = minicbor::decode(octets).ok()?;
        let Digest { time, hash, octets: length } = digest;
        // Long enough not to stand in the leaf itself.
        let needed = encode(&Whole { time, op: Vec::new() }).len() as u64 + length + 2 > MAX_LEAF as u64;
        (needed && encode(&digest) == octets).then_some(Self::Digest { time, hash, octets: length })
    }
}

#[derive(Encode, Decode)]
struct Whole {
    #[n(0)]
    time: u64,
    #[cbor(n(1), with = "minicbor::bytes")]
    op: Vec<u8>,
}

#[derive(Encode, Decode)]
struct Digest {
    #[n(0)]
    time: u64,
    #[n(1)]
    hash: CodeHash,
    #[n(2)]
    octets: u64,
}

fn encode(value: &impl Encode<()>) -> Vec<u8> {
    // Writing to a Vec cannot fail.
    minicbor::to_vec(value).expect("encoding into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_read_back_and_has_one_form() {
        let op = vec![7; 100];
        let short = leaf(1_800_000_000, &op);
        assert_eq!(short[..8], [0x82, 0x1a, 0x6b, 0x49, 0xd2, 0x00, 0x58, 100]);
        assert_eq!(Leaf::parse(&short), Some(Leaf::Whole { time: 1_800_000_000, op: op.clone() }));
        // The same number in more octets than it needs; an octet too many.
        let loose = [&[0x82, 0x1b, 0, 0, 0, 0][..], &short[2..]].concat();
        assert_eq!(Leaf::parse(&loose), None);
        assert_eq!(Leaf::parse(&[&short[..], &[0]].concat()), None);
    }

    #[test]
    fn a_long_op_stands_in_its_leaf_by_its_hash() {
        for length in [MAX_LEAF - 9, MAX_LEAF - 8, MAX_LEAF - 7, MAX_LEAF, 500_000] {
            let op = vec![1; length];
            let octets = leaf(1_800_000_000, &op);
            assert!(octets.len() <= MAX_LEAF);
            match Leaf::parse(&octets).unwrap() {
                Leaf::Whole { op: read, .. } => assert_eq!((read.len(), octets.len()), (length, length + 9)),
                Leaf::Digest { hash, octets, .. } => assert_eq!((hash, octets), (CodeHash::of(&op), length as u64)),
            }
        }
        let short = Digest { time: 1, hash: CodeHash([0; 32]), octets: 5 };
        assert_eq!(Leaf::parse(&encode(&short)), None);
    }
}
