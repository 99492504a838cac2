//! Asks the server to cancel a statement that a limit has stopped, as often as it takes.
//!
//! A request can come between two messages and be lost, so it is repeated until the server has said
//! that the statement is over. And it can come too late and hit the next one, so the client is not
//! listened to while one is on its way: when the server has closed the connection that brought it,
//! the signal has been sent, and a server that waits for a message ignores it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Sleep, sleep};

use crate::postgres::gate::{CANCEL_AGAIN, cancel_at};
use crate::postgres::upstream::CancelTarget;

/// Requests to cancel on behalf of one session.
pub struct Stopper<'a> {
    target: &'a CancelTarget,
    step: Step<'a>,
}

enum Step<'a> {
    /// A request is on its way.
    Asking(Pin<Box<dyn Future<Output = ()> + Send + 'a>>),
    /// Nothing is to be stopped.
    Quiet,
    /// The server has been asked, and has some time to comply.
    Waiting(Pin<Box<Sleep>>),
}

impl<'a> Stopper<'a> {
    /// Nothing is to be stopped yet.
    #[must_use]
    pub const fn new(target: &'a CancelTarget) -> Self {
        Self { target, step: Step::Quiet }
    }

    /// Does what is to be done while `is_stopping`. Ready when no request is on its way and none
    /// is needed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, is_stopping: bool) -> Poll<()> {
        loop {
            match &mut self.step {
                Step::Asking(request) => {
                    if request.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.step = Step::Waiting(Box::pin(sleep(CANCEL_AGAIN)));
                }
                Step::Quiet | Step::Waiting(_) if !is_stopping => {
                    self.step = Step::Quiet;
                    return Poll::Ready(());
                }
                Step::Quiet => self.step = Step::Asking(Box::pin(cancel_at(self.target))),
                Step::Waiting(pause) => {
                    if pause.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.step = Step::Quiet;
                }
            }
        }
    }
}
