//! Signed statements about the log: C2SP `tlog-checkpoint` in a C2SP `signed-note`, with Ed25519.
//!
//! A checkpoint says "the first `size` lines have this root"; whoever has one can tell later whether
//! a line before it was changed. The formats are those of Go's `sumdb/note`, whose tools read ours.
//! A key is named after itself, so that two logs never have the same name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

use crate::audit::merkle::{Edge, Hash};

/// The signature type of Ed25519 (C2SP signed-note, "Signature types").
const ALGORITHM: u8 = 1;

/// Bytes of a key's seed.
pub const SEED_BYTES: usize = 32;

const PRIVATE: &str = "PRIVATE+KEY+";

/// A key or a note that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text is no key.
    #[error("this is not an Ed25519 key of a log")]
    Key,
    /// The note has no signature by the key.
    #[error("it is not signed by the key of this log")]
    Signature,
    /// The text is no checkpoint.
    #[error("it is not a checkpoint")]
    Text,
}

/// Signs checkpoints.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: Verifier,
}

impl Signer {
    /// A key from 32 random bytes.
    ///
    /// # Errors
    /// When they are no seed.
    pub fn from_seed(seed: &[u8]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::Key)?;
        let key: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Key)?;
        let hash = Sha256::digest(key);
        let number = hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        let public = Verifier { name: format!("rowarden/{number:016x}"), key };
        Ok(Self { pair, public })
    }

    /// Reads a private key: `PRIVATE+KEY+name+id+base64`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, bytes) =
            split_key(text.trim().strip_prefix(PRIVATE).ok_or(NoteError::Key)?)?;
        let seed = bytes.strip_prefix(&[ALGORITHM]).ok_or(NoteError::Key)?;
        let mut signer = Self::from_seed(seed)?;
        name.clone_into(&mut signer.public.name);
        if signer.public.id() == id { Ok(signer) } else { Err(NoteError::Key) }
    }

    /// The private key as text.
    #[must_use]
    pub fn private_text(&self, seed: &[u8]) -> String {
        let key = [&[ALGORITHM], seed].concat();
        format!("{PRIVATE}{}+{:08x}+{}\n", self.public.name, self.public.id(), BASE64.encode(key))
    }

    /// The public half.
    #[must_use]
    pub const fn verifier(&self) -> &Verifier {
        &self.public
    }

    /// A signed checkpoint of the tree. With its edge it is enough to go on from.
    #[must_use]
    pub fn sign(&self, edge: &Edge, with: Extension) -> String {
        let (name, root) = (&self.public.name, BASE64.encode(edge.root()));
        let mut text = format!("{name}\n{}\n{root}\n", edge.size());
        if with == Extension::Edge {
            for node in edge.nodes() {
                text.push_str(&BASE64.encode(node));
                text.push('\n');
            }
        }
        let signature = self.pair.sign(text.as_bytes());
        let signed = [&self.public.id().to_be_bytes()[..], signature.as_ref()].concat();
        format!("{text}\n\u{2014} {name} {}\n", BASE64.encode(signed))
    }
}

/// What stands in a checkpoint behind the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// One line for each node of the edge.
    Edge,
    /// Nothing: the checkpoint for others.
    None,
}

/// Checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: [u8; 32],
}

impl Verifier {
    /// Reads a public key: `name+id+base64`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, bytes) = split_key(text.trim())?;
        let key = bytes.strip_prefix(&[ALGORITHM]).ok_or(NoteError::Key)?;
        let key = key.try_into().map_err(|_| NoteError::Key)?;
        let verifier = Self { name: name.to_owned(), key };
        if verifier.id() == id { Ok(verifier) } else { Err(NoteError::Key) }
    }

    /// The public key as text.
    #[must_use]
    pub fn text(&self) -> String {
        let key = [&[ALGORITHM][..], &self.key].concat();
        format!("{}+{:08x}+{}\n", self.name, self.id(), BASE64.encode(key))
    }

    /// The log's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of the hash of name and key.
    fn id(&self) -> u32 {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ALGORITHM])
            .chain_update(self.key)
            .finalize();
        hash.first_chunk().map_or(0, |first| u32::from_be_bytes(*first))
    }

    /// Reads a checkpoint and checks its signature. Signatures by others beside it are passed over.
    ///
    /// # Errors
    /// When it is no checkpoint of this log.
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Text)?;
        let text = format!("{text}\n");
        let prefix = format!("\u{2014} {} ", self.name);
        let is_signed = signatures.lines().any(|line| {
            line.strip_prefix(&prefix).is_some_and(|signature| self.signs(&text, signature))
        });
        if !is_signed {
            return Err(NoteError::Signature);
        }
        let checkpoint = Checkpoint::parse(&text).ok_or(NoteError::Text)?;
        if checkpoint.origin == self.name { Ok(checkpoint) } else { Err(NoteError::Text) }
    }

    fn signs(&self, text: &str, signature: &str) -> bool {
        let Ok(bytes) = BASE64.decode(signature) else { return false };
        let Some((id, signature)) = bytes.split_first_chunk::<4>() else { return false };
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        u32::from_be_bytes(*id) == self.id() && key.verify(text.as_bytes(), signature).is_ok()
    }
}

