//! What `rowarden serve` runs: the audit log is opened, the gates are put together, and all are kept
//! until the signal to stop.

use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::audit::event::{AuditUnavailable, Auditor, Decision, Entry, Kind};
use crate::audit::log::{AuditLog, AuditSettings};
use crate::cli::access::Access;
use crate::cli::serve::{Ready, with_cause};
use crate::cli::site::Site;
use crate::cli::{Exit, complain};
use crate::config::{AuditConfig, PostgresConfig};
use crate::jira::gate::Gate as JiraGate;
use crate::listen::Listener;
use crate::policy::file::Policy;
use crate::postgres::cancel::CancelKeys;
use crate::postgres::catalogs::Catalogs;
use crate::postgres::gate::{Gate, Parts};

/// Runs the gates until `ready.stop`. Nothing is served before the start is in the log.
pub(super) async fn run(ready: Ready) -> Exit {
    let Ready { config, policy, access, site, postgres, jira, stop, mut reload } = ready;
    let (name, id) = rules_in_force(policy.as_ref(), site.as_ref());
    let log = match AuditLog::open(audit_settings(config.audit, name, id.clone())) {
        Ok(log) => Arc::new(log),
        Err(error) => {
            complain(&with_cause(&error));
            return Exit::Failed;
        }
    };
    let start = format!("listening on {}", addresses(postgres.iter().chain(&jira)));
    if record_start(&log, &start).is_err() {
        complain("the audit log cannot be written");
        return Exit::Failed;
    }
    tracing::info!(policy = id, "{start}");
    let stopping = watch::Sender::new(false);
    let stopped = |mut receiver: watch::Receiver<bool>| async move {
        // The sender lives until all gates have ended.
        let _ = receiver.wait_for(|stopping| *stopping).await;
    };
    let auditor: Arc<dyn Auditor> = Arc::new(Arc::clone(&log));
    let rules = config.postgres.zip(policy).zip(access.as_ref());
    let gate = rules.map(|((config, policy), access)| {
        postgres_gate(config, access, Arc::new(policy), Arc::clone(&auditor))
    });
    let site = site.map(|site| JiraGate::new(site.parts(&jira, auditor)));
    let read_again = async {
        while reload.recv().await.is_some() {
            if let Some(access) = &access {
                access.reload(&log);
            }
        }
        std::future::pending::<()>().await;
    };
    let serving = async {
        tokio::join!(
            async {
                stop.await;
                stopping.send_replace(true);
            },
            async {
                if let Some(gate) = gate {
                    Arc::new(gate).run(postgres, stopped(stopping.subscribe())).await;
                }
            },
            async {
                if let Some(gate) = site {
                    Arc::new(gate).run(jira, stopped(stopping.subscribe())).await;
                }
            },
        );
    };
    tokio::select! {
        () = serving => {}
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

fn postgres_gate(
    config: PostgresConfig,
    access: &Access,
    policy: Arc<Policy>,
    auditor: Arc<dyn Auditor>,
) -> Gate {
    Gate::new(Parts {
        entrance: access.entrance(),
        dialer: access.dialer(),
        auth: access.auth(),
        upstream: config.upstream,
        keys: Arc::new(CancelKeys::default()),
        posture: policy.posture,
        catalogs: Arc::new(Catalogs::new(Arc::clone(&policy))),
        limits: policy.limits.clone(),
        settings: policy,
        auditor,
        max_connections: config.max_connections,
    })
}

fn record_start(log: &AuditLog, start: &str) -> Result<(), AuditUnavailable> {
    log.record(&Entry::plain(Kind::GateStart, Decision::None, start))?;
    log.record(&Entry::plain(Kind::PolicyLoaded, Decision::None, "policy in force"))?;
    Ok(())
}

/// Name and id of the rules of all gates. The id is the policy's own where there is only SQL to judge,
/// and else a hash of all texts and open groups.
pub(super) fn rules_in_force(policy: Option<&Policy>, site: Option<&Site>) -> (String, String) {
    let name = policy.map_or("jira", Policy::name).to_owned();
    let id = policy.map_or("", Policy::id);
    let Some(site) = site else { return (name, id.to_owned()) };
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    add(id);
    site.policy().texts().for_each(&mut add);
    site.open_groups().for_each(&mut add);
    let id = hash.finalize().iter().fold("sha256:".to_owned(), |mut id, byte| {
        // Writing to a text cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    });
    (name, id)
}

fn audit_settings(audit: AuditConfig, policy_name: String, policy_id: String) -> AuditSettings {
    AuditSettings {
        dir: audit.dir,
        mode: audit.mode,
        sql: audit.sql,
        gate_name: "rowarden".to_owned(),
        policy_id,
        policy_name,
        keeping: audit.keeping,
    }
}

/// The addresses as bound: port 0 has become a real one.
fn addresses<'l>(listeners: impl Iterator<Item = &'l Listener>) -> String {
    let bound = listeners.filter_map(|listener| listener.local_address().ok());
    let names: Vec<String> = bound.map(|address| address.to_string()).collect();
    names.join(", ")
}
