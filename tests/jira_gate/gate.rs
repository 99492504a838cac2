//! The gate under test, in this process: the real one between real sockets, with the real judge and
//! the real audit log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rowarden::audit::event::Auditor;
use rowarden::audit::log::{AuditLog, AuditSettings, Keeping, Mode};
use rowarden::audit::redact::SqlText;
use rowarden::jira::access::Access;
use rowarden::jira::doorway::Patience;
use rowarden::jira::gate::{Gate, Parts};
use rowarden::jira::limits::{Budgets, Limits};
use rowarden::jira::request::Names;
use rowarden::jira::rewrite::SiteNames;
use rowarden::jira::site::SiteUrl;
use rowarden::jira::upstream::Upstream;
use rowarden::listen::tls::{TlsDemand, TlsDoor};
use rowarden::listen::{Address, Listener};
use rowarden::policy::jira::table::JiraPolicy;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::site::Site;
use crate::support::gate::Trail;

/// What the gate calls itself in answers.
pub(crate) const PUBLIC: &str = "http://gate.test";

/// A gate before it listens.
pub(crate) struct GateSetup {
    upstream: SiteUrl,
    authorities: Option<PathBuf>,
    answer_time: Duration,
    access: Access,
    limits: Limits,
    patience: Patience,
    tls: Option<(TlsDemand, Arc<TlsDoor>)>,
    max_connections: usize,
    auditor: Option<Arc<dyn Auditor>>,
}

impl GateSetup {
    /// A gate before this site that passes the clients' credentials on.
    pub(crate) fn before(site: &Site) -> Self {
        Self::before_url(&format!("http://127.0.0.1:{}", site.port()))
    }

    /// The same before a site by its URL.
    pub(crate) fn before_url(url: &str) -> Self {
        Self {
            upstream: url.parse().unwrap(),
            authorities: None,
            answer_time: Duration::from_mins(1),
            access: Access::Passthrough,
            limits: Limits::default(),
            patience: Patience::default(),
            tls: None,
            max_connections: 1000,
            auditor: None,
        }
    }

    /// A gate that holds the credential `Bearer of-the-site`.
    pub(crate) fn lending_to(mut self, clients: &str) -> Self {
        self.access = Access::held("Bearer of-the-site", clients).unwrap();
        self
    }

    pub(crate) fn trusting(mut self, authorities: PathBuf) -> Self {
        self.authorities = Some(authorities);
        self
    }

    pub(crate) const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) const fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    pub(crate) const fn waiting_for_answers(mut self, time: Duration) -> Self {
        self.answer_time = time;
        self
    }

    pub(crate) const fn with_room_for(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    pub(crate) fn encrypting(mut self, demand: TlsDemand, door: Arc<TlsDoor>) -> Self {
        self.tls = Some((demand, door));
        self
    }

    pub(crate) fn recording_by(mut self, auditor: Arc<dyn Auditor>) -> Self {
        self.auditor = Some(auditor);
        self
    }

    /// Lets clients in. The gate answers to `gate.test`.
    pub(crate) fn start(self) -> LiveGate {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let loopback = Address::Tcp(([127, 0, 0, 1], 0).into());
        let listener = runtime.block_on(Listener::bind(&loopback)).unwrap();
        let Address::Tcp(address) = listener.local_address().unwrap() else { unreachable!() };
        let folder = tempfile::tempdir().unwrap();
        let audit = folder.path().join("audit");
        let auditor = self.auditor.unwrap_or_else(|| Arc::new(open_log(&audit)));
        let site = vec![self.upstream.clone(), "https://jira.internal".parse().unwrap()];
        let upstream = Upstream::new(self.upstream.clone(), self.authorities).unwrap();
        let parts = Parts {
            tls: self.tls,
            upstream: Arc::new(upstream.with_answer_time(self.answer_time)),
            access: self.access,
            hosts: Names::new(["gate.test".to_owned()], self.upstream),
            site_names: Arc::new(SiteNames::new(site, &PUBLIC.parse().unwrap())),
            policy: Arc::new(JiraPolicy::shipped().unwrap()),
            budgets: Arc::new(Budgets::new(self.limits)),
            auditor,
            patience: self.patience,
            max_connections: self.max_connections,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let gate = runtime.spawn(async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            Arc::new(Gate::new(parts)).run(vec![listener], stopped).await;
        });
        LiveGate { address, audit, running: Some((runtime, gate, stop)), _folder: folder }
    }
}

fn open_log(folder: &std::path::Path) -> Arc<AuditLog> {
    let settings = AuditSettings {
        dir: folder.to_owned(),
        mode: Mode::Written,
        sql: SqlText::Full,
        gate_name: "jira".to_owned(),
        policy_id: "sha256:00".to_owned(),
        policy_name: "jira".to_owned(),
        keeping: Keeping::default(),
    };
    Arc::new(AuditLog::open(settings).unwrap())
}

/// A gate that takes clients until it is dropped.
pub(crate) struct LiveGate {
    address: SocketAddr,
    audit: PathBuf,
    running: Option<(Runtime, JoinHandle<()>, oneshot::Sender<()>)>,
    _folder: TempDir,
}

impl LiveGate {
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
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
        if let Some((runtime, gate, stop)) = self.running.take() {
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