/// `name`, id and the bytes behind it.
fn split_key(text: &str) -> Result<(&str, u32, Vec<u8>), NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::Key);
    };
    let id = u32::from_str_radix(id, 16).map_err(|_| NoteError::Key)?;
    let bytes = BASE64.decode(key).map_err(|_| NoteError::Key)?;
    let is_name = !name.is_empty() && !name.contains(char::is_whitespace);
    if is_name { Ok((name, id, bytes)) } else { Err(NoteError::Key) }
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: String,
    /// How many lines.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
    /// The edge of the tree, if the checkpoint has it and it fits the root.
    pub edge: Option<Edge>,
}

impl Checkpoint {
    /// Reads a text that is known to be signed.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let origin = lines.next()?.to_owned();
        let size_text = lines.next()?;
        let size: u64 = size_text.parse().ok()?;
        if size.to_string() != size_text {
            return None;
        }
        let root = decode_hash(lines.next()?)?;
        let nodes: Vec<Hash> = lines.map_while(decode_hash).collect();
        let edge = Edge::from_parts(size, nodes).filter(|edge| edge.root() == root);
        Some(Self { origin, size, root, edge })
    }
}

fn decode_hash(text: &str) -> Option<Hash> {
    BASE64.decode(text).ok()?.try_into().ok()
}

/// A proof for one line, as C2SP `tlog-proof` writes it: everything that is needed to check it with
/// the public key alone. The line itself travels as `extra`.
#[must_use]
pub fn proof_text(index: u64, line: &[u8], proof: &[Hash], checkpoint: &str) -> String {
    let mut text =
        format!("c2sp.org/tlog-proof@v1\nextra {}\nindex {index}\n", BASE64.encode(line));
    for hash in proof {
        text.push_str(&BASE64.encode(hash));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(checkpoint);
    text
}

#[cfg(test)]
mod tests {
    use super::{Extension, NoteError, Signer, Verifier};
    use crate::audit::merkle::{Edge, leaf_hash};

    const SEED: [u8; 32] = [7; 32];

    fn signer() -> Signer {
        Signer::from_seed(&SEED).unwrap()
    }

    fn edge(size: u8) -> Edge {
        let mut edge = Edge::default();
        (0..size).for_each(|number| edge.push(leaf_hash(&[number])));
        edge
    }

    #[test]
    fn keys_come_back_from_their_texts() {
        let signer = signer();

        let again = Signer::parse(&signer.private_text(&SEED)).unwrap();

        assert_eq!(again.verifier(), signer.verifier());
        assert_eq!(Verifier::parse(&signer.verifier().text()).as_ref(), Ok(signer.verifier()));
    }

    #[test]
    fn a_text_that_is_no_key_is_refused() {
        let text = signer().private_text(&SEED);
        let id = text.split('+').nth(3).unwrap().to_owned();

        assert!(Signer::parse(&text.replace(&id, "00000000")).is_err());
        assert!(Signer::parse(&text.replace("PRIVATE+", "")).is_err());
        assert!(Verifier::parse("rowarden/x+zz+AA==").is_err());
    }

    #[test]
    fn a_checkpoint_says_what_was_signed() {
        let signer = signer();
        for (size, extension) in
            [(0, Extension::None), (13, Extension::Edge), (13, Extension::None)]
        {
            let note = signer.sign(&edge(size), extension);

            let checkpoint = signer.verifier().open(&note).unwrap();

            assert_eq!((checkpoint.size, checkpoint.root), (size.into(), edge(size).root()));
            let has_edge = extension == Extension::Edge || size == 0;
            assert_eq!(checkpoint.edge, has_edge.then(|| edge(size)));
        }
    }

    #[test]
    fn nothing_in_a_checkpoint_can_be_changed() {
        let signer = signer();
        let note = signer.sign(&edge(13), Extension::Edge);
        for (at, changed) in note.char_indices() {
            let other = if changed == 'A' { 'B' } else { 'A' };
            let mut forged = note.clone();
            forged.replace_range(at..at + changed.len_utf8(), &other.to_string());

            let opened = signer.verifier().open(&forged);

            assert!(opened.is_err(), "byte {at}: {forged}");
        }
    }

    #[test]
    fn a_signature_of_another_log_does_not_count() {
        let other = Signer::from_seed(&[8; 32]).unwrap();
        let note = other.sign(&edge(3), Extension::None);

        assert_eq!(signer().verifier().open(&note), Err(NoteError::Signature));
        let renamed = note.replace(other.verifier().name(), signer().verifier().name());
        assert_eq!(signer().verifier().open(&renamed), Err(NoteError::Signature));
    }
}
