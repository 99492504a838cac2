//! The client's side of a connection as hyper sees it: only bytes that have one reading, and only
//! in time.
//!
//! Heads are held back until they are whole and [`framing`](crate::jira::framing) has accepted them;
//! bodies pass as far as their framing holds. A head that is refused is replaced by a request of the
//! gate's own, so that hyper answers it in its turn behind the answers that are still due; the
//! service learns by the request's number that it is none ([`Told::head_fault`]). Nothing of the
//! client is read behind it.

use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::jira::framing::{BodyLength, Chunks, FramingFault, MAX_HEAD_BYTES, read_head};

/// What stands in the place of a head that was refused.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// Bytes of the buffer: the longest head and a little more, so that a longer one shows.
const BUFFER_BYTES: usize = MAX_HEAD_BYTES + 1024;

/// Most empty lines in front of a head (RFC 9112 section 2.2 asks for at least one).
const MAX_EMPTY_LINES: usize = 4;

/// How much of what a client still sends is thrown away when the connection ends, so that it reads
/// the last answer before it meets a reset: 4 MiB.
const MAX_LINGER_BYTES: usize = 4 << 20;

/// How long peers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the first byte of a head, or from connecting, to the head's end.
    pub head: Duration,
    /// From a head to the end of its body.
    pub body: Duration,
    /// Between an answer and the next head.
    pub idle: Duration,
    /// Without taking a byte of what waits for the client.
    pub stall: Duration,
    /// For the client to close after the gate has.
    pub linger: Duration,
}

impl Default for Patience {
    /// Ten seconds for a head and for a body of 64 KiB at most: a modem is fast enough. 75 s idle,
    /// as the usual servers. 30 s without taking a byte: a stopped program, or an attack. 2 s to
    /// close.
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            linger: Duration::from_secs(2),
        }
    }
}

/// What the doorway and the service of one connection tell each other.
#[derive(Debug, Default)]
pub struct Told {
    head: OnceLock<(u64, FramingFault)>,
    body: OnceLock<FramingFault>,
    is_answering: AtomicBool,
}

impl Told {
    /// Why request number `ordinal` (from 1) is none.
    #[must_use]
    pub fn head_fault(&self, ordinal: u64) -> Option<FramingFault> {
        self.head.get().filter(|(at, _)| *at == ordinal).map(|(_, fault)| *fault)
    }

    /// Why the body of the present request could not be read.
    #[must_use]
    pub fn body_fault(&self) -> FramingFault {
        self.body.get().copied().unwrap_or(FramingFault::BodyTooShort)
    }

    /// An answer is being made: the client has nothing to send meanwhile.
    pub fn begin_answer(&self) {
        self.is_answering.store(true, Ordering::Relaxed);
    }

    /// The answer is out.
    pub fn end_answer(&self) {
        self.is_answering.store(false, Ordering::Relaxed);
    }
}

/// Where in the client's bytes the doorway stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before or in a head.
    Head,
    /// In a body of which so many bytes are left.
    Exact(u64),
    /// In a chunked body.
    Chunked(Chunks),
    /// Behind the last request.
    End,
}

/// A point in time that moves, watched by one timer that is seldom set.
struct Watch {
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Watch {
    fn new(patience: Duration) -> Self {
        let deadline = Instant::now() + patience;
        Self { deadline, timer: Box::pin(tokio::time::sleep_until(deadline)) }
    }

    fn give(&mut self, patience: Duration) {
        self.deadline = Instant::now() + patience;
    }

    /// Ready when the time is over.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.deadline < self.timer.deadline() {
            self.timer.as_mut().reset(self.deadline);
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            if self.timer.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            // It was set for an earlier deadline, which has moved since.
            self.timer.as_mut().reset(self.deadline);
        }
    }
}

