//! The gate: takes connections, has each of them served by hyper behind its doorway, and owns every
//! task that it starts.
//!
//! HTTP/1.1 and HTTP/1.0 only. HTTP/2 is not offered: what its floods cost is decided inside a
//! library before a request is there to be judged.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use crate::audit::event::{Auditor, TlsFacts};
use crate::jira::access::Access;
use crate::jira::doorway::{Doorway, Patience, Told};
use crate::jira::exchange::{Place, Visit};
use crate::jira::framing::MAX_FIELDS;
use crate::jira::limits::Budgets;
use crate::jira::request::Names;
use crate::jira::rewrite::SiteNames;
use crate::jira::upstream::Upstream;
use crate::listen::stream::Stream;
use crate::listen::tls::{TlsDemand, TlsDoor};
use crate::listen::{Listener, Peer};
use crate::policy::jira::table::JiraPolicy;

/// The name of the protocol inside TLS (ALPN).
pub const PROTOCOL: &str = "http/1.1";

/// The first byte of a TLS connection (RFC 8446 section 5.1); no method of HTTP begins with it.
const TLS_HANDSHAKE: u8 = 22;

/// How long requests may go on after the gate was told to stop: 10 s, what service managers grant.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// Connections beyond the limit that are heard at the same time: 64. They are told that the gate is
/// full; what comes on top is closed unheard.
const STANDING_PLACES: usize = 64;

/// What a gate is made of.
pub struct Parts {
    /// Encryption towards clients.
    pub tls: Option<(TlsDemand, Arc<TlsDoor>)>,
    /// The way to the site.
    pub upstream: Arc<Upstream>,
    /// Who may ask, and as whom.
    pub access: Access,
    /// The names that the gate answers to.
    pub hosts: Names,
    /// The names of the site, and what they become in answers.
    pub site_names: Arc<SiteNames>,
    /// The rules.
    pub policy: Arc<JiraPolicy>,
    /// What one client may use.
    pub budgets: Arc<Budgets>,
    /// The audit log.
    pub auditor: Arc<dyn Auditor>,
    /// How long clients may take.
    pub patience: Patience,
    /// Most connections at once.
    pub max_connections: usize,
}

/// The gate for one site.
pub struct Gate {
    parts: Arc<Parts>,
    places: Arc<Semaphore>,
    standing: Semaphore,
    stopping: watch::Sender<bool>,
}

impl Gate {
    /// A gate that has not yet been told where to listen.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let places = Arc::new(Semaphore::new(parts.max_connections.min(Semaphore::MAX_PERMITS)));
        let standing = Semaphore::new(STANDING_PLACES);
        Self { parts: Arc::new(parts), places, standing, stopping: watch::Sender::new(false) }
    }

    /// Takes connections on these listeners until `shutdown`. Requests under way may go on for ten
    /// seconds then; idle connections are closed.
    pub async fn run(
        self: Arc<Self>,
        listeners: Vec<Listener>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut doors = JoinSet::new();
        for listener in listeners {
            doors.spawn(Arc::clone(&self).keep_door(listener));
        }
        shutdown.await;
        self.stopping.send_replace(true);
        // What is left after that is aborted with the doors that own it.
        let _ = tokio::time::timeout(DRAIN_PATIENCE, join_all(&mut doors)).await;
        doors.shutdown().await;
    }

    /// Takes the connections of one listener and owns their tasks.
    async fn keep_door(self: Arc<Self>, listener: Listener) {
        let mut stopping = self.stopping.subscribe();
        let mut visits = JoinSet::new();
        let accepting = listener.run(Arc::clone(&self.places), |stream, peer, place| {
            while let Some(ended) = visits.try_join_next() {
                note_panic(ended);
            }
            let gate = Arc::clone(&self);
            visits.spawn(async move { gate.serve(stream, peer, place).await });
        });
        tokio::select! {
            () = accepting => {}
            () = told_to_stop(&mut stopping) => {}
        }
        join_all(&mut visits).await;
    }

    /// Serves one connection to its end. Without a place it is told that there is none.
    async fn serve(&self, stream: Stream, peer: Peer, seat: Option<OwnedSemaphorePermit>) {
        let _standing = match &seat {
            Some(_) => None,
            None => match self.standing.try_acquire() {
                Ok(permit) => Some(permit),
                Err(_) => return,
            },
        };
        let place = if seat.is_some() { Place::Seated } else { Place::Standing };
        let entering = tokio::time::timeout(self.parts.patience.head, self.enter(stream));
        // Who cannot be spoken to cannot be told why; the handshake has said what TLS can say.
        let Ok(Ok((stream, first, tls))) = entering.await else { return };
        let told = Arc::new(Told::default());
        let doorway = Doorway::new(stream, first, Arc::clone(&told), self.parts.patience);
        let visit = Visit::new(Arc::clone(&self.parts), told, (peer, tls), place);
        let visit = Arc::new(visit);
        let service = service_fn(move |request| Arc::clone(&visit).answer(request));
        let mut builder = http1::Builder::new();
        // A client may close its side behind its last request and wait for the answer.
        builder.half_close(true).max_headers(MAX_FIELDS);
        let connection = builder.serve_connection(TokioIo::new(doorway), service);
        let mut connection = std::pin::pin!(connection);
        let mut stopping = self.stopping.subscribe();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told_to_stop(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a client's connection ended");
        }
    }

    /// Encrypts a connection, if it is to be: the stream, what has been read of it, and how it is
    /// encrypted. Clear text on a unix socket is never more than on this machine.
    async fn enter(&self, mut stream: Stream) -> io::Result<(Stream, Vec<u8>, Option<TlsFacts>)> {
        let Some((demand, door)) = &self.parts.tls else { return Ok((stream, Vec::new(), None)) };
        if *demand == TlsDemand::Require && matches!(stream, Stream::Unix(_)) {
            return Ok((stream, Vec::new(), None));
        }
        let mut first = Vec::new();
        if *demand == TlsDemand::Allow {
            first.push(stream.read_u8().await?);
            if first != [TLS_HANDSHAKE] {
                return Ok((stream, first, None));
            }
        }
        let (stream, handshake) = door.encrypt(first, stream).await?;
        Ok((stream, Vec::new(), Some(handshake.facts())))
    }
}

/// The sender lives in the gate, so it is only ever waited for.
async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        note_panic(ended);
    }
}

/// A task that panics takes its connection with it, and nothing else.
fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a fault of the gate");
    }
}
