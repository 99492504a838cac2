//! The catalogs of the databases behind the gate, read once for each state and shared by all
//! sessions, and the judge that a session asks.
//!
//! A login finds out whether its database has changed, reads it if so, and from then on every session
//! of that database is judged by the new state. Verdicts are kept for one state and one reach of the
//! search path, and dropped with them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::policy::catalog::facts::{Facts, Item, Oid};
use crate::policy::catalog::{Catalog, Reach};
use crate::policy::file::Policy;
use crate::policy::reason::Reason;
use crate::policy::sql::JudgedSql;
use crate::policy::sql::proof::prove;
use crate::policy::sql::setting::split_path;
use crate::policy::verdict::{Denial, Verdict};
use crate::postgres::catalog::{Standing, facts_question, learn, revision_question};
use crate::postgres::dismissal::Dismissal;
use crate::postgres::frame::{ProtocolViolation, next_server_frame};
use crate::postgres::pump::{End, Pump};
use crate::postgres::session::Judge;
use crate::postgres::verdicts::Verdicts;
use crate::postgres::wire::Wire;

/// Reaches of one database for which verdicts are kept at the same time: 32. Sessions of one
/// application share theirs; who sets many search paths starts anew.
const MAX_REACHES: usize = 32;

/// How long a session that was busy is left alone before it is asked to look again: 1 s.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The databases behind a gate.
pub struct Catalogs {
    policy: Arc<Policy>,
    databases: Mutex<HashMap<String, Arc<Database>>>,
}

/// One database.
struct Database {
    policy: Arc<Policy>,
    known: RwLock<Arc<Known>>,
    looked: Mutex<Instant>,
    /// The last stamp given to a memory of verdicts.
    stamps: AtomicU64,
    /// Held by the login that reads the catalog; the others of the same moment wait for it.
    reading: tokio::sync::Mutex<()>,
}

/// One state of a database.
struct Known {
    catalog: Arc<Catalog>,
    memories: Mutex<HashMap<Reach, Arc<Verdicts>>>,
}

impl Catalogs {
    /// No database is known yet.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { policy, databases: Mutex::default() }
    }

    /// Finds out on a session that has just logged in what its database holds, and makes the judge of
    /// that session. Not cancel-safe.
    ///
    /// # Errors
    /// When the server does not answer as expected: then there is no session.
    pub async fn judge_for<S>(
        &self,
        database: &str,
        server: &mut Wire<S>,
        for_client: &mut Vec<u8>,
    ) -> Result<SessionJudge, Dismissal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let database = self.database(database);
        let mut asides = Asides { messages: for_client, reports: Reports::Refuse };
        let standing = database.look(server, &mut asides).await?;
        let searched = split_path(&standing.search_path).ok_or(Dismissal::CatalogUnread)?;
        let schemas = searched.into_iter().chain([standing.user]).collect();
        Ok(SessionJudge::new(database, Reach::Schemas(schemas)))
    }

    fn database(&self, name: &str) -> Arc<Database> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        let database = databases.entry(name.to_owned()).or_insert_with(|| {
            let known = Known { catalog: Arc::default(), memories: Mutex::default() };
            Arc::new(Database {
                policy: Arc::clone(&self.policy),
                known: RwLock::new(Arc::new(known)),
                looked: Mutex::new(Instant::now()),
                stamps: AtomicU64::default(),
                reading: tokio::sync::Mutex::default(),
            })
        });
        Arc::clone(database)
    }
}

/// What the server says between the rows of an answer.
struct Asides<'a> {
    messages: &'a mut Vec<u8>,
    reports: Reports,
}

/// Whether a changed setting may be reported among them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reports {
    /// The session is told: a pin may be what has changed.
    Keep,
    /// Not at a login, whose reports have been read.
    Refuse,
}

/// Asks a question and hands each row on. An error is not passed on, for the client has asked nothing.
async fn ask<S>(
    server: &mut Wire<S>,
    question: &[u8],
    asides: &mut Asides<'_>,
    on_row: &mut (dyn FnMut(&[u8]) -> Option<()> + Send),
) -> Result<(), Dismissal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    server.send(question).await.map_err(|_| Dismissal::ServerDown)?;
    let mut answered = Answered::Whole;
    loop {
        let Some(message) = server.take(next_server_frame)? else {
            server.more().await.map_err(|_| Dismissal::ServerDown)?;
            continue;
        };
        match message.kind {
            b'D' => {
                if on_row(message.body()).is_none() {
                    answered = Answered::Not;
                }
            }
            b'T' | b'C' => {}
            b'N' | b'A' => asides.messages.extend_from_slice(&message.raw),
            b'S' if asides.reports == Reports::Keep => {
                asides.messages.extend_from_slice(&message.raw);
            }
            b'E' => answered = Answered::Not,
            b'Z' => break,
            _ => return Err(ProtocolViolation::UnexpectedAnswer.into()),
        }
    }
    match answered {
        Answered::Whole => Ok(()),
        Answered::Not => Err(Dismissal::CatalogUnread),
    }
}

/// Whether an answer can be relied on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answered {
    Not,
    Whole,
}