/// A client's connection behind its doorway.
pub struct Doorway<S> {
    client: S,
    told: Arc<Told>,
    patience: Patience,
    place: Place,
    heads: u64,
    empty_lines: usize,
    buffer: Vec<u8>,
    /// From here to `accepted` is what may be handed on, from there to `end` what has been read.
    start: usize,
    accepted: usize,
    end: usize,
    reading: Watch,
    stalled: Option<Watch>,
    lingering: Option<(Watch, usize)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Doorway<S> {
    /// A connection of which `first` has been read already, a few bytes at most.
    #[must_use]
    pub fn new(client: S, first: Vec<u8>, told: Arc<Told>, patience: Patience) -> Self {
        let end = first.len();
        let mut buffer = first;
        buffer.resize(BUFFER_BYTES, 0);
        Self {
            client,
            told,
            patience,
            place: Place::Head,
            heads: 0,
            empty_lines: 0,
            buffer,
            start: 0,
            accepted: 0,
            end,
            reading: Watch::new(patience.head),
            stalled: None,
            lingering: None,
        }
    }

    /// Accepts what can be accepted of what has been read.
    fn accept(&mut self) -> Result<(), FramingFault> {
        let bytes = self.buffer.get(self.accepted..self.end).unwrap_or_default();
        match &mut self.place {
            Place::Head => {
                let lines = bytes.chunks(2).take_while(|line| *line == b"\r\n").count();
                let bytes = bytes.get(2 * lines..).unwrap_or_default();
                self.empty_lines += lines;
                if self.empty_lines > MAX_EMPTY_LINES {
                    return Err(FramingFault::RequestLine);
                }
                // Half of an empty line is no head yet.
                let head = if bytes == b"\r" { None } else { read_head(bytes)? };
                self.start += 2 * lines;
                self.accepted = self.start;
                if let Some(head) = head {
                    self.accepted += head.bytes;
                    self.begin_body(head.body);
                }
            }
            Place::Exact(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                self.accepted += here;
                *left -= here as u64;
                if *left == 0 {
                    self.end_body();
                }
            }
            Place::Chunked(chunks) => {
                let (taken, flow) = chunks.advance(bytes)?;
                self.accepted += taken;
                if flow == ControlFlow::Break(()) {
                    self.end_body();
                }
            }
            Place::End => {}
        }
        Ok(())
    }

    fn begin_body(&mut self, body: BodyLength) {
        self.heads += 1;
        self.empty_lines = 0;
        self.place = match body {
            BodyLength::Exact(0) => return self.end_body(),
            BodyLength::Exact(length) => Place::Exact(length),
            BodyLength::Chunked => Place::Chunked(Chunks::start()),
        };
        self.reading.give(self.patience.body);
    }

    fn end_body(&mut self) {
        self.place = Place::Head;
        self.reading.give(self.patience.idle);
    }

    /// Ends the client's part of the conversation because of a fault in it.
    fn refuse(&mut self, fault: FramingFault) -> io::Result<()> {
        let was_in_head = self.place == Place::Head;
        self.place = Place::End;
        self.forget();
        if was_in_head {
            // Set once: this is the last request.
            let _ = self.told.head.set((self.heads + 1, fault));
            self.buffer.truncate(0);
            self.buffer.extend_from_slice(STAND_IN);
            self.accepted = STAND_IN.len();
            self.end = STAND_IN.len();
            return Ok(());
        }
        let _ = self.told.body.set(fault);
        Err(io::Error::new(io::ErrorKind::InvalidData, fault))
    }

    fn forget(&mut self) {
        (self.start, self.accepted, self.end) = (0, 0, 0);
    }

    /// Reads more from the client. `Ok(0)` at its end.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.accepted -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        let mut space = ReadBuf::new(self.buffer.get_mut(self.end..).unwrap_or_default());
        ready!(Pin::new(&mut self.client).poll_read(context, &mut space))?;
        let read = space.filled().len();
        self.end += read;
        Poll::Ready(Ok(read))
    }

    /// The client has sent nothing more: is its time over?
    fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<Option<FramingFault>> {
        let is_idle = self.place == Place::Head && self.start == self.end;
        loop {
            ready!(self.reading.poll_over(context));
            // While an answer is made, it is not the client who is waited for.
            if self.place != Place::Head || !self.told.is_answering.load(Ordering::Relaxed) {
                break;
            }
            self.reading.give(self.patience.idle);
        }
        Poll::Ready(match self.place {
            Place::Head if is_idle => None,
            Place::Head => Some(FramingFault::HeadTooSlow),
            Place::Exact(_) | Place::Chunked(_) => Some(FramingFault::BodyTooSlow),
            Place::End => None,
        })
    }

    fn hand_on(&mut self, into: &mut ReadBuf<'_>) {
        let bytes = (self.accepted - self.start).min(into.remaining());
        let end = self.start + bytes;
        into.put_slice(self.buffer.get(self.start..end).unwrap_or_default());
        self.start = end;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Doorway<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.start == this.accepted
                && this.accepted < this.end
                && let Err(fault) = this.accept()
            {
                this.refuse(fault)?;
            }
            if this.start < this.accepted {
                this.hand_on(into);
                return Poll::Ready(Ok(()));
            }
            if this.place == Place::End {
                return Poll::Ready(Ok(()));
            }
            let was_between = this.start == this.end;
            match this.poll_more(context) {
                Poll::Ready(Ok(0)) => match this.place {
                    Place::Head => return Poll::Ready(Ok(())),
                    _ => this.refuse(FramingFault::BodyTooShort)?,
                },
                Poll::Ready(Ok(_)) => {
                    // A head that has begun is waited for no longer than a head.
                    if was_between && this.place == Place::Head && this.heads > 0 {
                        this.reading.give(this.patience.head);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let Some(fault) = ready!(this.poll_too_slow(context)) else {
                        this.place = Place::End;
                        return Poll::Ready(Ok(()));
                    };
                    this.refuse(fault)?;
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Doorway<S> {
    /// A client that takes nothing for too long is given up.
    fn mind_stall<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience.stall;
        let watch = self.stalled.get_or_insert_with(|| Watch::new(patience));
        match watch.poll_over(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Doorway<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.client).poll_write(context, bytes);
        this.mind_stall(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.client).poll_write_vectored(context, slices);
        this.mind_stall(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.client.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.client).poll_flush(context);
        this.mind_stall(context, flushed)
    }

    /// Says goodbye, then listens for a while: a connection that is closed with bytes unread is reset,
    /// and the client would lose the answer that it has not read yet.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            let said = Pin::new(&mut this.client).poll_shutdown(context);
            ready!(this.mind_stall(context, said))?;
            this.lingering = Some((Watch::new(this.patience.linger), 0));
        }
        loop {
            this.forget();
            // A stand-in may have taken the buffer's place.
            this.buffer.resize(BUFFER_BYTES, 0);
            let read = this.poll_more(context);
            let Some((watch, drained)) = &mut this.lingering else { return Poll::Ready(Ok(())) };
            match read {
                Poll::Ready(Ok(bytes)) if bytes > 0 && *drained < MAX_LINGER_BYTES => {
                    *drained += bytes;
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return watch.poll_over(context).map(Ok),
            }
        }
    }
}
