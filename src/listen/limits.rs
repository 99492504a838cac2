//! What all connections of one principal, or of one address, may use together.
//!
//! Both key spaces are bounded. Principals have logged in, so nobody can use up the share of somebody
//! else, nor fill the table with names; addresses are forgotten when they have been quiet.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::listen::Peer;
use crate::policy::limits::{Budget, Haste, Share};
use crate::policy::reason::Reason;

/// Principals that are remembered though none of their sessions is open: 4,096. Beyond that those
/// without a session are forgotten, and begin anew.
const REMEMBERED_PRINCIPALS: usize = 4_096;

/// Addresses that are remembered: 65,536. Beyond that those that have been quiet are forgotten.
const REMEMBERED_ADDRESSES: usize = 65_536;

/// Delayed refusals of one session before its connection is closed: 60, which is a minute.
const DELAYED_REFUSALS: u32 = 60;

/// The principals that have logged in, with what each has used.
pub struct Principals {
    share: Share,
    accounts: Mutex<HashMap<String, Arc<Account>>>,
}

/// What one principal has used.
struct Account {
    share: Share,
    sessions: AtomicU32,
    /// Sessions in which a statement runs.
    running: AtomicU32,
    statements: Option<DefaultDirectRateLimiter>,
    refusals: Option<DefaultDirectRateLimiter>,
}

impl Account {
    fn new(share: Share) -> Self {
        let limiter = |quota: fn(NonZeroU32) -> Quota, most: Option<NonZeroU32>| {
            most.map(|most| RateLimiter::direct(quota(most)))
        };
        Self {
            share,
            sessions: AtomicU32::new(0),
            running: AtomicU32::new(0),
            statements: limiter(Quota::per_second, share.statements_per_second),
            refusals: limiter(Quota::per_minute, share.refusals_per_minute),
        }
    }
}

