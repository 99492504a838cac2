//! Bodies on their way to the client: a refusal, an answer that is there as a whole, or one that
//! passes as fast as the client takes it.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::jira::rewrite::{Rewriter, SiteNames};
use crate::jira::upstream::{Lease, Upstream};

/// Most bytes of an answer that are rewritten in memory: 256 KiB, many pages of issues. Only then is
/// its new length known before its first byte is sent.
pub const MAX_WHOLE_BYTES: usize = 256 * 1024;

/// How long the site may let an answer that it has begun wait for its next bytes: 60 s.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// The answer of the site, as it comes.
pub struct Source {
    incoming: Incoming,
    upstream: Arc<Upstream>,
    lease: Lease,
    stalled: Pin<Box<Sleep>>,
}

impl Source {
    /// The body of an answer, and the connection that it comes over.
    #[must_use]
    pub fn new(incoming: Incoming, upstream: Arc<Upstream>, lease: Lease) -> Self {
        let stalled = Box::pin(tokio::time::sleep(STALL_TIMEOUT));
        let mut source = Self { incoming, upstream, lease, stalled };
        if source.incoming.is_end_stream() {
            source.end();
        }
        source
    }

    /// The next bytes; `None` at the end. Trailers are not passed on.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) else {
                ready!(self.stalled.as_mut().poll(context));
                return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
            };
            let data = frame.map(|frame| frame.map(Frame::into_data));
            match data {
                Some(Ok(Ok(bytes))) => {
                    self.go_on();
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Ok(Err(_trailers))) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                None => {
                    self.end();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn go_on(&mut self) {
        let deadline = Instant::now() + STALL_TIMEOUT;
        // Set seldom: only when half of the time is over.
        if self.stalled.deadline() < deadline - STALL_TIMEOUT / 2 {
            self.stalled.as_mut().reset(deadline);
        }
        // Nobody asks for the end of an answer whose length was announced.
        if self.incoming.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        self.upstream.give_back(&mut self.lease);
    }

    /// The next bytes; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// When the site does not go on.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        std::future::poll_fn(|context| self.poll_bytes(context)).await
    }

    /// How long it is, as far as the site has said.
    #[must_use]
    pub fn size(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// What is told at the end of an answer: how many bytes of it the client was sent, and whether these
/// were all.
pub type AtEnd = Box<dyn FnOnce(u64, Ending) + Send>;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its last byte.
    Complete,
    /// Before: the site or the client left.
    Cut,
}

/// What a body is made of.
pub enum Content {
    /// Nothing.
    Nothing,
    /// An answer that passes as it is.
    Passing(Source),
    /// An answer that is too long to wait for: URLs in it are rewritten as it passes.
    Rewritten(Box<Rewritten>),
    /// Bytes that are there.
    Whole(Bytes),
}

/// A long answer that is rewritten on its way.
pub struct Rewritten {
    source: Source,
    rewriter: Rewriter,
    waiting: Vec<u8>,
}

impl Content {
    /// Bytes that are there.
    #[must_use]
    pub fn whole(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() { Self::Nothing } else { Self::Whole(Bytes::from(bytes)) }
    }

    /// An answer in which URLs are rewritten: as a whole if it is short, or else as it passes.
    ///
    /// # Errors
    /// When the site does not go on before anything was sent.
    pub async fn rewritten(mut source: Source, names: Arc<SiteNames>) -> io::Result<Self> {
        let mut rewriter = Rewriter::new(names);
        let expected = source.size().upper().and_then(|size| usize::try_from(size).ok());
        let is_long = expected.is_some_and(|size| size > MAX_WHOLE_BYTES);
        let mut read = 0;
        let mut waiting = Vec::with_capacity(expected.filter(|_| !is_long).unwrap_or(0));
        while !is_long && read <= MAX_WHOLE_BYTES {
            let Some(bytes) = source.next().await else {
                rewriter.finish(&mut waiting);
                return Ok(Self::whole(waiting));
            };
            let bytes = bytes?;
            read += bytes.len();
            rewriter.feed(&bytes, &mut waiting);
        }
        Ok(Self::Rewritten(Box::new(Rewritten { source, rewriter, waiting })))
    }
}

impl Rewritten {
    /// The next bytes; `None` at the end.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        while self.waiting.is_empty() {
            match ready!(self.source.poll_bytes(context)) {
                Some(Ok(bytes)) => self.rewriter.feed(&bytes, &mut self.waiting),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.rewriter.finish(&mut self.waiting);
                    if self.waiting.is_empty() {
                        return Poll::Ready(None);
                    }
                }
            }
        }
        Poll::Ready(Some(Ok(Bytes::from(mem::take(&mut self.waiting)))))
    }
}

/// The body of an answer to the client.
pub struct Reply {
    content: Content,
    sent: u64,
    at_end: Option<AtEnd>,
}

impl Reply {
    /// A body, and what is done when it has been sent or given up.
    #[must_use]
    pub fn new(content: Content, at_end: AtEnd) -> Self {
        Self { content, sent: 0, at_end: Some(at_end) }
    }

    fn poll_content(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match &mut self.content {
            Content::Nothing => Poll::Ready(None),
            Content::Whole(bytes) => {
                let bytes = mem::take(bytes);
                self.content = Content::Nothing;
                Poll::Ready(Some(Ok(bytes)))
            }
            Content::Passing(source) => source.poll_bytes(context),
            Content::Rewritten(rewritten) => rewritten.poll_bytes(context),
        }
    }

    fn end(&mut self, ending: Ending) {
        if let Some(at_end) = self.at_end.take() {
            at_end(self.sent, ending);
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let next = ready!(this.poll_content(context));
        match &next {
            None => this.end(Ending::Complete),
            Some(Ok(bytes)) => {
                this.sent += bytes.len() as u64;
                if this.is_end_stream() {
                    this.end(Ending::Complete);
                }
            }
            Some(Err(_)) => this.end(Ending::Cut),
        }
        Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Nothing => true,
            Content::Whole(_) | Content::Rewritten(_) => false,
            Content::Passing(source) => source.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Nothing => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Passing(source) => source.size(),
            Content::Rewritten(_) => SizeHint::default(),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // An empty body is not asked for its end.
        let ending = if self.is_end_stream() { Ending::Complete } else { Ending::Cut };
        self.end(ending);
    }
}
