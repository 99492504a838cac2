//! The gate under test, in this process: the real one between a real listener and a real server,
//! with the real judge and the real audit log.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rowarden::audit::event::Auditor;
use rowarden::audit::files;
use rowarden::audit::log::{AuditLog, AuditSettings, Keeping, Mode};
use rowarden::audit::redact::SqlText;
use rowarden::audit::schema;
use rowarden::demo::cluster::Cluster;
use rowarden::dial::TlsDialer;
use rowarden::listen::{Address, Listener};
use rowarden::policy::file::{Policy, PosturePolicy};
use rowarden::policy::limits::Limits;
use rowarden::postgres::cancel::CancelKeys;
use rowarden::postgres::catalogs::Catalogs;
use rowarden::postgres::entrance::Entrance;
use rowarden::postgres::gate::{Gate, Parts};
use rowarden::postgres::identity::Auth;
use rowarden::postgres::upstream::{Upstream, UpstreamAddress};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The port in the name of the gate's unix socket.
pub(crate) const SOCKET_PORT: u16 = 6432;

/// A gate before it listens.
pub(crate) struct GateSetup {
    upstream: Vec<UpstreamAddress>,
    listen: Option<Address>,
    max_connections: usize,
    posture: PosturePolicy,
    limits: Limits,
    auditor: Option<Arc<dyn Auditor>>,
    entrance: Entrance,
    dialer: Option<Arc<TlsDialer>>,
    auth: Auth,
    audit: PathBuf,
    keeping: Keeping,
    folder: TempDir,
}

impl GateSetup {
    /// A gate before a server that is tried at these places, on a loopback port.
    pub(crate) fn before(upstream: &[UpstreamAddress]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            upstream: upstream.to_vec(),
            listen: None,
            max_connections: 100,
            posture: PosturePolicy::Warn,
            limits: Limits::default(),
            auditor: None,
            entrance: Entrance::default(),
            dialer: None,
            auth: Auth::Passthrough,
            audit: folder.path().join("audit"),
            keeping: Keeping::default(),
            folder,
        }
    }

    /// On a unix socket instead.
    pub(crate) fn on_a_unix_socket(mut self) -> Self {
        let name = format!(".s.PGSQL.{SOCKET_PORT}");
        self.listen = Some(Address::Unix(self.folder.path().join(name)));
        self
    }

    /// With room for so many sessions.
    pub(crate) fn with_room_for(mut self, sessions: usize) -> Self {
        self.max_connections = sessions;
        self
    }

    /// With these limits on what one client may use.
    pub(crate) fn limited_to(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Roles with powers are turned away.
    pub(crate) fn refusing_powers(mut self) -> Self {
        self.posture = PosturePolicy::Refuse;
        self
    }

    /// With the audit log in this folder.
    pub(crate) fn recording_in(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.audit);
        self
    }

    /// With this way in.
    pub(crate) fn entered_by(mut self, entrance: Entrance) -> Self {
        self.entrance = entrance;
        self
    }

    /// Speaking TLS to the server.
    pub(crate) fn dialing_by(mut self, dialer: TlsDialer) -> Self {
        self.dialer = Some(Arc::new(dialer));
        self
    }

    /// Checking clients itself.
    pub(crate) fn checking_by(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Kept in this way.
    pub(crate) fn keeping(mut self, keeping: Keeping) -> Self {
        self.keeping = keeping;
        self
    }

    /// With another audit log.
    pub(crate) fn recording_by(mut self, auditor: Arc<dyn Auditor>) -> Self {
        self.auditor = Some(auditor);
        self
    }

    /// Lets clients in.
    pub(crate) fn start(self) -> LiveGate {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let builder = builder.worker_threads(2).enable_all().thread_stack_size(64 << 20);
        let runtime = builder.build().unwrap();
        let loopback = Address::Tcp(([127, 0, 0, 1], 0).into());
        let listen = self.listen.clone().unwrap_or(loopback);
        let listener = runtime.block_on(Listener::bind(&listen)).unwrap();
        let address = listener.local_address().unwrap();
        let inside = runtime.enter();
        let (parts, audit, folder) = self.into_parts();
        drop(inside);
        let (stop, stopped) = oneshot::channel::<()>();
        let gate = runtime.spawn(async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            Arc::new(Gate::new(parts)).run(vec![listener], stopped).await;
        });
        let running = Some(Running { runtime, gate, stop });
        LiveGate { address, audit, running, _folder: folder }
    }

    /// What the gate is made of, its audit folder, and what keeps that.
    pub(crate) fn into_parts(self) -> (Parts, PathBuf, TempDir) {
        let policy = Arc::new(Policy::shipped().unwrap());
        let auditor =
            self.auditor.unwrap_or_else(|| Arc::new(open_log(&self.audit, self.keeping, &policy)));
        let parts = Parts {
            entrance: self.entrance,
            dialer: self.dialer,
            auth: self.auth,
            upstream: Upstream { addresses: self.upstream },
            keys: Arc::new(CancelKeys::default()),
            posture: self.posture,
            catalogs: Arc::new(Catalogs::new(Arc::clone(&policy))),
            limits: self.limits,
            settings: policy,
            auditor,
            max_connections: self.max_connections,
        };
        (parts, self.audit, self.folder)
    }
}

