//! The gate: takes connections, has them logged in, and pumps their sessions until they end.
//!
//! No rules live here. What is refused, and in which words, the pure half says; this half opens and
//! closes sockets, has records written before it acts, and owns every task that it starts.

use std::error::Error;
use std::future::Future;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

use crate::audit::event::{
    AuditUnavailable, Auditor, AuthMethod, Decision, Entry, Kind, Ledger, Protocol, SessionFacts,
};
use crate::dial::TlsDialer;
use crate::listen::limits::{Addresses, Hearing, Principals, Seat};
use crate::listen::stream::Stream;
use crate::listen::tls::Handshake;
use crate::listen::{Listener, Peer};
use crate::policy::file::PosturePolicy;
use crate::policy::limits::Limits;
use crate::policy::reason::Reason;
use crate::postgres::cancel::{CancelKeys, IssuedKey};
use crate::postgres::catalogs::{Catalogs, SessionJudge};
use crate::postgres::dismissal::Dismissal;
use crate::postgres::entrance::Entrance;
use crate::postgres::farewell::settle;
use crate::postgres::handshake::Negotiation;
use crate::postgres::identity::Auth;
use crate::postgres::login::{LoggedIn, Login};
use crate::postgres::posture::{Posture, searches_catalog_first};
use crate::postgres::pump::{End, Pump};
use crate::postgres::session::{Ports, Session};
use crate::postgres::startup::{FirstPacket, PinnedStartup, StartupMessage, StartupSettings};
use crate::postgres::stopper::Stopper;
use crate::postgres::upstream::{CancelTarget, Upstream};
use crate::postgres::visit::{Opened, Visit, dismiss, learn};
use crate::postgres::wire::Wire;

/// How long a peer may take to say what it wants, a TLS handshake included: 5 s. Nobody types
/// anything until then, and whoever opens connections and says nothing takes no place for long.
const OPENING_PATIENCE: Duration = Duration::from_secs(5);

/// How long sessions may go on after the gate was told to stop: 10 s, what service managers grant.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// How long the last words of the rest may take: 3 s.
const CLOSING_PATIENCE: Duration = Duration::from_secs(3);

/// How long a cancelled server may take to close before it is cancelled again: 250 ms. A request that
/// reaches it between Parse and Execute is lost, and nobody would stop the query of a client that has
/// gone. Repeated as long as [`Pump::close`] waits.
pub(super) const CANCEL_AGAIN: Duration = Duration::from_millis(250);

/// Connections beyond the limit that are heard at the same time: 64. They can only cancel, or be
/// told that the gate is full; what comes on top is closed unheard.
const STANDING_PLACES: usize = 64;

/// What a gate is made of.
pub struct Parts {
    /// The way in.
    pub entrance: Entrance,
    /// The server behind it.
    pub upstream: Upstream,
    /// What encrypts the way there; `None` goes in clear.
    pub dialer: Option<Arc<TlsDialer>>,
    /// Who decides who a client is.
    pub auth: Auth,
    /// The keys of its sessions.
    pub keys: Arc<CancelKeys>,
    /// The rules for SQL, and what is known of the databases that they are held against.
    pub catalogs: Arc<Catalogs>,
    /// The rules for settings in the start-up packet.
    pub settings: Arc<dyn StartupSettings + Send + Sync>,
    /// The audit log.
    pub auditor: Arc<dyn Auditor>,
    /// What becomes of roles with powers.
    pub posture: PosturePolicy,
    /// What one client may use.
    pub limits: Limits,
    /// Most sessions at once.
    pub max_connections: usize,
}

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// None.
    Open,
    /// Sessions end when they are idle.
    Draining,
    /// Sessions end now.
    Closing,
}

/// The gate for one server.
pub struct Gate {
    parts: Parts,
    places: Arc<Semaphore>,
    standing: Semaphore,
    principals: Principals,
    /// Who asks for cancellations, which nobody has to log in for.
    cancellers: Addresses,
    stage: watch::Sender<Stage>,
}

/// A connection that has become a session.
struct Conversation {
    pump: Pump<Stream, Stream>,
    ledger: Box<dyn Ledger + Send>,
    key: IssuedKey,
    target: CancelTarget,
    judge: SessionJudge,
}

/// Whether a connection may become a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Seated,
    Standing,
}

