//! The Merkle tree of RFC 9162 §2.1 over rows of hashes, its proofs and their verification.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Levels of the tree between two rows of [`Hashes`]: a tile's height.
const ROW_HEIGHT: u32 = 8;

/// A SHA-256 of the tree; displayed in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Reads 64 lower-case hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// Reads the padded base64 of 32 octets.
    pub fn from_base64(text: &str) -> Option<Self> {
        super::from_base64(text)?.try_into().ok().map(Self)
    }

    /// Padded base64, as checkpoints have it.
    pub fn to_base64(self) -> String {
        data_encoding::BASE64.encode(&self.0)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// The hash of a leaf: SHA-256 of 0x00 and its octets.
pub fn leaf_hash(octets: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(octets).finalize().into())
}

/// The hash of an inner node: SHA-256 of 0x01 and the hashes below it.
pub fn node_hash(left: Hash, right: Hash) -> Hash {
    Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// What is kept of a tree: of its complete subtrees those with 256^level leaves, row by row.
pub trait Hashes {
    /// Why they cannot be had.
    type Fault;

    /// `count` hashes of `level` from `first` on, the i-th of a level being that of leaves `i * 256^level` to
    /// `(i + 1) * 256^level`. At most 256 are asked for, all in one tile. Fewer are a fault.
    fn hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, Self::Fault>;
}

/// The root of the first `size` leaves.
///
/// # Errors
/// The hashes cannot be had; so below.
pub fn root<H: Hashes>(hashes: &H, size: u64) -> Result<Hash, H::Fault> {
    if size == 0 { Ok(empty_root()) } else { subtree(hashes, 0, size) }
}

/// The inclusion proof of a leaf in the tree of the first `size` leaves (§2.1.3.1), from the leaf's sibling upwards.
/// `index` must be below `size`.
pub fn inclusion<H: Hashes>(hashes: &H, index: u64, size: u64) -> Result<Vec<Hash>, H::Fault> {
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(subtree(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(subtree(hashes, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of the first `from` leaves is the beginning of that of the first `to` (§2.1.4.1). `from`
/// must not be above `to`; of nothing, and of a tree with itself, the proof is empty.
pub fn consistency<H: Hashes>(hashes: &H, from: u64, to: u64) -> Result<Vec<Hash>, H::Fault> {
    if from == 0 || from == to {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, to);
    let mut path = Vec::new();
    // Down to the subtree whose end is that of the older tree.
    while end != from {
        let middle = start + split(end - start);
        if from <= middle {
            path.push(subtree(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(subtree(hashes, start, middle)?);
            start = middle;
        }
    }
    // Whoever has the older root knows that subtree if it is all of it.
    if start > 0 {
        path.push(subtree(hashes, start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// The largest power of two below `leaves`, which is at least 2.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// The hash over leaves `start` to `end`, at least one, where `start` is a multiple of the power of two that holds them:
/// so it is wherever the tree splits.
fn subtree<H: Hashes>(hashes: &H, start: u64, end: u64) -> Result<Hash, H::Fault> {
    let leaves = end - start;
    if !leaves.is_power_of_two() {
        let middle = start + split(leaves);
        return Ok(node_hash(subtree(hashes, start, middle)?, subtree(hashes, middle, end)?));
    }
    let height = leaves.ilog2();
    let level = height / ROW_HEIGHT;
    Ok(fold(hashes.hashes(level as u8, start >> (level * ROW_HEIGHT), 1 << (height % ROW_HEIGHT))?))
}

/// The hash over a row of a power of two of hashes.
pub fn fold(mut row: Vec<Hash>) -> Hash {
    while row.len() > 1 {
        row = row.chunks_exact(2).map(|pair| node_hash(pair[0], pair[1])).collect();
    }
    row.first().copied().unwrap_or_else(empty_root)
}

/// True if `path` proves that the tree of `size` leaves with this root has `leaf` at `index` (§2.1.3.2).
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, path: &[Hash], root: Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = leaf;
    for &sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, hash);
            climb_to_right_child(&mut node, &mut last);
        } else {
            hash = node_hash(hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// True if `path` proves that the tree of `from` leaves is the beginning of the tree of `to` (§2.1.4.2).
pub fn verify_consistency(from: u64, from_root: Hash, to: u64, to_root: Hash, path: &[Hash]) -> bool {
    if from == to {
        return path.is_empty() && from_root == to_root;
    }
    if from == 0 {
        return path.is_empty() && from_root == empty_root();
    }
    if from > to {
        return false;
    }
    // A complete older tree is a node of the newer one: its root stands first.
    let first = if from.is_power_of_two() { Some(from_root) } else { None };
    let mut path = first.into_iter().chain(path.iter().copied());
    let Some(seed) = path.next() else { return false };
    let (mut node, mut last) = (from - 1, to - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut older, mut newer) = (seed, seed);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            older = node_hash(sibling, older);
            newer = node_hash(sibling, newer);
            climb_to_right_child(&mut node, &mut last);
        } else {
            newer = node_hash(newer, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && older == from_root && newer == to_root
}

/// Passes over the levels at which the last node has no sibling.
fn climb_to_right_child(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}

/// A tree that only grows: the roots of its complete subtrees, at most 64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The largest subtree first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf; `stored` is told level, index and hash of every hash that [`Hashes`] has from now on.
    pub fn push(&mut self, leaf: Hash, mut stored: impl FnMut(u8, u64, Hash)) {
        stored(0, self.size, leaf);
        let (mut hash, mut index, mut height) = (leaf, self.size, 0);
        while index & 1 == 1 {
            // There is a peak for every bit of the size.
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(left, hash);
            index >>= 1;
            height += 1;
            if height % ROW_HEIGHT == 0 {
                stored((height / ROW_HEIGHT) as u8, index, hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of all leaves so far.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev().copied();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(last, |right, left| node_hash(left, right))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Everything that [`Frontier`] has told of.
    #[derive(Default)]
    struct Rows(HashMap<(u8, u64), Hash>);

    impl Hashes for Rows {
        type Fault = String;

        fn hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, String> {
            assert!(count <= 256 && first / 256 == (first + count as u64 - 1) / 256, "not in one tile");
            let get = |index| self.0.get(&(level, index)).copied().ok_or_else(|| format!("no hash {index} of {level}"));
            (first..first + count as u64).map(get).collect()
        }
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    fn grown(count: u64) -> (Frontier, Rows) {
        let (mut frontier, mut rows) = (Frontier::default(), Rows::default());
        for leaf in leaves(count) {
            frontier.push(leaf, |level, index, hash| assert!(rows.0.insert((level, index), hash).is_none()));
        }
        (frontier, rows)
    }

    /// RFC 9162 §2.1.1, word for word.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let mut k = 1;
                while 2 * k < leaves.len() {
                    k *= 2;
                }
                node_hash(mth(&leaves[..k]), mth(&leaves[k..]))
            }
        }
    }

    /// §2.1.3.1
    fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return vec![];
        }
        let k = split(leaves.len() as u64) as usize;
        let (mut path, sibling) = if m < k {
            (path(m, &leaves[..k]), mth(&leaves[k..]))
        } else {
            (path(m - k, &leaves[k..]), mth(&leaves[..k]))
        };
        path.push(sibling);
        path
    }

    /// §2.1.4.1
    fn subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if whole { vec![] } else { vec![mth(leaves)] };
        }
        let k = split(leaves.len() as u64) as usize;
        let (mut path, sibling) = if m <= k {
            (subproof(m, &leaves[..k], whole), mth(&leaves[k..]))
        } else {
            (subproof(m - k, &leaves[k..], false), mth(&leaves[..k]))
        };
        path.push(sibling);
        path
    }

    /// Every tree of up to 70 leaves, every leaf, every older tree.
    #[test]
    fn small_trees_are_those_of_the_rfc() {
        let (_, rows) = grown(70);
        let all = leaves(70);
        for size in 1..=70_u64 {
            let tree = &all[..size as usize];
            let top = mth(tree);
            assert_eq!(root(&rows, size), Ok(top));
            assert_eq!(grown(size).0.root(), top);
            for index in 0..size {
                let proof = inclusion(&rows, index, size).unwrap();
                assert_eq!(proof, path(index as usize, tree));
                assert!(verify_inclusion(all[index as usize], index, size, &proof, top));
                assert!(!verify_inclusion(all[index as usize], index + 1, size, &proof, top));
                assert!(!verify_inclusion(all[(index as usize + 1) % 70], index, size, &proof, top));
            }
            for from in 1..=size {
                let (proof, older) = (consistency(&rows, from, size).unwrap(), mth(&all[..from as usize]));
                assert_eq!(proof, subproof(from as usize, tree, true));
                assert!(verify_consistency(from, older, size, top, &proof));
                assert!(from == size || !verify_consistency(from, top, size, top, &proof));
            }
        }
        assert_eq!(root(&rows, 0), Ok(empty_root()));
        assert!(verify_consistency(0, empty_root(), 5, mth(&all[..5]), &[]));
        assert!(!verify_consistency(0, all[0], 5, mth(&all[..5]), &[]));
        assert!(!verify_consistency(6, all[0], 5, all[0], &[]));
        assert!(!verify_inclusion(all[0], 0, 0, &[], empty_root()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        /// Trees of several rows; a proof with any hash changed, left out or added proves nothing.
        #[test]
        fn large_trees_agree_with_the_model_and_false_proofs_fail(
            size in 2..1_500_u64, index in any::<u64>(), from in any::<u64>(), at in any::<usize>(), bit in 0..256_usize,
        ) {
            let (index, from) = (index % size, 1 + from % size);
            let (frontier, rows) = grown(size);
            let all = leaves(size);
            let top = mth(&all);
            prop_assert_eq!(frontier.root(), top);
            prop_assert_eq!(root(&rows, size), Ok(top));
            let flipped = |proof: &[Hash]| {
                let mut proof = proof.to_vec();
                let at = at % proof.len().max(1);
                if let Some(hash) = proof.get_mut(at) { hash.0[bit / 8] ^= 1 << (bit % 8) }
                proof
            };
            let longer = |proof: &[Hash]| [proof, &[top]].concat();
            let leaf = all[index as usize];
            let proof = inclusion(&rows, index, size).unwrap();
            prop_assert_eq!(&proof, &path(index as usize, &all));
            prop_assert!(verify_inclusion(leaf, index, size, &proof, top));
            prop_assert!(!verify_inclusion(leaf, index, size, &flipped(&proof), top));
            prop_assert!(!verify_inclusion(leaf, index, size, &proof[1..], top));
            prop_assert!(!verify_inclusion(leaf, index, size, &longer(&proof), top));
            let older = mth(&all[..from as usize]);
            let proof = consistency(&rows, from, size).unwrap();
            prop_assert_eq!(&proof, &subproof(from as usize, &all, true));
            prop_assert!(verify_consistency(from, older, size, top, &proof));
            if !proof.is_empty() {
                prop_assert!(!verify_consistency(from, older, size, top, &flipped(&proof)));
                prop_assert!(!verify_consistency(from, older, size, top, &proof[1..]));
            }
            prop_assert!(!verify_consistency(from, older, size, top, &longer(&proof)));
        }
    }

    /// Values of a few lines of Python (hashlib and the recursion of RFC 9162 §2.1.1), over the leaves that tests of
    /// Certificate Transparency have used from the first.
    #[test]
    fn known_values() {
        let hash = |text: &str| Hash::from_hex(text).unwrap();
        assert_eq!(empty_root(), hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
        assert_eq!(leaf_hash(b""), hash("6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"));
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = KNOWN_ROOTS.map(hash);
        let mut frontier = Frontier::default();
        for (input, root) in inputs.into_iter().zip(roots) {
            frontier.push(leaf_hash(input), |_, _, _| {});
            assert_eq!(frontier.root(), root, "{} leaves", frontier.size());
        }
    }

    const KNOWN_ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
}