fn open_log(folder: &Path, keeping: Keeping, policy: &Policy) -> Arc<AuditLog> {
    let settings = AuditSettings {
        dir: folder.to_owned(),
        mode: Mode::Written,
        sql: SqlText::Full,
        gate_name: "postgres".to_owned(),
        policy_id: policy.id().to_owned(),
        policy_name: policy.name().to_owned(),
        keeping,
    };
    Arc::new(AuditLog::open(settings).unwrap())
}

struct Running {
    runtime: Runtime,
    gate: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

/// A gate that takes clients until it is dropped.
pub(crate) struct LiveGate {
    address: Address,
    audit: PathBuf,
    running: Option<Running>,
    _folder: TempDir,
}

impl LiveGate {
    /// Where it listens.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// Tasks of the gate that are alive: its doors, and one for each connection.
    pub(crate) fn tasks(&self) -> usize {
        let running = self.running.as_ref().unwrap();
        running.runtime.handle().metrics().num_alive_tasks()
    }

    /// What is in the audit log by now. A verdict is there before it is acted on.
    pub(crate) fn trail(&self) -> Trail {
        Trail::read(&self.audit)
    }

    /// Stops the gate and returns all that it has written down.
    pub(crate) fn stop(mut self) -> Trail {
        self.end();
        self.trail()
    }

    fn end(&mut self) {
        if let Some(Running { runtime, gate, stop }) = self.running.take() {
            // If nobody hears it, the gate has ended by a panic, which the next line tells.
            let _ = stop.send(());
            runtime.block_on(gate).unwrap();
        }
    }
}

impl Drop for LiveGate {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

/// The lines of an audit log.
pub(crate) struct Trail(pub(crate) Vec<Value>);

impl Trail {
    /// Reads a folder, and sees that every line is whole and that no number is missing.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut lines: Vec<Value> = Vec::new();
        for segment in files::segments(folder).unwrap() {
            let read = segment.read(|piece| {
                assert!(piece.ends_with(b"\n"), "torn: {}", String::from_utf8_lossy(piece));
                let text = std::str::from_utf8(piece).unwrap();
                lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
                ControlFlow::<()>::Continue(())
            });
            assert!(read.unwrap().is_continue());
        }
        for (number, line) in lines.iter().enumerate() {
            assert_eq!(line["seq"], number, "{line}");
            assert_eq!(schema::fault_of(line), None, "{line}");
        }
        Self(lines)
    }

    /// The lines of a kind.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|line| line["kind"] == kind).collect()
    }

    /// The kinds, with the decisions and reasons, of all lines in order.
    pub(crate) fn outline(&self) -> Vec<String> {
        let word = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
        let outline = |line| ["kind", "decision", "reason"].map(|key| word(line, key)).join(" ");
        self.0.iter().map(outline).collect()
    }

    /// The line of this event.
    pub(crate) fn event(&self, id: &str) -> &Value {
        self.0.iter().find(|line| line["id"] == id).unwrap_or_else(|| panic!("no event {id}"))
    }
}

/// Where this cluster's socket is, for a gate.
pub(crate) fn socket_of(cluster: &Cluster) -> UpstreamAddress {
    UpstreamAddress::Unix(cluster.socket())
}