/// Adds one if that does not go beyond `most`.
fn take_one(count: &AtomicU32, most: Option<NonZeroU32>) -> bool {
    let most = most.map_or(u32::MAX, NonZeroU32::get);
    let add = |count: u32| (count < most).then_some(count + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_ok()
}

impl Principals {
    /// Nobody has logged in yet.
    #[must_use]
    pub fn new(share: Share) -> Self {
        Self { share, accounts: Mutex::default() }
    }

    /// A seat for a session of this principal, who has logged in; `None` when all its seats are
    /// taken.
    #[must_use]
    pub fn seat(&self, principal: &str) -> Option<Seat> {
        let account = self.account(principal);
        take_one(&account.sessions, self.share.connections).then(|| Seat {
            account,
            runs: false,
            delayed: 0,
        })
    }

    fn account(&self, principal: &str) -> Arc<Account> {
        // Nothing panics while holding it; and a map is whole after any of its methods.
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(principal) {
            return Arc::clone(account);
        }
        if accounts.len() >= REMEMBERED_PRINCIPALS {
            accounts.retain(|_, account| Arc::strong_count(account) > 1);
        }
        let account = Arc::new(Account::new(self.share));
        accounts.insert(principal.to_owned(), Arc::clone(&account));
        account
    }
}

/// One session's part in what its principal uses; given back when it is dropped.
pub struct Seat {
    account: Arc<Account>,
    /// Whether a statement of this session counts among those that run.
    runs: bool,
    delayed: u32,
}

impl Budget for Seat {
    fn begin(&mut self, statements: usize) -> Result<(), Reason> {
        let share = &self.account.share;
        if let (Some(limiter), Some(most)) = (&self.account.statements, share.statements_per_second)
        {
            // A string of more statements than a second has takes the whole second.
            let statements = u32::try_from(statements).unwrap_or(u32::MAX).min(most.get());
            let statements = NonZeroU32::new(statements).unwrap_or(NonZeroU32::MIN);
            if !matches!(limiter.check_n(statements), Ok(Ok(()))) {
                return Err(Reason::LimitRate);
            }
        }
        if !self.runs && !take_one(&self.account.running, share.concurrent_statements) {
            return Err(Reason::LimitRate);
        }
        self.runs = true;
        Ok(())
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.runs) {
            self.account.running.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn refuse(&mut self) -> Haste {
        match &self.account.refusals {
            Some(limiter) if limiter.check().is_err() => {
                self.delayed += 1;
                if self.delayed > DELAYED_REFUSALS { Haste::Never } else { Haste::Later }
            }
            _ => Haste::AtOnce,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.end();
        self.account.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How often each address asks for something that is not authenticated.
pub struct Addresses {
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    /// One line a second is enough to say that somebody is over the limit.
    lines: DefaultDirectRateLimiter,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// It is heard.
    Heard,
    /// It is not, which has just been written down for another one.
    Unheard,
    /// It is not, and that is to be written down.
    UnheardAndNoted,
}

impl Addresses {
    /// Every address may ask so many times in a minute.
    #[must_use]
    pub fn new(per_minute: Option<NonZeroU32>) -> Self {
        Self {
            limiter: per_minute.map(|most| RateLimiter::keyed(Quota::per_minute(most))),
            lines: RateLimiter::direct(Quota::per_second(NonZeroU32::MIN)),
        }
    }

    /// Counts a request of this peer.
    #[must_use]
    pub fn hear(&self, peer: &Peer) -> Hearing {
        let Some(limiter) = &self.limiter else { return Hearing::Heard };
        if limiter.len() >= REMEMBERED_ADDRESSES {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        if limiter.check_key(&key_of(peer)).is_ok() {
            Hearing::Heard
        } else if self.lines.check().is_ok() {
            Hearing::UnheardAndNoted
        } else {
            Hearing::Unheard
        }
    }
}

/// Whoever holds an IPv6 address mostly holds its /64. All peers on unix sockets are one.
fn key_of(peer: &Peer) -> IpAddr {
    match peer.socket_address().map(|address| address.ip()) {
        Some(IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => IpAddr::V4(ip),
            None => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
        },
        Some(ip) => ip,
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use super::Hearing::{Heard, Unheard, UnheardAndNoted};
    use super::{Addresses, Hearing, Principals, REMEMBERED_PRINCIPALS, key_of};
    use crate::listen::Peer;
    use crate::policy::limits::{Budget, Haste, Share};
    use crate::policy::reason::Reason;

    const fn most(number: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(number)
    }

    #[test]
    fn a_principal_has_so_many_seats_and_others_have_their_own() {
        let principals = Principals::new(Share { connections: most(2), ..Share::default() });
        let first = principals.seat("ann");
        let second = principals.seat("ann");

        assert!(first.is_some() && second.is_some());
        assert!(principals.seat("ann").is_none());
        assert!(principals.seat("bob").is_some());
        drop(first);
        assert!(principals.seat("ann").is_some());
    }

    #[test]
    fn so_many_statements_run_at_once_whatever_becomes_of_their_sessions() {
        let share = Share { concurrent_statements: most(1), ..Share::default() };
        let principals = Principals::new(share);
        let (mut first, mut second) =
            (principals.seat("ann").unwrap(), principals.seat("ann").unwrap());

        assert_eq!(first.begin(1), Ok(()));
        assert_eq!(first.begin(1), Ok(()), "of the same session");
        assert_eq!(second.begin(1), Err(Reason::LimitRate));
        first.end();
        assert_eq!(second.begin(1), Ok(()));
        drop(second);
        assert_eq!(first.begin(1), Ok(()));
    }

    #[test]
    fn statements_of_a_string_count_one_by_one_and_at_most_as_a_whole_second() {
        let share = Share { statements_per_second: most(10), ..Share::default() };
        let principals = Principals::new(share);
        let mut seat = principals.seat("ann").unwrap();

        assert_eq!(seat.begin(500), Ok(()));
        assert_eq!(seat.begin(5), Err(Reason::LimitRate));
    }

    #[test]
    fn refusals_beyond_the_limit_are_delayed_and_then_the_connection_ends() {
        let share = Share { refusals_per_minute: most(3), ..Share::default() };
        let principals = Principals::new(share);
        let mut seat = principals.seat("ann").unwrap();

        let haste: Vec<Haste> = (0..64).map(|_| seat.refuse()).collect();

        assert_eq!(haste[..3], [Haste::AtOnce; 3]);
        assert_eq!(haste[3..63], [Haste::Later; 60]);
        assert_eq!(haste[63], Haste::Never);
        assert_eq!(principals.seat("ann").unwrap().refuse(), Haste::Later, "the account is one");
    }

    #[test]
    fn principals_without_a_session_are_forgotten_before_the_table_grows() {
        let principals = Principals::new(Share::default());
        let kept = principals.seat("kept");
        for number in 0..2 * REMEMBERED_PRINCIPALS {
            drop(principals.seat(&number.to_string()));
        }
        let accounts = principals.accounts.lock().unwrap();
        assert!(accounts.len() <= REMEMBERED_PRINCIPALS);
        assert!(Arc::ptr_eq(&accounts["kept"], &kept.unwrap().account));
    }

    #[test]
    fn an_address_is_heard_so_many_times_and_its_neighbour_in_a_network_of_ipv6_is_the_same() {
        let addresses = Addresses::new(most(2));
        let peer = |ip: &str| Peer::Tcp((ip.parse::<std::net::IpAddr>().unwrap(), 1).into());

        let first: Vec<Hearing> = (0..4).map(|_| addresses.hear(&peer("2001:db8::1"))).collect();

        assert_eq!(first, [Heard, Heard, UnheardAndNoted, Unheard]);
        assert_eq!(addresses.hear(&peer("2001:db8::2")), Unheard);
        assert_eq!(addresses.hear(&peer("2001:db8:0:1::1")), Heard);
        assert_eq!(addresses.hear(&Peer::Unix), Heard);
        assert_eq!(key_of(&peer("::ffff:10.0.0.1")), key_of(&peer("10.0.0.1")));
    }
}
