//! Who is let in: certificates, read before the gates start and again on SIGHUP.

use std::sync::Arc;

use crate::audit::event::{Decision, Entry, Kind};
use crate::audit::log::AuditLog;
use crate::cli::serve::with_cause;
use crate::config::PostgresConfig;
use crate::listen::tls::{TlsDoor, TlsError};
use crate::postgres::entrance::{Entrance, PROTOCOL, TlsDemand};

/// What the configuration's files say about who is let in.
pub struct Access {
    tls: Option<(TlsDemand, Arc<TlsDoor>)>,
}

impl Access {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(super) fn load(config: &PostgresConfig) -> Result<Self, TlsError> {
        let tls = match &config.tls {
            None => None,
            Some(tls) => {
                let door = TlsDoor::open(tls.files.clone(), &[PROTOCOL])?;
                Some((tls.demand, Arc::new(door)))
            }
        };
        Ok(Self { tls })
    }

    /// The way in for clients.
    pub(super) fn entrance(&self) -> Entrance {
        match &self.tls {
            None => Entrance::default(),
            Some((demand, door)) => Entrance::default().with_tls(*demand, Arc::clone(door)),
        }
    }

    /// Reads the files again. One that cannot be used changes nothing; either is recorded.
    pub(super) fn reload(&self, log: &AuditLog) {
        if let Some((_, door)) = &self.tls {
            note(log, door.reload(), "certificates");
        }
    }
}

fn note(log: &AuditLog, outcome: Result<(), TlsError>, what: &str) {
    let (decision, message) = match outcome {
        Ok(()) => {
            tracing::info!("{what} read again");
            (Decision::None, format!("{what} read again"))
        }
        Err(error) => {
            tracing::error!(error = with_cause(&error), "{what} stay as they were");
            (Decision::Error, format!("{what} could not be read again and stay as they were"))
        }
    };
    if log.record(&Entry::plain(Kind::CertReloaded, decision, &message)).is_err() {
        tracing::error!("a reload could not be written into the audit log");
    }
}
