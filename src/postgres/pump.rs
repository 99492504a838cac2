//! Moves bytes between a client and the server through a session, both directions in one task.
//!
//! Neither direction ever waits for the other one's writes: what cannot be written yet is kept, and
//! a side stops being read while too much is kept for the other. Rows are not held; only their
//! headers are read ([`answer`]), and the bytes go from the shared read buffer straight to the client. What one
//! read brought goes out in one write, and a connection without traffic holds no buffers.

mod answer;
mod departure;
mod limits;

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Sleep;

use crate::policy::reason::Reason;
use crate::postgres::clock::{Clock, Due, Flow, Patience as Times};
use crate::postgres::frame::{
    Frame, MAX_CLIENT_FRAME_BYTES, ProtocolViolation, client_frame_within,
};
use crate::postgres::outbox::Outbox;
use crate::postgres::pump::departure::Departure;
use crate::postgres::reply::Complaint;
use crate::postgres::session::{Appetite, Ports, RowFate, Session};
use crate::postgres::wire::{Wire, say_farewell};

/// Bytes taken in one read at most: 64 KiB. Reads of 8 KiB cost 45 % more CPU per megabyte.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Bytes that may wait in one place before the side they come from is no longer read: 64 KiB. One
/// read or one message may come on top.
const MOST_WAITING_BYTES: usize = 64 * 1024;

/// Longest text that is judged on the spot: 16 KiB. A megabyte takes the parsers more than 100 ms,
/// and other connections share the thread.
const LONG_TEXT_BYTES: usize = 16 * 1024;

thread_local! {
    /// One read buffer for all connections of a thread.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut scratch = SCRATCH.take();
    scratch.resize(SCRATCH_BYTES, 0);
    let done = work(&mut scratch);
    SCRATCH.set(scratch);
    done
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client closed the connection, or it broke.
    ClientLeft,
    /// Something lasted too long, and the session does not outlive it.
    Overdue(Due),
    /// The client has been refused too often.
    Refused,
    /// The server closed the connection, or it broke.
    ServerLeft,
    /// The server ended the session with an error that the client has been passed.
    ServerRefused,
    /// The gate shuts down.
    ShutDown,
    /// The client said goodbye.
    Terminated,
    /// One side broke the protocol.
    Violation(Side, ProtocolViolation),
}

/// Whose message it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Client,
    /// The server's.
    Server,
}

/// Whether the pump did anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Made,
    None,
}

impl Progress {
    fn or(self, other: Self) -> Self {
        if self == Self::Made { self } else { other }
    }
}

/// Whether the server still takes what is sent to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hearing {
    Deaf,
    Hears,
}

/// Whether the client is listened to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Not before a request to cancel has been dealt with: it could hit the next statement.
    Held,
    Open,
}

/// Whether the session goes on once it is idle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    EndWhenIdle,
    Open,
}

/// A session with the two streams that it joins.
pub struct Pump<C, S> {
    client: C,
    server: S,
    /// None after a violation.
    session: Option<Session>,
    outbox: Outbox,
    /// Bytes of the client that the session has not taken.
    from_client: Vec<u8>,
    /// The beginning of a message of the server.
    from_server: Vec<u8>,
    /// Bytes of the present row that are still to come.
    row_left: usize,
    /// Whether the present row is passed on.
    row_fate: RowFate,
    /// A limit that was met in the middle of a row.
    overdue: Option<Reason>,
    clock: Clock,
    /// Whether bytes have been taken since the last look at the clock.
    flow: Flow,
    turn: Turn,
    departure: Departure<C>,
    /// Until then the client is neither answered nor listened to.
    pause: Option<Pin<Box<Sleep>>>,
    longest_message: usize,
    hearing: Hearing,
    patience: Patience,
    /// Whether the server was working when a violation ended the session.
    was_busy: bool,
}

