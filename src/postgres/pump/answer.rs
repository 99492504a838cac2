//! From the server to the client: rows by their headers only, everything else by the session.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::policy::reason::Reason;
use crate::postgres::clock::Flow;
use crate::postgres::frame::{ProtocolViolation, next_server_frame, server_header};
use crate::postgres::pump::{End, Pump, Side, trimmed};
use crate::postgres::session::{Appetite, Ports, RowFate};

impl<C, S> Pump<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn answer_kept(
        &mut self,
        context: &mut Context<'_>,
        ports: &mut Ports<'_>,
    ) -> Result<usize, End> {
        let mut kept = std::mem::take(&mut self.from_server);
        let taken = self.answer(&kept, context, ports)?;
        kept.drain(..taken);
        self.from_server = trimmed(kept);
        Ok(taken)
    }

    /// Passes on what is whole of these bytes, and rows as they come; returns how many were used.
    pub(super) fn answer(
        &mut self,
        bytes: &[u8],
        context: &mut Context<'_>,
        ports: &mut Ports<'_>,
    ) -> Result<usize, End> {
        let mut reader = Reader { bytes, at: 0, run_start: 0 };
        let walked = self.walk(&mut reader, ports);
        let run = reader.run();
        if let Err(violation) = walked {
            self.outbox.client().extend_from_slice(run);
            return Err(End::Violation(Side::Server, violation));
        }
        if self.appetite() == Appetite::Closed {
            return Err(End::ServerRefused);
        }
        if !run.is_empty() {
            let sent = if self.pause.is_none() && self.outbox.pending_for_client().is_empty() {
                self.write_run(run, context)?
            } else {
                0
            };
            self.outbox.client().extend_from_slice(run.get(sent..).unwrap_or_default());
        }
        Ok(reader.at)
    }

    fn walk(
        &mut self,
        reader: &mut Reader<'_>,
        ports: &mut Ports<'_>,
    ) -> Result<(), ProtocolViolation> {
        loop {
            self.row_left -= match self.row_fate {
                RowFate::Pass => reader.pass(self.row_left),
                RowFate::Drop | RowFate::Over(_) => reader.leave_out(self.row_left),
            };
            if self.row_left > 0 || self.appetite() == Appetite::Closed {
                return Ok(());
            }
            if let Some(reason) = self.overdue.take() {
                self.stop_behind(reader, reason, ports);
            }
            let rest = reader.rest();
            let Some((kind, length)) = server_header(rest)? else { return Ok(()) };
            if matches!(kind, b'D' | b'd') {
                // What the session holds back until a row comes was held since a message that ended
                // the run before it, so the run is empty then.
                let session = self.session.as_mut().ok_or(ProtocolViolation::UnexpectedAnswer)?;
                self.row_fate = session.on_row(length, &mut self.outbox)?;
                if let RowFate::Over(reason) = self.row_fate {
                    self.stop_behind(reader, reason, ports);
                }
                self.row_left = length;
                continue;
            }
            let Some(frame) = next_server_frame(rest)? else { return Ok(()) };
            self.outbox.client().extend_from_slice(reader.run());
            reader.skip(frame.raw.len());
            let session = self.session.take().ok_or(ProtocolViolation::UnexpectedAnswer)?;
            self.was_busy = session.is_busy();
            self.session = Some(session.on_server(frame, ports.ledger, &mut self.outbox)?);
        }
    }

    /// Stops the statement behind the rows that have been walked over.
    fn stop_behind(&mut self, reader: &mut Reader<'_>, reason: Reason, ports: &mut Ports<'_>) {
        self.outbox.client().extend_from_slice(reader.run());
        reader.skip(0);
        self.stop_between_rows(reason, ports);
    }

    fn write_run(&mut self, run: &[u8], context: &mut Context<'_>) -> Result<usize, End> {
        match Pin::new(&mut self.client).poll_write(context, run) {
            Poll::Pending => Ok(0),
            Poll::Ready(Ok(count)) if count > 0 => {
                self.flow = Flow::Moves;
                Ok(count)
            }
            Poll::Ready(_) => Err(End::ClientLeft),
        }
    }
}

/// A walk through bytes of the server.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the row bytes begin that nobody has sent yet.
    run_start: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn run(&self) -> &'a [u8] {
        self.bytes.get(self.run_start..self.at).unwrap_or_default()
    }

    /// Takes up to `most` bytes into the run; returns how many there were.
    fn pass(&mut self, most: usize) -> usize {
        let count = most.min(self.rest().len());
        self.at += count;
        count
    }

    /// Leaves out up to `most` bytes; returns how many there were. The run must be empty.
    fn leave_out(&mut self, most: usize) -> usize {
        let count = most.min(self.rest().len());
        self.skip(count);
        count
    }

    /// Leaves out bytes that the session answers for; a new run begins behind them.
    const fn skip(&mut self, count: usize) {
        self.at += count;
        self.run_start = self.at;
    }
}
