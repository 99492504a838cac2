//! The clock of a session: when it must act although nothing has come.
//!
//! A statement costs one look at the clock and no timer: there is one alarm for a session, set once
//! for a whole period and looked at when it rings. Only a deadline that is nearer than the alarm
//! sets it anew.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::policy::limits::Limits;
use crate::postgres::session::Pace;

/// How long the server may take to come to ReadyForQuery after an error or a cancel: 1 min. One
/// that does not is hung or gone, and its session is of no more use.
const SETTLING_TIME: Duration = Duration::from_mins(1);

/// How long each state may last; `None` is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// One statement.
    pub statement: Option<Duration>,
    /// Nothing, inside a transaction.
    pub idle_in_transaction: Option<Duration>,
    /// Nothing, outside of one.
    pub idle: Option<Duration>,
    /// Bytes that a peer does not take.
    pub stall: Option<Duration>,
}

impl From<&Limits> for Patience {
    fn from(limits: &Limits) -> Self {
        Self {
            statement: limits.statement_time,
            idle_in_transaction: limits.idle_in_transaction_time,
            idle: limits.idle_time,
            stall: limits.stall_time,
        }
    }
}

/// What has lasted too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// What the session is waiting for.
    Pace(Pace),
    /// The time until somebody looks whether the client is still there.
    Look,
    /// Bytes that a peer does not take.
    Stall,
}

/// Whether bytes wait for a peer, and whether it takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// None wait.
    Empty,
    /// Some wait, and some have been taken since the last look.
    Moves,
    /// Some wait, and none have been taken.
    Stands,
}

/// The clock of one session.
pub(super) struct Clock {
    patience: Patience,
    /// What the session is waiting for, and since when; only if that may end.
    waiting: Option<(Pace, Instant)>,
    standing_since: Option<Instant>,
    /// When to look whether the client is still there.
    look_at: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    pub(super) const fn new(patience: Patience) -> Self {
        Self { patience, waiting: None, standing_since: None, look_at: None, alarm: None }
    }

    /// Takes note of how things stand.
    pub(super) fn observe(&mut self, pace: Pace, flow: Flow) {
        let goes_on = matches!(self.waiting, Some((known, _)) if known == pace);
        if !goes_on {
            self.waiting = self.limit_of(pace).map(|_| (pace, Instant::now()));
        }
        self.standing_since = match (flow, self.standing_since) {
            (Flow::Empty, _) => None,
            (Flow::Stands, Some(since)) => Some(since),
            (Flow::Moves, _) | (Flow::Stands, None) => {
                self.patience.stall.is_some().then(Instant::now)
            }
        };
    }

    /// What was due has been seen to: its time begins anew.
    pub(super) fn restart(&mut self) {
        self.waiting = self.waiting.map(|(pace, _)| (pace, Instant::now()));
    }

    /// Somebody wants to look whether the client is still there, so much later.
    pub(super) fn look_in(&mut self, wait: Duration) {
        self.look_at = Instant::now().checked_add(wait);
    }

    /// Nobody has to look.
    pub(super) const fn look_no_more(&mut self) {
        self.look_at = None;
    }

    /// Whether somebody will look.
    pub(super) const fn will_look(&self) -> bool {
        self.look_at.is_some()
    }

    /// Becomes ready when something has lasted too long.
    pub(super) fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<Due> {
        loop {
            let Some((due, at)) = self.next_deadline() else { return Poll::Pending };
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if alarm.is_elapsed() || alarm.deadline() > at {
                alarm.as_mut().reset(at);
            }
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= at {
                return Poll::Ready(due);
            }
        }
    }

    fn next_deadline(&self) -> Option<(Due, Instant)> {
        let pace = self.waiting.and_then(|(pace, since)| {
            Some((Due::Pace(pace), since.checked_add(self.limit_of(pace)?)?))
        });
        let stall = self
            .standing_since
            .and_then(|since| Some((Due::Stall, since.checked_add(self.patience.stall?)?)));
        let look = self.look_at.map(|at| (Due::Look, at));
        [pace, stall, look].into_iter().flatten().min_by_key(|(_, at)| *at)
    }

    const fn limit_of(&self, pace: Pace) -> Option<Duration> {
        match pace {
            Pace::Idle => self.patience.idle,
            Pace::IdleInTransaction => self.patience.idle_in_transaction,
            Pace::Settling => Some(SETTLING_TIME),
            Pace::Working(_) => self.patience.statement,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{Clock, Due, Flow, Patience};
    use crate::postgres::session::Pace;

    fn clock() -> Clock {
        Clock::new(Patience {
            statement: Some(Duration::from_secs(10)),
            idle_in_transaction: Some(Duration::from_secs(3)),
            idle: None,
            stall: Some(Duration::from_secs(5)),
        })
    }

    async fn due(clock: &mut Clock) -> (Due, Duration) {
        let begin = Instant::now();
        let due = poll_fn(|context| clock.poll_due(context)).await;
        (due, begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_has_its_whole_time_whenever_it_begins() {
        let mut clock = clock();
        clock.observe(Pace::Working(1), Flow::Empty);
        let first = poll_fn(|context| std::task::Poll::Ready(clock.poll_due(context))).await;
        assert!(first.is_pending());
        advance(Duration::from_secs(9)).await;
        clock.observe(Pace::Idle, Flow::Empty);
        clock.observe(Pace::Working(2), Flow::Empty);

        let (what, after) = due(&mut clock).await;

        assert_eq!(what, Due::Pace(Pace::Working(2)));
        assert_eq!(after.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_nearer_deadline_rings_first_and_idleness_without_a_bound_never() {
        let mut clock = clock();
        clock.observe(Pace::Working(1), Flow::Empty);
        let _ = poll_fn(|context| std::task::Poll::Ready(clock.poll_due(context))).await;
        clock.observe(Pace::IdleInTransaction, Flow::Empty);
        assert_eq!(
            due(&mut clock).await,
            (Due::Pace(Pace::IdleInTransaction), Duration::from_secs(3))
        );

        clock.observe(Pace::Idle, Flow::Empty);
        let idle = tokio::time::timeout(Duration::from_hours(1), due(&mut clock)).await;
        assert!(idle.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_little_is_no_peer_that_takes_nothing() {
        let mut clock = clock();
        for _ in 0..4 {
            clock.observe(Pace::Idle, Flow::Moves);
            advance(Duration::from_secs(4)).await;
        }
        clock.observe(Pace::Idle, Flow::Moves);
        assert_eq!(due(&mut clock).await, (Due::Stall, Duration::from_secs(5)));
    }
}
