//! What `rowarden serve` runs: the audit log is opened, the gate is put together, and both are kept
//! until the signal to stop.

use std::sync::Arc;

use crate::audit::event::{AuditUnavailable, Decision, Entry, Kind};
use crate::audit::log::{AuditLog, AuditSettings};
use crate::cli::serve::{Ready, with_cause};
use crate::cli::{Exit, complain};
use crate::config::AuditConfig;
use crate::listen::Listener;
use crate::policy::file::Policy;
use crate::postgres::cancel::CancelKeys;
use crate::postgres::catalogs::Catalogs;
use crate::postgres::gate::{Gate, Parts};

/// Runs the gate until `ready.stop`. Nothing is served before the start is in the log.
pub(super) async fn run(ready: Ready) -> Exit {
    let Ready { config, policy, access, listeners, stop, mut reload } = ready;
    let policy = Arc::new(policy);
    let log = match AuditLog::open(audit_settings(config.audit, &policy)) {
        Ok(log) => Arc::new(log),
        Err(error) => {
            complain(&with_cause(&error));
            return Exit::Failed;
        }
    };
    let start = format!("listening on {}", addresses(&listeners));
    if record_start(&log, &start).is_err() {
        complain("the audit log cannot be written");
        return Exit::Failed;
    }
    tracing::info!(policy = policy.id(), "{start}");
    let parts = Parts {
        entrance: access.entrance(),
        dialer: access.dialer(),
        auth: access.auth(),
        upstream: config.postgres.upstream,
        keys: Arc::new(CancelKeys::default()),
        posture: policy.posture,
        catalogs: Arc::new(Catalogs::new(Arc::clone(&policy))),
        limits: policy.limits.clone(),
        settings: policy,
        auditor: Arc::new(Arc::clone(&log)),
        max_connections: config.postgres.max_connections,
    };
    let read_again = async {
        while reload.recv().await.is_some() {
            access.reload(&log);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = Arc::new(Gate::new(parts)).run(listeners, stop) => {}
        () = read_again => {}
    }
    let end = Entry::plain(Kind::GateStop, Decision::None, "stopped");
    if log.record(&end).is_err() {
        complain("the end could not be written into the audit log");
        return Exit::Failed;
    }
    tracing::info!("stopped");
    Exit::Good
}

fn record_start(log: &AuditLog, start: &str) -> Result<(), AuditUnavailable> {
    log.record(&Entry::plain(Kind::GateStart, Decision::None, start))?;
    log.record(&Entry::plain(Kind::PolicyLoaded, Decision::None, "policy in force"))?;
    Ok(())
}

fn audit_settings(audit: AuditConfig, policy: &Policy) -> AuditSettings {
    AuditSettings {
        dir: audit.dir,
        mode: audit.mode,
        sql: audit.sql,
        gate_name: "postgres".to_owned(),
        policy_id: policy.id().to_owned(),
        policy_name: policy.name().to_owned(),
        keeping: audit.keeping,
    }
}

/// The addresses as bound: port 0 has become a real one.
fn addresses(listeners: &[Listener]) -> String {
    let bound = listeners.iter().filter_map(|listener| listener.local_address().ok());
    let names: Vec<String> = bound.map(|address| address.to_string()).collect();
    names.join(", ")
}
