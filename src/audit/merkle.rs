//! The Merkle tree of the log: RFC 6962, section 2.1, with SHA-256.
//!
//! A leaf is one line without its newline. Only the right [`Edge`] of the tree is kept, one hash for
//! each bit of its size, so that a log of any length costs a kilobyte. Whatever needs more of the
//! tree (a proof) reads the lines again.

use sha2::{Digest as _, Sha256};

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// A node of the tree.
pub type Hash = [u8; HASH_BYTES];

/// The hash of a line, given without its newline.
#[must_use]
pub fn leaf_hash(line: &[u8]) -> Hash {
    Sha256::new_with_prefix([0]).chain_update(line).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The right edge of a tree: the roots of the complete subtrees that it is made of, largest first.
///
/// INVARIANT: `nodes` has one hash for each bit that is set in `size`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    nodes: Vec<Hash>,
}

impl Edge {
    /// An edge that was written down; `None` if the nodes do not fit the size.
    #[must_use]
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Option<Self> {
        (nodes.len() == size.count_ones() as usize).then_some(Self { size, nodes })
    }

    /// Leaves in the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The hashes, largest subtree first.
    #[must_use]
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_subtree(0, leaf);
    }

    /// Appends a complete subtree of 2^`level` leaves; the size must be a multiple of that.
    fn push_subtree(&mut self, level: u32, root: Hash) {
        let mut node = root;
        let mut bits = self.size.checked_shr(level).unwrap_or(0);
        while bits & 1 == 1 {
            let Some(left) = self.nodes.pop() else { break };
            node = node_hash(&left, &node);
            bits >>= 1;
        }
        self.nodes.push(node);
        self.size += 1_u64.checked_shl(level).unwrap_or(0);
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        match nodes.next() {
            Some(last) => nodes.fold(*last, |right, left| node_hash(left, &right)),
            None => Sha256::digest([]).into(),
        }
    }

    /// The subtrees with the number of their first leaf and their level.
    fn subtrees(&self) -> impl Iterator<Item = (u64, u32, &Hash)> {
        let levels = (0..u64::BITS).rev().filter(|level| self.size >> level & 1 == 1);
        levels.zip(&self.nodes).scan(0_u64, |first, (level, node)| {
            let this = *first;
            *first += 1 << level;
            Some((this, level, node))
        })
    }
}

/// Makes the proof that leaf `index` is in the tree of the first `size` leaves (RFC 6962, section
/// 2.1.1) while the leaves are read once, in order.
#[derive(Debug)]
pub struct ProofBuilder {
    index: u64,
    /// The subtrees beside the path, from left to right.
    siblings: Vec<Sibling>,
    at: usize,
    next: u64,
}

#[derive(Debug)]
struct Sibling {
    /// Steps from the root.
    depth: usize,
    first: u64,
    end: u64,
    edge: Edge,
}

impl ProofBuilder {
    /// Begins behind `edge`, the part of the tree whose leaves are no longer there. `None` if the
    /// leaf is not in the tree, or is one of those.
    #[must_use]
    pub fn new(index: u64, size: u64, edge: &Edge) -> Option<Self> {
        if index >= size || index < edge.size() {
            return None;
        }
        let mut siblings = Vec::new();
        let (mut first, mut end) = (0, size);
        while end - first > 1 {
            let middle = first + largest_power_below(end - first);
            let (kept, beside) = if index < middle {
                ((first, middle), (middle, end))
            } else {
                ((middle, end), (first, middle))
            };
            let depth = siblings.len();
            let edge = Edge::default();
            siblings.push(Sibling { depth, first: beside.0, end: beside.1, edge });
            (first, end) = kept;
        }
        siblings.sort_by_key(|sibling| sibling.first);
        let mut builder = Self { index, siblings, at: 0, next: edge.size() };
        for (first, level, node) in edge.subtrees() {
            builder.sibling_of(first)?.edge.push_subtree(level, *node);
        }
        Some(builder)
    }

    /// The next leaf. Leaves behind the tree are passed over.
    pub fn push(&mut self, leaf: Hash) {
        let number = self.next;
        self.next += 1;
        if number != self.index
            && let Some(sibling) = self.sibling_of(number)
        {
            sibling.edge.push(leaf);
        }
    }

    fn sibling_of(&mut self, number: u64) -> Option<&mut Sibling> {
        while self.siblings.get(self.at).is_some_and(|sibling| sibling.end <= number) {
            self.at += 1;
        }
        self.siblings.get_mut(self.at).filter(|sibling| sibling.first <= number)
    }