impl Gate {
    /// A gate that has not yet been told where to listen.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let places = Arc::new(Semaphore::new(parts.max_connections.min(Semaphore::MAX_PERMITS)));
        let standing = Semaphore::new(STANDING_PLACES);
        let principals = Principals::new(parts.limits.principal);
        let cancellers = Addresses::new(parts.limits.cancel_requests_per_minute);
        let stage = watch::Sender::new(Stage::Open);
        Self { parts, places, standing, principals, cancellers, stage }
    }

    /// Takes connections on these listeners until `shutdown`. Then sessions may go on for ten
    /// seconds; those that are idle, or become idle, are ended.
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
        self.stage.send_replace(Stage::Draining);
        if tokio::time::timeout(DRAIN_PATIENCE, join_all(&mut doors)).await.is_err() {
            self.stage.send_replace(Stage::Closing);
            // What is left after that is aborted with the doors that own it.
            let _ = tokio::time::timeout(CLOSING_PATIENCE, join_all(&mut doors)).await;
        }
        doors.shutdown().await;
    }

    /// Takes the connections of one listener and owns their tasks.
    async fn keep_door(self: Arc<Self>, listener: Listener) {
        let mut stage = self.stage.subscribe();
        let mut sessions = JoinSet::new();
        let accepting = listener.run(Arc::clone(&self.places), |stream, peer, place| {
            while let Some(ended) = sessions.try_join_next() {
                note_panic(ended);
            }
            let gate = Arc::clone(&self);
            sessions.spawn(async move { gate.serve(stream, peer, place).await });
        });
        tokio::select! {
            () = accepting => {}
            _ = stage.wait_for(|stage| *stage != Stage::Open) => {}
        }
        join_all(&mut sessions).await;
    }

    /// Serves one connection to its end. Without a place it is heard, but gets no session.
    pub async fn serve(&self, stream: Stream, peer: Peer, place: Option<OwnedSemaphorePermit>) {
        let _standing = match &place {
            Some(_) => None,
            None => match self.standing.try_acquire() {
                Ok(permit) => Some(permit),
                Err(_) => return,
            },
        };
        let seat = if place.is_some() { Place::Seated } else { Place::Standing };
        // Logins and last words are on the heap, so that a session does not carry their size for
        // life.
        let Some(mut conversation) = Box::pin(self.welcome(stream, peer, seat)).await else {
            return;
        };
        let end = self.pump_to_end(&mut conversation).await;
        Box::pin(conversation.close(end)).await;
    }

    /// Takes a connection from its first byte to a session, or to its end.
    async fn welcome(&self, stream: Stream, peer: Peer, place: Place) -> Option<Box<Conversation>> {
        let mut visit = self.greet(stream, peer);
        let admitted =
            tokio::time::timeout(self.parts.limits.login_time, self.admit(&mut visit, place)).await;
        match admitted.unwrap_or(Err(Dismissal::TimedOut)) {
            Ok((server, logged_in, seat)) => {
                let LoggedIn { pins, key, target, for_client, judge, posture: _ } = logged_in;
                let limits = &self.parts.limits;
                let session = Session::new(pins).within(limits).sharing(Box::new(seat));
                let pump = Pump::new(visit.client, server, session, &for_client)
                    .within(limits)
                    .noticing(Stream::has_hung_up);
                Some(Box::new(Conversation { pump, ledger: visit.ledger, key, target, judge }))
            }
            Err(dismissal) => {
                dismiss(visit, &dismissal).await;
                None
            }
        }
    }

    fn greet(&self, stream: Stream, peer: Peer) -> Visit {
        let addresses = &self.parts.upstream.addresses;
        let upstream: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let facts = SessionFacts {
            session: Uuid::now_v7(),
            protocol: Protocol::Postgres,
            client: peer.socket_address(),
            server: upstream.join(", "),
            tls: None,
            principal: None,
            user: None,
            database: None,
            application: None,
            method: AuthMethod::None,
        };
        let ledger = self.parts.auditor.open(facts.clone());
        let client = Wire::new(stream);
        Visit { client, peer, facts, ledger, opened: Opened::No }
    }

    /// Reads who comes and what they want, and encrypts the connection if that is asked for.
    async fn open(&self, visit: &mut Visit) -> Result<(FirstPacket, Option<Handshake>), Dismissal> {
        let entrance = &self.parts.entrance;
        visit.peer = entrance.unveil(&mut visit.client, &visit.peer).await?;
        visit.facts.client = visit.peer.socket_address();
        visit.ledger = self.parts.auditor.open(visit.facts.clone());
        entrance.enter(&mut visit.client, &visit.peer).await
    }

    async fn admit(
        &self,
        visit: &mut Visit,
        place: Place,
    ) -> Result<(Wire<Stream>, LoggedIn, Seat), Dismissal> {
        let opening = tokio::time::timeout(OPENING_PATIENCE, self.open(visit)).await;
        let (first, handshake) = opening.unwrap_or(Err(Dismissal::TimedOut))?;
        visit.facts.tls = handshake.as_ref().map(Handshake::facts);
        let message = match first {
            FirstPacket::Startup(message) => message,
            FirstPacket::Cancel { pid, secret } => {
                visit.ledger = self.parts.auditor.open(visit.facts.clone());
                self.cancel(visit, pid, &secret).await;
                return Err(Dismissal::ClientLeft);
            }
            FirstPacket::GssEnc | FirstPacket::Ssl => return Err(Dismissal::ClientLeft),
        };
        learn(&mut visit.facts, &message);
        if matches!(self.parts.auth, Auth::Passthrough) {
            visit.facts.method = AuthMethod::Passthrough;
        }
        visit.ledger = self.parts.auditor.open(visit.facts.clone());
        let mut pinned = PinnedStartup::rebuild(&message, &*self.parts.settings)?;
        if place == Place::Standing {
            return Err(Dismissal::Full);
        }
        let entry = Entry::plain(Kind::SessionOpen, Decision::Allow, "start-up packet taken");
        visit.ledger.record(&entry).map_err(|AuditUnavailable| Dismissal::Unrecorded)?;
        visit.opened = Opened::Yes;
        let handshake = handshake.as_ref();
        let auth = &self.parts.auth;
        let method = auth.identify(&mut visit.client, &message, &mut pinned, handshake).await?;
        if !matches!(auth, Auth::Passthrough) {
            visit.facts.method = method;
            visit.facts.user = Some(pinned.user.clone());
            visit.ledger = self.parts.auditor.open(visit.facts.clone());
        }
        let (server, logged_in) = self.log_in(visit, &message, &pinned, handshake).await?;
        let principal = visit.facts.principal.as_deref().unwrap_or_default();
        let seat = self.principals.seat(principal).ok_or(Dismissal::FullForPrincipal)?;
        self.judge_posture(visit, &pinned, &logged_in.posture)?;
        Ok((server, logged_in, seat))
    }

    /// Forwards a cancel request if its key is ours. The client never learns whether it was.
    async fn cancel(&self, visit: &mut Visit, pid: u32, secret: &[u8]) {
        match self.cancellers.hear(&visit.peer) {
            Hearing::Heard => {}
            Hearing::Unheard => return,
            Hearing::UnheardAndNoted => {
                let entry = Entry {
                    reason: Some(Reason::LimitRate),
                    rule: Some("limits"),
                    upstream_contacted: Some(false),
                    ..Entry::plain(Kind::LimitHit, Decision::Deny, "cancel requests not heard")
                };
                visit.ledger.follow_up(&entry);
                return;
            }
        }
        let found = self.parts.keys.find(pid, secret);
        let entry = match &found {
            Some(_) => Entry::plain(Kind::DbCancel, Decision::Allow, "cancel request forwarded"),
            None => Entry::plain(Kind::DbCancel, Decision::None, "cancel request for no session"),
        };
        let recorded = visit.ledger.record(&entry);
        if let (Some(target), Ok(_)) = (found, recorded) {
            cancel_at(&target).await;
        }
    }

    async fn log_in(
        &self,
        visit: &mut Visit,
        message: &StartupMessage,
        pinned: &PinnedStartup,
        handshake: Option<&Handshake>,
    ) -> Result<(Wire<Stream>, LoggedIn), Dismissal> {
        let dialer = self.parts.dialer.as_ref();
        let connected = self.parts.upstream.connect(dialer.map(Arc::as_ref)).await;
        let (stream, address) = connected.map_err(|error| {
            let cause = error.source().map(ToString::to_string);
            tracing::warn!(%error, cause, "a client was turned away");
            Dismissal::ServerDown
        })?;
        let means = self.parts.auth.means(&stream, address, dialer.map(Arc::as_ref), handshake);
        let mut server = Wire::new(stream);
        server.send(&pinned.encode()).await.map_err(|_| Dismissal::ServerDown)?;
        let login = Login {
            client: &mut visit.client,
            server: &mut server,
            negotiation: Negotiation::new(message, pinned),
            keys: &self.parts.keys,
            address,
            catalogs: &self.parts.catalogs,
            database: visit.facts.database.as_deref().unwrap_or_default(),
            dialer,
            means,
        };
        let logged_in = login.run().await?;
        Ok((server, logged_in))
    }

    /// Holds what the server said about the session against the policy, and records the login.
    fn judge_posture(
        &self,
        visit: &mut Visit,
        pinned: &PinnedStartup,
        posture: &Posture,
    ) -> Result<(), Dismissal> {
        if !searches_catalog_first(&posture.search_path) {
            return Err(if pinned.sets("search_path") {
                Dismissal::ClientSearchPath
            } else {
                Dismissal::RoleSearchPath
            });
        }
        let powers = posture.powers.join(", ");
        let message = if powers.is_empty() {
            "logged in".to_owned()
        } else if self.parts.posture == PosturePolicy::Refuse {
            return Err(Dismissal::Powers(powers));
        } else {
            tracing::warn!(
                user = pinned.user,
                powers,
                "a role holds powers that reads do not need"
            );
            format!("logged in; the role holds powers that reads do not need: {powers}")
        };
        let entry = Entry {
            reason: (!powers.is_empty()).then_some(Reason::Posture),
            ..Entry::plain(Kind::SessionAuth, Decision::Allow, &message)
        };
        visit.ledger.record(&entry).map(drop).map_err(|AuditUnavailable| Dismissal::Unrecorded)
    }

    async fn pump_to_end(&self, conversation: &mut Conversation) -> End {
        let Conversation { pump, ledger, target, judge, .. } = conversation;
        let mut stopper = Stopper::new(target);
        let mut lookout = judge.lookout(self.parts.limits.catalog_age);
        let mut stage = self.stage.subscribe();
        stage.mark_changed();
        loop {
            let moving = poll_fn(|context| {
                let mut ports = Ports { judge: &mut *judge, ledger: &mut **ledger };
                pump.poll_with(&mut stopper, context, &mut ports)
            });
            tokio::select! {
                biased;
                end = moving => return end,
                // The sender lives in this very gate.
                _ = stage.changed() => {}
                () = lookout.due() => {
                    if let Some(end) = lookout.look_on(pump).await {
                        return end;
                    }
                }
            }
            match *stage.borrow_and_update() {
                Stage::Open => {}
                Stage::Draining => pump.end_when_idle(),
                Stage::Closing => return End::ShutDown,
            }
        }
    }
}

