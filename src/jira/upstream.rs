//! The way to the site: connections that are kept open and lent to one request after the other.
//!
//! A small pool over hyper's client, last in first out. It never sends a request a second time but
//! in one case: a connection that had been idle was closed by the site before a byte of the answer
//! came. What is sent are reads.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::dial::{DialError, ServerTls, TlsDialer, Trust};
use crate::jira::outbox::SiteBound;
use crate::jira::refusal::Refusal;
use crate::jira::site::{Scheme, SiteUrl};
use crate::listen::stream::Stream;
use crate::policy::reason::Reason;

/// How long a connection attempt may take, TLS included: 10 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the site may take to begin its answer: 60 s, as the usual proxies. A large search takes
/// half of it.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a connection may wait for its next request: 20 s, what servers grant at least.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Most connections that wait.
const MAX_IDLE: usize = 128;

/// Most bytes of the head of an answer that hyper reads: 128 KiB. What may pass is less.
const MAX_ANSWER_HEAD: usize = 128 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// What came is not an answer in HTTP.
    #[error("the site's answer is not HTTP")]
    Answer(#[source] hyper::Error),
    /// Nobody takes the connection.
    #[error("the site cannot be reached")]
    Connect(#[source] io::Error),
    /// The connection ended before the answer.
    #[error("the site closed the connection")]
    Closed(#[source] hyper::Error),
    /// The answer did not begin in time.
    #[error("the site does not answer in time")]
    TimedOut,
}

impl UpstreamError {
    /// What the client reads: no addresses.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let (reason, note) = match self {
            Self::Answer(_) => {
                (Reason::UpstreamAnswer, "The answer of JIRA cannot be passed on. It is not HTTP.")
            }
            Self::Connect(_) => (Reason::UpstreamDown, "JIRA cannot be reached."),
            Self::Closed(_) => {
                (Reason::UpstreamDown, "JIRA closed the connection without an answer.")
            }
            Self::TimedOut => (Reason::UpstreamTimeout, "JIRA does not answer in time."),
        };
        Refusal::new(reason, "upstream", note)
    }
}

/// The body of a request: nothing, or bytes that are there.
#[derive(Debug)]
pub struct Outgoing(Option<Bytes>);

impl From<Bytes> for Outgoing {
    fn from(bytes: Bytes) -> Self {
        Self(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.get_mut().0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// A connection of the pool.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Outgoing>,
    idle_since: Instant,
}

/// Connections to one site.
pub struct Upstream {
    site: SiteUrl,
    tls: Option<TlsDialer>,
    answer_time: Duration,
    idle: Mutex<Vec<Link>>,
}

/// A connection that is lent out. It goes back to the pool by [`Upstream::give_back`] only: one whose
/// answer was not read to its end is closed.
#[derive(Debug)]
pub struct Lease(Option<SendRequest<Outgoing>>);

impl Upstream {
    /// The way to `site`. `authorities` is a PEM file that takes the place of the certificates that
    /// the system trusts. Nothing is connected yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(site: SiteUrl, authorities: Option<PathBuf>) -> Result<Self, DialError> {
        let trust = authorities.map_or(Trust::Machine, Trust::Authorities);
        let tls = match site.scheme() {
            Scheme::Http => None,
            Scheme::Https => Some(TlsDialer::open(&ServerTls { trust, identity: None })?),
        };
        Ok(Self { site, tls, answer_time: ANSWER_TIMEOUT, idle: Mutex::default() })
    }

    /// With another time for the site to begin its answer.
    #[must_use]
    pub const fn with_answer_time(mut self, time: Duration) -> Self {
        self.answer_time = time;
        self
    }

    /// The site.
    #[must_use]
    pub const fn site(&self) -> &SiteUrl {
        &self.site
    }

    /// Connects, over TLS if the site speaks it, and closes again: the site sees no request.
    ///
    /// # Errors
    /// When nobody answers, or nobody whose certificate is trusted.
    pub async fn probe(&self) -> io::Result<()> {
        let attempt = timeout(CONNECT_TIMEOUT, self.open());
        attempt.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(drop)
    }

    /// Sends a request and waits for the head of its answer. Not cancel-safe: the connection of a
    /// request that is given up is closed.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        bound: &SiteBound,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let answer = async {
            while let Some(sender) = self.waiting() {
                match ask(sender, bound.to_request()).await {
                    Err(error) if is_stale(&error) => {}
                    answer => return answer.map_err(told),
                }
            }
            let sender = self.connect().await?;
            ask(sender, bound.to_request()).await.map_err(told)
        };
        timeout(self.answer_time, answer).await.unwrap_or(Err(UpstreamError::TimedOut))
    }

    /// The connection that has waited for the shortest time, if it still stands.
    fn waiting(&self) -> Option<SendRequest<Outgoing>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(link) = idle.pop() {
            if link.idle_since.elapsed() > IDLE_TIMEOUT {
                // All others have waited for longer.
                idle.clear();
            } else if !link.sender.is_closed() {
                return Some(link.sender);
            }
        }
        None
    }

    /// Takes back a connection whose answer has been read to its end.
    pub fn give_back(&self, lease: &mut Lease) {
        let Some(sender) = lease.0.take().filter(|sender| !sender.is_closed()) else { return };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(Link { sender, idle_since: Instant::now() });
        }
    }

    async fn connect(&self) -> Result<SendRequest<Outgoing>, UpstreamError> {
        let attempt = timeout(CONNECT_TIMEOUT, self.open()).await;
        match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => handshake(stream).await,
            Err(error) => Err(UpstreamError::Connect(error)),
        }
    }

    async fn open(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect((self.site.host(), self.site.port())).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Stream::Tcp(stream)),
            Some(tls) => tls.encrypt(self.site.host(), Stream::Tcp(stream)).await,
        }
    }
}

async fn handshake(stream: Stream) -> Result<SendRequest<Outgoing>, UpstreamError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_ANSWER_HEAD);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(UpstreamError::Closed)?;
    // It ends when its sender is dropped: by the pool, or by the request that has it.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the site ended");
        }
    });
    Ok(sender)
}

async fn ask(
    mut sender: SendRequest<Outgoing>,
    request: Request<Outgoing>,
) -> hyper::Result<(Response<Incoming>, Lease)> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    Ok((response, Lease(Some(sender))))
}

/// Whether a connection that had waited was found closed, with no byte of an answer.
fn is_stale(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_closed() || error.is_incomplete_message() || is_io(error)
}

fn is_io(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.downcast_ref::<io::Error>().is_some())
}

fn told(error: hyper::Error) -> UpstreamError {
    if is_stale(&error) { UpstreamError::Closed(error) } else { UpstreamError::Answer(error) }
}
