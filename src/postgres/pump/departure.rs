//! Whether the client is still there.
//!
//! A client that says it will send nothing more may still want its answers (`shutdown` after a query,
//! as scripts do), or may have vanished: on the wire both look alike. PostgreSQL finds out when it
//! next writes. A query without rows may not write for hours, so the gate writes something that
//! changes nothing: it reports once more that `client_encoding` is UTF8, which it is pinned to. The
//! system of a client that has vanished answers with a reset, and then the query is cancelled. In the
//! middle of a row nothing can be written; if the row does not go on either, the client counts as gone.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::postgres::pump::{End, Pump};
use crate::postgres::session::{RowFate, Session};

/// How long the answers of a client that sends no more have before it is asked: 100 ms.
const ASK: Duration = Duration::from_millis(100);

/// How soon it is asked for the second time, which is when the answer to the first is seen: 250 ms,
/// and then after twice as long each time.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The longest time between two reports: 1 min.
const ASK_AT_LEAST: Duration = Duration::from_mins(1);

/// How often a client is looked at of which nothing is read, because too much waits already: 500 ms.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// `ParameterStatus` of a setting that every session is pinned to.
const NOTHING_NEW: &[u8] = b"S\0\0\0\x19client_encoding\0UTF8\0";

/// How far the client has gone.
pub(super) struct Departure<C> {
    stage: Stage,
    /// Whether the last of its bytes has been read.
    ended: bool,
    /// Tells whether a client has hung up of which not all has been read.
    has_hung_up: Option<fn(&C) -> bool>,
}

enum Stage {
    /// It is there.
    Here,
    /// It sends nothing more, and is asked whether it is still there.
    SendsNoMore {
        /// How long after the next time it is asked again.
        wait: Duration,
        /// How many bytes of a row were still to come the last time.
        row_left: usize,
    },
}

impl<C> Default for Departure<C> {
    fn default() -> Self {
        Self { stage: Stage::Here, ended: false, has_hung_up: None }
    }
}

impl<C> Departure<C> {
    /// Whether all that it has sent has been read.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }
}

impl<C, S> Pump<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// The same with a way to see that a client has hung up without reading from it.
    #[must_use]
    pub fn noticing(mut self, has_hung_up: fn(&C) -> bool) -> Self {
        self.departure.has_hung_up = Some(has_hung_up);
        self
    }

    /// The last byte of the client has been read.
    pub(super) fn hear_the_end(&mut self) {
        self.departure.ended = true;
        if matches!(self.departure.stage, Stage::Here) {
            self.begin_departure();
        }
    }

    /// The client sends nothing more.
    fn begin_departure(&mut self) {
        self.departure.stage = Stage::SendsNoMore { wait: ASK_AGAIN, row_left: 0 };
        self.clock.look_in(ASK);
    }

    /// Nothing moves: a client that sends no more and waits for nothing has left; one that cannot be
    /// heard is looked at now and then.
    pub(super) fn watch_client(&mut self) -> Result<(), End> {
        if self.departure.has_ended() {
            let waits = self.session.as_ref().is_some_and(Session::is_busy)
                || (!self.from_client.is_empty() && !self.has_room())
                || !self.outbox.pending_for_client().is_empty()
                || !self.outbox.pending_for_server().is_empty();
            return if waits { Ok(()) } else { Err(End::ClientLeft) };
        }
        if matches!(self.departure.stage, Stage::SendsNoMore { .. }) {
            return Ok(());
        }
        match (self.is_deaf(), self.clock.will_look()) {
            (true, false) => self.clock.look_in(LOOK_AGAIN),
            (false, true) => self.clock.look_no_more(),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// Looks whether the client is still there, and asks if that is doubtful.
    pub(super) fn look_at_client(&mut self) -> Result<(), End> {
        let wait = match self.departure.stage {
            Stage::SendsNoMore { wait, row_left } => {
                let stands = self.row_left > 0 && self.row_left == row_left;
                if stands && wait > ASK_AGAIN {
                    return Err(End::ClientLeft);
                }
                let next = (wait * 2).min(ASK_AT_LEAST);
                self.departure.stage = Stage::SendsNoMore { wait: next, row_left: self.row_left };
                self.report_nothing_new();
                wait
            }
            Stage::Here => {
                if self.departure.has_hung_up.is_some_and(|asked| asked(&self.client)) {
                    self.begin_departure();
                    return Ok(());
                }
                LOOK_AGAIN
            }
        };
        self.clock.look_in(wait);
        Ok(())
    }

    /// Writes to the client what changes nothing. While something else waits that does as well, and
    /// inside a row it would be taken for part of it.
    fn report_nothing_new(&mut self) {
        let between_rows = self.row_left == 0 || self.row_fate != RowFate::Pass;
        if between_rows && self.outbox.pending_for_client().is_empty() {
            self.outbox.client().extend_from_slice(NOTHING_NEW);
        }
    }
}
