//! Cancel keys: the gate hands out its own secrets beside the server's process ids, and keeps the
//! server's secrets to itself.
//!
//! A cancel request is not authenticated; whoever knows the key may cancel. With keys of our own a
//! client can only ever cancel its own session of this gate (checklist B20).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::postgres::upstream::CancelTarget;

/// Bytes of a secret in protocol 3.0, and in 3.2 (as PostgreSQL 18 has it).
const SECRET_BYTES: (usize, usize) = (4, 32);

/// The keys of all open sessions.
#[derive(Debug, Default)]
pub struct CancelKeys {
    sessions: Mutex<HashMap<Key, CancelTarget>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    pid: u32,
    secret: Vec<u8>,
}

/// A key that is valid as long as this lives.
#[derive(Debug)]
pub struct IssuedKey {
    keys: Arc<CancelKeys>,
    key: Key,
}

impl CancelKeys {
    /// A new key for a session of the server; `minor` is the protocol's.
    #[must_use]
    pub fn issue(self: &Arc<Self>, pid: u32, minor: u16, target: CancelTarget) -> IssuedKey {
        let bytes = if minor >= 2 { SECRET_BYTES.1 } else { SECRET_BYTES.0 };
        let key = Key { pid, secret: random_bytes(bytes) };
        self.lock().insert(key.clone(), target);
        IssuedKey { keys: Arc::clone(self), key }
    }

    /// The session that this key belongs to.
    #[must_use]
    pub fn find(&self, pid: u32, secret: &[u8]) -> Option<CancelTarget> {
        self.lock().get(&Key { pid, secret: secret.to_vec() }).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, CancelTarget>> {
        // Nothing panics while holding it; and a map is whole after any of its methods.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IssuedKey {
    /// The `BackendKeyData` message for the client.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut message = vec![b'K'];
        let length = u32::try_from(self.key.secret.len() + 8).unwrap_or(u32::MAX);
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(&self.key.pid.to_be_bytes());
        message.extend_from_slice(&self.key.secret);
        message
    }
}

impl Drop for IssuedKey {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key);
    }
}

/// Bytes that nobody can guess. Version 4 UUIDs come from the thread's cryptographic generator; the
/// six bits that a UUID fixes are folded away.
fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count + 16);
    while bytes.len() < count {
        let (left, right) = Uuid::new_v4().as_u64_pair();
        let (more, again) = Uuid::new_v4().as_u64_pair();
        bytes.extend_from_slice(&(left ^ again.rotate_left(32)).to_be_bytes());
        bytes.extend_from_slice(&(right ^ more.rotate_left(16)).to_be_bytes());
    }
    bytes.truncate(count);
    bytes
}

#[cfg(test)]
mod tests {
    use super::CancelKeys;
    use crate::postgres::upstream::{CancelTarget, UpstreamAddress};
    use std::sync::Arc;

    #[test]
    fn a_key_opens_only_its_own_session_and_dies_with_it() {
        let keys = Arc::new(CancelKeys::default());
        let target = CancelTarget {
            dialer: None,
            address: UpstreamAddress::Tcp("h".into(), 1),
            key: vec![1; 8],
        };
        let issued = keys.issue(7, 0, target.clone());
        let message = issued.message();
        let secret = message[9..].to_vec();

        assert_eq!(secret.len(), 4);
        assert_eq!(keys.find(7, &secret), Some(target));
        assert_eq!(keys.find(8, &secret), None);
        assert_eq!(keys.find(7, &[0; 4]), None);
        drop(issued);
        assert_eq!(keys.find(7, &secret), None);
    }
}