    /// The proof, from the leaf upwards; `None` if leaves are missing.
    #[must_use]
    pub fn finish(mut self) -> Option<Vec<Hash>> {
        let complete = |sibling: &Sibling| sibling.edge.size() == sibling.end - sibling.first;
        if !self.siblings.iter().all(complete) || self.next <= self.index {
            return None;
        }
        self.siblings.sort_by_key(|sibling| std::cmp::Reverse(sibling.depth));
        Some(self.siblings.iter().map(|sibling| sibling.edge.root()).collect())
    }
}

/// The largest power of two below `count`, which is at least 2.
fn largest_power_below(count: u64) -> u64 {
    1 << (count - 1).checked_ilog2().unwrap_or(0)
}

/// The root that a proof leads to; compare it with a signed one. `None` if the proof has not the
/// length that the place of the leaf asks for.
#[must_use]
pub fn root_of_proof(index: u64, size: u64, leaf: Hash, proof: &[Hash]) -> Option<Hash> {
    // RFC 9162, section 2.1.3.2, says it for the same trees.
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut root) = (index, size - 1, leaf);
    for beside in proof {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            root = node_hash(beside, &root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            root = node_hash(&root, beside);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::{Edge, Hash, ProofBuilder, leaf_hash, node_hash, root_of_proof};

    /// As RFC 6962 writes it down.
    fn root_by_the_book(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Edge::default().root(),
            [leaf] => *leaf,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                node_hash(&root_by_the_book(&leaves[..half]), &root_by_the_book(&leaves[half..]))
            }
        }
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|number| leaf_hash(number.to_string().as_bytes())).collect()
    }

    fn edge_of(leaves: &[Hash]) -> Edge {
        let mut edge = Edge::default();
        for leaf in leaves {
            edge.push(*leaf);
        }
        edge
    }

    #[test]
    fn the_empty_tree_and_the_empty_leaf_are_those_of_the_rfc() {
        let hex = |hash: Hash| {
            let byte = |text: String, byte: &u8| text + &format!("{byte:02x}");
            hash.iter().fold(String::new(), byte)
        };

        assert_eq!(
            hex(Edge::default().root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex(leaf_hash(b"")),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }

    #[test]
    fn the_edge_has_the_root_of_the_book_at_every_size() {
        let leaves = leaves(70);
        for size in 0..leaves.len() {
            let edge = edge_of(&leaves[..size]);

            assert_eq!(edge.root(), root_by_the_book(&leaves[..size]), "{size}");
            assert_eq!(Edge::from_parts(edge.size(), edge.nodes().to_vec()), Some(edge));
        }
    }

    /// The proof of a leaf in the tree of all of these, of which the first `gone` are not read.
    fn proof(leaves: &[Hash], index: usize, gone: usize) -> Option<Vec<Hash>> {
        let edge = edge_of(&leaves[..gone]);
        let mut builder = ProofBuilder::new(index as u64, leaves.len() as u64, &edge)?;
        for leaf in &leaves[gone..] {
            builder.push(*leaf);
        }
        builder.finish()
    }

    #[test]
    fn every_leaf_is_proved_in_every_tree_also_when_older_leaves_have_gone() {
        let leaves = leaves(40);
        let sizes = 1..=leaves.len();
        for (size, index) in sizes.flat_map(|size| (0..size).map(move |index| (size, index))) {
            let tree = &leaves[..size];
            for gone in [0, index / 2, index] {
                let proof = proof(tree, index, gone).unwrap();

                let root = root_of_proof(index as u64, size as u64, leaves[index], &proof);
                assert_eq!(root, Some(edge_of(tree).root()), "{index} of {size}, {gone} gone");
            }
        }
    }

    #[test]
    fn a_proof_for_another_place_leads_elsewhere() {
        let leaves = leaves(13);
        let root = edge_of(&leaves).root();
        let proof = proof(&leaves, 5, 0).unwrap();

        assert_eq!(root_of_proof(5, 13, leaves[5], &proof), Some(root));
        assert_ne!(root_of_proof(4, 13, leaves[5], &proof), Some(root));
        assert_ne!(root_of_proof(5, 6, leaves[5], &proof), Some(root));
        assert_ne!(root_of_proof(5, 13, leaves[6], &proof), Some(root));
        assert_eq!(root_of_proof(5, 13, leaves[5], &proof[1..]), None);
        assert_eq!(root_of_proof(13, 13, leaves[5], &proof), None);
    }

    #[test]
    fn there_is_no_proof_for_what_is_not_there() {
        let edge = edge_of(&leaves(3));

        assert!(ProofBuilder::new(2, 5, &edge).is_none(), "its line has gone");
        assert!(ProofBuilder::new(5, 5, &edge).is_none(), "it is behind the tree");
        assert_eq!(ProofBuilder::new(3, 5, &edge).unwrap().finish(), None, "no leaves came");
        assert_eq!(Edge::from_parts(3, vec![[0; 32]]), None);
    }
}