impl Conversation {
    /// Ends the session: what the server is still doing for it is cancelled, the client hears why.
    async fn close(self: Box<Self>, end: End) {
        let Self { pump, mut ledger, key, target, judge: _ } = *self;
        let (last_word, recorded) = settle(end, &mut *ledger);
        let needs_cancel = pump.is_busy() && !matches!(end, End::ServerLeft | End::ServerRefused);
        let (closed, server_left) = oneshot::channel::<()>();
        let close = async {
            pump.close(end, last_word.as_ref()).await;
            drop(closed);
        };
        let cancel = async {
            if needs_cancel {
                cancel_until(&target, server_left).await;
            }
        };
        tokio::join!(cancel, close);
        // From here on nobody can cancel what is no more.
        drop(key);
        ledger.follow_up(&Entry::plain(Kind::SessionClose, Decision::None, recorded));
    }
}

/// Cancels until the server has left.
async fn cancel_until(target: &CancelTarget, mut server_left: oneshot::Receiver<()>) {
    loop {
        cancel_at(target).await;
        if tokio::time::timeout(CANCEL_AGAIN, &mut server_left).await.is_ok() {
            return;
        }
    }
}

pub(super) async fn cancel_at(target: &CancelTarget) {
    if let Err(error) = target.cancel().await {
        tracing::warn!(%error, "a cancel request did not reach the server");
    }
}

async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        note_panic(ended);
    }
}

/// A task that panicked took its connection with it; somebody must look into it.
fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a fault of the gate");
    }
}