impl Database {
    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks whether anything has changed, and reads the catalog if so.
    async fn look<S>(
        &self,
        server: &mut Wire<S>,
        asides: &mut Asides<'_>,
    ) -> Result<Standing, Dismissal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let asked = Instant::now();
        let mut standing = None;
        ask(server, &revision_question(), asides, &mut |row| {
            standing = Standing::read(row);
            standing.as_ref().map(drop)
        })
        .await?;
        let standing = standing.ok_or(Dismissal::CatalogUnread)?;
        if self.revision() != standing.revision {
            let _reading = self.reading.lock().await;
            // Another session may have read it meanwhile.
            if self.revision() != standing.revision {
                let mut facts = Facts::default();
                ask(server, &facts_question(), asides, &mut |row| learn(&mut facts, row).ok())
                    .await?;
                self.replace(prove(&self.policy, standing.revision.clone(), facts));
            }
        }
        self.set_looked(asked);
        Ok(standing)
    }

    fn looked(&self) -> Instant {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_looked(&self, when: Instant) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = when;
    }

    fn revision(&self) -> String {
        self.known().catalog.revision().to_owned()
    }

    fn replace(&self, catalog: Catalog) {
        let known = Known { catalog: Arc::new(catalog), memories: Mutex::default() };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }

    fn verdicts(&self, known: &Known, reach: &Reach) -> Arc<Verdicts> {
        let mut memories = known.memories.lock().unwrap_or_else(PoisonError::into_inner);
        if memories.len() >= MAX_REACHES && !memories.contains_key(reach) {
            memories.clear();
        }
        let verdicts = memories.entry(reach.clone()).or_insert_with(|| {
            let (policy, catalog) = (Arc::clone(&self.policy), Arc::clone(&known.catalog));
            let stamp = self.stamps.fetch_add(1, Ordering::Relaxed) + 1;
            Arc::new(Verdicts::in_database(policy, catalog, reach.clone(), stamp))
        });
        Arc::clone(verdicts)
    }
}

/// The judge of one session: knows the present state of its database, and where the session may look
/// for names.
pub struct SessionJudge {
    database: Arc<Database>,
    known: Arc<Known>,
    reach: Reach,
    verdicts: Arc<Verdicts>,
    took: Duration,
}

/// Looks at a database again from time to time, on whichever of its sessions is idle then: a session
/// that lasts for days must not be judged by what the database was when it began.
pub struct Lookout {
    database: Arc<Database>,
    age: Duration,
    not_before: Instant,
}

impl Lookout {
    /// Comes when nobody has looked for a while. Cancel-safe.
    pub async fn due(&self) {
        loop {
            let next = (self.database.looked() + self.age).max(self.not_before);
            if next <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(next).await;
        }
    }

    /// Looks if the session is idle now. The end of the session if the server answers nonsense: nobody
    /// knows where it stands then. Not cancel-safe.
    pub async fn look_on<C, S>(&mut self, pump: &mut Pump<C, S>) -> Option<End>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(mut server) = pump.lend_server() else {
            // Another session may be idle, or this one later.
            self.not_before = Instant::now() + TRY_AGAIN;
            return None;
        };
        // Those who wait for the same moment see that somebody is at it.
        self.database.set_looked(Instant::now());
        let mut messages = Vec::new();
        let mut asides = Asides { messages: &mut messages, reports: Reports::Keep };
        match self.database.look(&mut server, &mut asides).await {
            Ok(_) => {
                let unread = server.bytes;
                pump.hear_later(messages, unread);
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a session was ended");
                Some(End::ServerLeft)
            }
        }
    }
}

impl SessionJudge {
    /// Who looks at the database again while the session lasts, when the last look is older than this.
    #[must_use]
    pub fn lookout(&self, age: Duration) -> Lookout {
        Lookout { database: Arc::clone(&self.database), age, not_before: Instant::now() }
    }

    fn new(database: Arc<Database>, reach: Reach) -> Self {
        let known = database.known();
        let verdicts = database.verdicts(&known, &reach);
        Self { database, known, reach, verdicts, took: Duration::ZERO }
    }

    /// Takes the newest state of the database.
    fn catch_up(&mut self) {
        let known = self.database.known();
        if !Arc::ptr_eq(&known, &self.known) {
            self.known = known;
            self.verdicts = self.database.verdicts(&self.known, &self.reach);
        }
    }
}

impl Judge for SessionJudge {
    fn judge(&mut self, text: &[u8]) -> Arc<JudgedSql> {
        let began = Instant::now();
        self.catch_up();
        let judged = self.verdicts.verdict(text);
        if let Verdict::Allow(cleared) = &judged.verdict
            && !cleared.request().searched.is_empty()
        {
            let wider = self.reach.widened(&cleared.request().searched);
            if wider != self.reach {
                self.reach = wider;
                self.verdicts = self.database.verdicts(&self.known, &self.reach);
            }
        }
        self.took += began.elapsed();
        judged
    }

    fn took_ns(&mut self) -> Option<u64> {
        let took = std::mem::take(&mut self.took).as_nanos();
        u64::try_from(took).ok().filter(|took| *took > 0)
    }

    fn stamp(&mut self) -> u64 {
        self.catch_up();
        self.verdicts.stamp()
    }

    fn judge_types(&mut self, types: &[u8]) -> Option<Denial> {
        self.catch_up();
        // How many there are stands before them, in two bytes.
        let (numbers, _) = types.get(2..).unwrap_or_default().as_chunks::<4>();
        let mut numbers = numbers.iter().map(|number| Oid(u32::from_be_bytes(*number)));
        let catalog = &self.known.catalog;
        // What the catalog does not know may be new.
        let suspect = numbers.find(|of| {
            let known = of.is_builtin() || catalog.type_of(*of).is_some();
            !known || catalog.is_suspect(Item::Input(*of))
        })?;
        let name = catalog.type_of(suspect).map_or("of a parameter", |fact| fact.name.as_str());
        Some(Denial::new(Reason::SqlUserCode, format!("type {name}"), "functions.listed"))
    }
}