impl<C, S> Pump<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Joins two streams; `first` are bytes that the client is sent before anything else.
    #[must_use]
    pub fn new(client: Wire<C>, server: Wire<S>, session: Session, first: &[u8]) -> Self {
        let mut outbox = Outbox::default();
        outbox.client().extend_from_slice(first);
        Self {
            client: client.stream,
            server: server.stream,
            session: Some(session),
            outbox,
            from_client: trimmed(client.bytes),
            from_server: trimmed(server.bytes),
            row_left: 0,
            row_fate: RowFate::Pass,
            overdue: None,
            clock: Clock::new(Times::default()),
            flow: Flow::Moves,
            turn: Turn::Open,
            departure: Departure::default(),
            pause: None,
            longest_message: MAX_CLIENT_FRAME_BYTES,
            hearing: Hearing::Hears,
            patience: Patience::Open,
            was_busy: false,
        }
    }

    /// From now on the session ends as soon as it is idle.
    pub const fn end_when_idle(&mut self) {
        self.patience = Patience::EndWhenIdle;
    }

    /// Whether the server is working on something that nobody will read.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.session.as_ref().map_or(self.was_busy, Session::is_busy)
    }

    /// The server for a question of the gate's own, while nothing is under way in either direction.
    pub fn lend_server(&mut self) -> Option<Wire<&mut S>> {
        let is_idle = self.session.as_ref().is_some_and(Session::is_idle)
            && self.outbox.is_empty()
            && self.from_client.is_empty()
            && self.from_server.is_empty()
            && self.row_left == 0
            && self.pause.is_none()
            && self.hearing == Hearing::Hears
            && self.turn == Turn::Open;
        is_idle.then(|| Wire::new(&mut self.server))
    }

    /// What the server has said to a question of the gate's own and besides: the session hears it next.
    pub fn hear_later(&mut self, asides: Vec<u8>, unread: Vec<u8>) {
        self.from_server = [asides, unread].concat();
    }

    /// Moves what can be moved. When it returns `Pending`, the task is woken as soon as there is
    /// more to do.
    pub fn poll(&mut self, context: &mut Context<'_>, ports: &mut Ports<'_>) -> Poll<End> {
        loop {
            match self.round(context, ports) {
                Ok(Progress::Made) => continue,
                Ok(Progress::None) => {}
                Err(end) => return Poll::Ready(end),
            }
            let (pace, flow) = (self.pace(), self.look_at_flow());
            self.clock.observe(pace, flow);
            let Poll::Ready(due) = self.clock.poll_due(context) else { return Poll::Pending };
            if let Err(end) = self.on_due(due, ports) {
                return Poll::Ready(end);
            }
        }
    }

    fn round(&mut self, context: &mut Context<'_>, ports: &mut Ports<'_>) -> Result<Progress, End> {
        self.see_pause_out(context);
        let heard = self.take_from_client(context, ports)?;
        let asked = self.write_to_server(context);
        let answered = self.take_from_server(context, ports)?;
        let told = self.write_to_client(context)?;
        if self.patience == Patience::EndWhenIdle && self.is_at_rest() {
            return Err(End::ShutDown);
        }
        let progress = heard.or(asked).or(answered).or(told);
        if progress == Progress::None {
            self.watch_client()?;
        }
        Ok(progress)
    }

    fn is_at_rest(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_idle)
            && self.from_client.is_empty()
            && self.outbox.pending_for_client().is_empty()
    }

    /// Whether so much of the client waits that nothing more is read from it.
    fn is_deaf(&self) -> bool {
        self.from_client.len() >= MOST_WAITING_BYTES && !self.has_room()
    }

    fn appetite(&self) -> Appetite {
        self.session.as_ref().map_or(Appetite::Closed, Session::appetite)
    }

    /// Whether another message of the client may be taken. Answers of the gate's own count as well:
    /// a refusal is longer than what was refused.
    fn has_room(&self) -> bool {
        self.appetite() == Appetite::Hungry
            && self.turn == Turn::Open
            && self.pause.is_none()
            && self.outbox.pending_for_server().len() < MOST_WAITING_BYTES
            && self.outbox.pending_for_client().len() < MOST_WAITING_BYTES
    }
}

