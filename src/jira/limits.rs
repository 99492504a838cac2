//! How much one client may ask for: at once, in a second, and how often it may be refused.
//!
//! A client is known by its name, or else by its address. Meeting a bound costs the request at hand
//! and nothing else: a client that has been refused too often is still served its reads.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most clients that are remembered. Beyond it those that ask for nothing are forgotten.
const MAX_CLIENTS: usize = 10_000;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// What one client may use. `None` is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests at once.
    pub concurrent_requests: Option<NonZeroU32>,
    /// Requests that begin in one second.
    pub requests_per_second: Option<NonZeroU32>,
    /// Refusals that are answered at once, in one minute.
    pub refusals_per_minute: Option<NonZeroU32>,
}

impl Default for Limits {
    /// No client of everyday use meets a bound; a thousand refusals a second are a loop.
    fn default() -> Self {
        Self {
            concurrent_requests: None,
            requests_per_second: None,
            refusals_per_minute: NonZeroU32::new(60_000),
        }
    }
}

/// Who uses it up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientKey {
    /// Somebody at this address; `None` is this machine, over a unix socket.
    Address(Option<IpAddr>),
    /// Somebody whom the gate knows by name.
    Name(Arc<str>),
}

/// What is left of a bound in the present stretch of time.
#[derive(Debug)]
struct Window {
    since: Instant,
    used: u32,
}

impl Window {
    const fn new(now: Instant) -> Self {
        Self { since: now, used: 0 }
    }

    /// Uses one up, if there is one.
    fn take(&mut self, now: Instant, length: Duration, most: Option<NonZeroU32>) -> bool {
        if now.duration_since(self.since) >= length {
            *self = Self::new(now);
        }
        self.used = self.used.saturating_add(1);
        most.is_none_or(|most| self.used <= most.get())
    }
}

#[derive(Debug)]
struct Used {
    requests: Window,
    refusals: Window,
    at_once: u32,
}

/// What all clients use.
#[derive(Debug)]
pub struct Budgets {
    limits: Limits,
    clients: Mutex<HashMap<ClientKey, Used>>,
}

/// A request that has begun. It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    budgets: Arc<Budgets>,
    client: Option<ClientKey>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(client) = &self.client
            && let Some(used) = self.budgets.lock().get_mut(client)
        {
            used.at_once = used.at_once.saturating_sub(1);
        }
    }
}

impl Budgets {
    /// With these bounds for each client.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, clients: Mutex::default() }
    }

    /// A poisoned lock is taken like any: the worst in it is a wrong count.
    fn lock(&self) -> MutexGuard<'_, HashMap<ClientKey, Used>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request begin; `None` when the client has used up its share.
    #[must_use]
    pub fn begin(self: &Arc<Self>, client: &ClientKey) -> Option<Running> {
        let Limits { concurrent_requests, requests_per_second, .. } = self.limits;
        if concurrent_requests.is_none() && requests_per_second.is_none() {
            return Some(Running { budgets: Arc::clone(self), client: None });
        }
        let now = Instant::now();
        let mut clients = self.lock();
        let used = entry(&mut clients, client, now);
        let in_time = used.requests.take(now, SECOND, requests_per_second);
        let has_room = concurrent_requests.is_none_or(|most| used.at_once < most.get());
        if !in_time || !has_room {
            return None;
        }
        used.at_once += 1;
        drop(clients);
        Some(Running { budgets: Arc::clone(self), client: Some(client.clone()) })
    }

    /// Whether a refusal is within the client's share.
    #[must_use]
    pub fn may_be_refused(&self, client: &ClientKey) -> bool {
        let now = Instant::now();
        let mut clients = self.lock();
        let used = entry(&mut clients, client, now);
        used.refusals.take(now, MINUTE, self.limits.refusals_per_minute)
    }
}

fn entry<'m>(
    clients: &'m mut HashMap<ClientKey, Used>,
    client: &ClientKey,
    now: Instant,
) -> &'m mut Used {
    if clients.len() >= MAX_CLIENTS && !clients.contains_key(client) {
        clients
            .retain(|_, used| used.at_once > 0 || now.duration_since(used.refusals.since) < MINUTE);
    }
    clients.entry(client.clone()).or_insert_with(|| Used {
        requests: Window::new(now),
        refusals: Window::new(now),
        at_once: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use super::{Budgets, ClientKey, Limits};

    fn budgets(at_once: u32, per_second: u32, refusals: u32) -> Arc<Budgets> {
        Arc::new(Budgets::new(Limits {
            concurrent_requests: NonZeroU32::new(at_once),
            requests_per_second: NonZeroU32::new(per_second),
            refusals_per_minute: NonZeroU32::new(refusals),
        }))
    }

    #[test]
    fn one_client_too_busy_does_not_keep_another_from_asking() {
        let budgets = budgets(2, 0, 0);
        let (ann, bob) = (ClientKey::Name("ann".into()), ClientKey::Address(None));

        let first = budgets.begin(&ann);
        let second = budgets.begin(&ann);

        assert!(first.is_some() && second.is_some());
        assert!(budgets.begin(&ann).is_none());
        assert!(budgets.begin(&bob).is_some());
        drop(first);
        assert!(budgets.begin(&ann).is_some());
    }

    #[test]
    fn a_share_of_refusals_is_used_up_without_touching_requests() {
        let budgets = budgets(0, 0, 2);
        let ann = ClientKey::Name("ann".into());

        let refusals: Vec<bool> = (0..3).map(|_| budgets.may_be_refused(&ann)).collect();

        assert_eq!(refusals, [true, true, false]);
        assert!(budgets.begin(&ann).is_some());
    }
}
