//! Whether the process may open as many sockets as the configuration promises.
//!
//! A gate that runs out of descriptors under way turns away clients that it has promised a place, and
//! cannot open the connection that would cancel a query. Better it does not start.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of a session: one towards the client, one towards the server.
const FOR_A_SESSION: u64 = 2;

/// Descriptors beside the sessions: 200. Clients without a place, requests to cancel, listeners, the
/// audit log, the runtime's own.
const FOR_THE_REST: u64 = 200;

/// The system does not grant as many descriptors as would be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "max_connections = {sessions} needs {needed} file descriptors, and this process may have \
     {granted}: raise the limit (`ulimit -n {needed}`, LimitNOFILE in systemd, `ulimits` in compose) \
     or set max_connections to at most {possible}"
)]
pub struct TooFewDescriptors {
    sessions: u64,
    needed: u64,
    granted: u64,
    possible: u64,
}

/// Sees that there are descriptors for so many sessions, and raises the process's own limit as far as
/// it must and may.
///
/// # Errors
/// When the hard limit is too low.
pub fn reserve(sessions: usize) -> Result<(), TooFewDescriptors> {
    let limit = getrlimit(Resource::Nofile);
    let needed = needed(sessions)?;
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    if limit.maximum.is_none_or(|most| most >= needed)
        && setrlimit(Resource::Nofile, raised).is_ok()
    {
        return Ok(());
    }
    Err(too_few(sessions, limit.maximum.or(limit.current).unwrap_or(0)))
}

fn needed(sessions: usize) -> Result<u64, TooFewDescriptors> {
    let count = u64::try_from(sessions).ok().and_then(|count| count.checked_mul(FOR_A_SESSION));
    count.and_then(|count| count.checked_add(FOR_THE_REST)).ok_or(too_few(sessions, u64::MAX))
}

fn too_few(sessions: usize, granted: u64) -> TooFewDescriptors {
    let sessions = u64::try_from(sessions).unwrap_or(u64::MAX);
    TooFewDescriptors {
        sessions,
        needed: sessions.saturating_mul(FOR_A_SESSION).saturating_add(FOR_THE_REST),
        granted,
        possible: granted.saturating_sub(FOR_THE_REST) / FOR_A_SESSION,
    }
}

#[cfg(test)]
mod tests {
    use super::{reserve, too_few};

    #[test]
    fn what_cannot_be_held_is_told_with_what_could_be() {
        assert_eq!(reserve(1), Ok(()));
        let words = too_few(9_000, 10_000).to_string();
        for part in ["max_connections = 9000 needs 18200 ", "may have 10000:", "at most 4900"] {
            assert!(words.contains(part), "{words}");
        }
    }
}
