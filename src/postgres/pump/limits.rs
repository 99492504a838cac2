//! What the pump does when something lasts too long, and while a statement is being stopped.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use crate::policy::limits::{Haste, Limits};
use crate::policy::reason::Reason;
use crate::postgres::clock::{Clock, Due, Flow, Patience};
use crate::postgres::pump::{End, Pump, Turn};
use crate::postgres::session::{Pace, Ports, Session};
use crate::postgres::stopper::Stopper;

/// How long a refusal beyond the limit waits for its answer: 1 s.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

impl<C, S> Pump<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// The same with a policy's limits on time and on the length of messages.
    #[must_use]
    pub fn within(mut self, limits: &Limits) -> Self {
        self.clock = Clock::new(Patience::from(limits));
        self.longest_message = limits.message_bytes;
        self
    }

    /// Whether the server has to be asked to cancel what it does for this session.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_stopping)
    }

    /// Moves what can be moved, and has a statement that was stopped cancelled on the server.
    pub fn poll_with(
        &mut self,
        stopper: &mut Stopper<'_>,
        context: &mut Context<'_>,
        ports: &mut Ports<'_>,
    ) -> Poll<End> {
        loop {
            if let Poll::Ready(end) = self.poll(context, ports) {
                return Poll::Ready(end);
            }
            let request = stopper.poll(context, self.is_stopping());
            match (request, self.turn) {
                (Poll::Pending, _) => {
                    self.turn = Turn::Held;
                    return Poll::Pending;
                }
                (Poll::Ready(()), Turn::Held) => self.turn = Turn::Open,
                (Poll::Ready(()), Turn::Open) => return Poll::Pending,
            }
        }
    }

    /// A refusal beyond the limit is answered late, and the last one ends the session.
    pub(super) fn take_haste(&mut self) -> Result<(), End> {
        let haste = self.session.as_mut().map_or(Haste::AtOnce, Session::take_haste);
        match haste {
            Haste::AtOnce => {}
            Haste::Later => self.pause = Some(Box::pin(sleep(REFUSAL_PAUSE))),
            Haste::Never => return Err(End::Refused),
        }
        Ok(())
    }

    pub(super) fn see_pause_out(&mut self, context: &mut Context<'_>) {
        if let Some(pause) = &mut self.pause
            && pause.as_mut().poll(context).is_ready()
        {
            self.pause = None;
        }
    }

    pub(super) fn pace(&self) -> Pace {
        self.session.as_ref().map_or(Pace::Settling, Session::pace)
    }

    /// Whether bytes wait, and whether some have been taken since the last look.
    pub(super) fn look_at_flow(&mut self) -> Flow {
        let flow = std::mem::replace(&mut self.flow, Flow::Stands);
        let waits = !self.outbox.pending_for_client().is_empty()
            || !self.outbox.pending_for_server().is_empty();
        if waits { flow } else { Flow::Empty }
    }

    pub(super) fn on_due(&mut self, due: Due, ports: &mut Ports<'_>) -> Result<(), End> {
        match due {
            Due::Look => self.look_at_client(),
            Due::Stall | Due::Pace(Pace::Idle | Pace::IdleInTransaction | Pace::Settling) => {
                Err(End::Overdue(due))
            }
            Due::Pace(Pace::Working(_)) => {
                self.clock.restart();
                self.stop_between_rows(Reason::LimitTime, ports);
                Ok(())
            }
        }
    }

    /// Stops the statement in progress; inside a row the client could not read the error, and the
    /// server does not interrupt itself there either.
    pub(super) fn stop_between_rows(&mut self, reason: Reason, ports: &mut Ports<'_>) {
        if self.row_left > 0 {
            self.overdue = Some(reason);
        } else if let Some(session) = self.session.take() {
            self.session = Some(session.stop_statement(reason, ports.ledger, &mut self.outbox));
        }
    }
}