/// From client to server, then from server to client.
impl<C, S> Pump<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn take_from_client(
        &mut self,
        context: &mut Context<'_>,
        ports: &mut Ports<'_>,
    ) -> Result<Progress, End> {
        let mut progress = Progress::None;
        if !self.from_client.is_empty() && self.has_room() {
            progress = self.hear_kept(ports)?;
        }
        // With room, what is kept is the beginning of one message, whose length has been checked.
        if self.departure.has_ended() || self.is_deaf() {
            return Ok(progress);
        }
        with_scratch(|scratch| {
            match poll_bytes(&mut self.client, context, scratch) {
                Poll::Pending => return Ok(progress),
                Poll::Ready(Received::Broken) => return Err(End::ClientLeft),
                Poll::Ready(Received::End) => self.hear_the_end(),
                Poll::Ready(Received::Bytes(bytes)) if self.from_client.is_empty() => {
                    let taken = self.hear(bytes, ports)?;
                    let kept = bytes.get(taken..).unwrap_or_default();
                    self.from_client.extend_from_slice(kept);
                }
                Poll::Ready(Received::Bytes(bytes)) => {
                    self.from_client.extend_from_slice(bytes);
                    self.hear_kept(ports)?;
                }
            }
            Ok(Progress::Made)
        })
    }

    fn hear_kept(&mut self, ports: &mut Ports<'_>) -> Result<Progress, End> {
        let mut kept = std::mem::take(&mut self.from_client);
        let taken = self.hear(&kept, ports)?;
        kept.drain(..taken);
        self.from_client = trimmed(kept);
        Ok(if taken > 0 { Progress::Made } else { Progress::None })
    }

    /// Gives the session what it takes of these bytes; returns how many it took.
    fn hear(&mut self, bytes: &[u8], ports: &mut Ports<'_>) -> Result<usize, End> {
        let broken = |violation| End::Violation(Side::Client, violation);
        let mut taken = 0;
        while self.has_room() {
            let rest = bytes.get(taken..).unwrap_or_default();
            let Some(frame) = client_frame_within(rest, self.longest_message).map_err(broken)?
            else {
                break;
            };
            self.on_client(frame, ports).map_err(broken)?;
            taken += frame.raw.len();
            self.take_haste()?;
            if self.appetite() == Appetite::Closed {
                return Err(End::Terminated);
            }
        }
        Ok(taken)
    }

    fn on_client(
        &mut self,
        frame: Frame<'_>,
        ports: &mut Ports<'_>,
    ) -> Result<(), ProtocolViolation> {
        let Some(session) = self.session.take() else { return Ok(()) };
        self.was_busy = session.is_busy();
        let outbox = &mut self.outbox;
        let step = || session.on_client(frame, ports, outbox);
        let has_long_text = matches!(frame.kind, b'P' | b'Q') && frame.raw.len() > LONG_TEXT_BYTES;
        let next =
            if has_long_text && may_block() { tokio::task::block_in_place(step) } else { step() };
        self.session = Some(next?);
        Ok(())
    }

    fn write_to_server(&mut self, context: &mut Context<'_>) -> Progress {
        let mut progress = Progress::None;
        while !self.outbox.pending_for_server().is_empty() {
            let pending = self.outbox.pending_for_server();
            let written = match self.hearing {
                Hearing::Deaf => Ok(pending.len()),
                Hearing::Hears => match Pin::new(&mut self.server).poll_write(context, pending) {
                    Poll::Pending => break,
                    Poll::Ready(written) => written,
                },
            };
            match written {
                Ok(count) if count > 0 => {
                    self.flow = Flow::Moves;
                    self.outbox.sent_to_server(count);
                }
                // It may still have something to say: why it went, for one.
                Ok(_) | Err(_) => self.hearing = Hearing::Deaf,
            }
            progress = Progress::Made;
        }
        // What is encrypted may wait in a buffer of its own; if it cannot leave now, this task is
        // woken when it can. A failure shows at the next read.
        let _ = Pin::new(&mut self.server).poll_flush(context);
        progress
    }

    fn take_from_server(
        &mut self,
        context: &mut Context<'_>,
        ports: &mut Ports<'_>,
    ) -> Result<Progress, End> {
        if self.outbox.pending_for_client().len() >= MOST_WAITING_BYTES {
            return Ok(Progress::None);
        }
        if !self.from_server.is_empty() && self.answer_kept(context, ports)? > 0 {
            return Ok(Progress::Made);
        }
        with_scratch(|scratch| {
            match poll_bytes(&mut self.server, context, scratch) {
                Poll::Pending => return Ok(Progress::None),
                Poll::Ready(Received::Broken | Received::End) => return Err(End::ServerLeft),
                Poll::Ready(Received::Bytes(bytes)) if self.from_server.is_empty() => {
                    let taken = self.answer(bytes, context, ports)?;
                    let kept = bytes.get(taken..).unwrap_or_default();
                    self.from_server.extend_from_slice(kept);
                }
                Poll::Ready(Received::Bytes(bytes)) => {
                    self.from_server.extend_from_slice(bytes);
                    self.answer_kept(context, ports)?;
                }
            }
            Ok(Progress::Made)
        })
    }

    fn write_to_client(&mut self, context: &mut Context<'_>) -> Result<Progress, End> {
        let mut progress = Progress::None;
        while self.pause.is_none() && !self.outbox.pending_for_client().is_empty() {
            let pending = self.outbox.pending_for_client();
            match Pin::new(&mut self.client).poll_write(context, pending) {
                Poll::Pending => break,
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.flow = Flow::Moves;
                    self.outbox.sent_to_client(count);
                }
                Poll::Ready(_) => return Err(End::ClientLeft),
            }
            progress = Progress::Made;
        }
        let _ = Pin::new(&mut self.client).poll_flush(context);
        Ok(progress)
    }

    /// Ends the connection: the client gets what waits for it and the last word, the server a
    /// goodbye if it is not in the middle of a message. Returns when both have closed, a server at
    /// work when it has been cancelled. Bounded in time.
    pub async fn close(mut self, end: End, last_word: Option<&Complaint>) {
        // Inside a row a message would be read as part of it.
        let between_rows = self.row_left == 0 || self.row_fate != RowFate::Pass;
        if let Some(complaint) = last_word.filter(|_| between_rows) {
            complaint.encode(self.outbox.client());
        }
        let may_interrupt = self.outbox.pending_for_server().is_empty();
        if end != End::Terminated && may_interrupt {
            self.outbox.terminate();
        }
        let to_client = async {
            if end != End::ClientLeft {
                say_farewell(&mut self.client, self.outbox.pending_for_client()).await;
            }
        };
        let to_server = async {
            if self.hearing == Hearing::Hears && (end == End::Terminated || may_interrupt) {
                say_farewell(&mut self.server, self.outbox.pending_for_server()).await;
            }
        };
        tokio::join!(to_client, to_server);
    }
}

/// What one read brought.
enum Received<'a> {
    /// The connection is no more.
    Broken,
    Bytes(&'a [u8]),
    /// There will be no more bytes; in the other direction there may be.
    End,
}

/// Reads what has come.
fn poll_bytes<'a, R: AsyncRead + Unpin>(
    from: &mut R,
    context: &mut Context<'_>,
    scratch: &'a mut [u8],
) -> Poll<Received<'a>> {
    let mut buffer = ReadBuf::new(scratch);
    match Pin::new(from).poll_read(context, &mut buffer) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Err(_)) => return Poll::Ready(Received::Broken),
        Poll::Ready(Ok(())) => {}
    }
    let count = buffer.filled().len();
    Poll::Ready(match scratch.get(..count) {
        Some(bytes) if !bytes.is_empty() => Received::Bytes(bytes),
        _ => Received::End,
    })
}

/// An empty buffer gives its memory back.
fn trimmed(buffer: Vec<u8>) -> Vec<u8> {
    if buffer.is_empty() { Vec::new() } else { buffer }
}

/// Whether the runtime has other threads that go on while this one parses.
fn may_block() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}
