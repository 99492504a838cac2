//! Who is let in, and how the gate itself gets in: certificates, users and the gate's own login,
//! read before the gates start; certificates and users again on SIGHUP.

use std::error::Error;
use std::sync::Arc;

use crate::audit::event::{Decision, Entry, Kind};
use crate::audit::log::AuditLog;
use crate::cli::serve::with_cause;
use crate::config::secret::{SecretError, SecretSource};
use crate::config::{AuthConfig, PostgresConfig};
use crate::dial::{DialError, TlsDialer};
use crate::listen::tls::{TlsDemand, TlsDoor, TlsError};
use crate::postgres::credential::Credential;
use crate::postgres::entrance::{Entrance, PROTOCOL};
use crate::postgres::gatekeeper::{Gatekeeper, UsersError};
use crate::postgres::identity::Auth;

/// What the configuration's files say about who is let in.
pub struct Access {
    entrance: Entrance,
    door: Option<Arc<TlsDoor>>,
    dialer: Option<Arc<TlsDialer>>,
    auth: Auth,
    password: Option<SecretSource>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessError {
    #[error(transparent)]
    Certificates(#[from] TlsError),
    #[error(transparent)]
    Server(#[from] DialError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error("`upstream_password`: {0}")]
    Password(#[from] SecretError),
    #[error(
        "somebody in the users file logs in by certificate, which `tls = {{ mode = \"mutual\" }}` \
         asks for and nothing else does"
    )]
    UnaskedCertificates,
}

impl Access {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(super) fn load(config: &PostgresConfig) -> Result<Self, AccessError> {
        let mut entrance = Entrance::default().behind(config.balancers.clone());
        let mut door = None;
        if let Some(tls) = &config.tls {
            let opened = Arc::new(TlsDoor::open(tls.files.clone(), &[PROTOCOL])?);
            entrance = entrance.with_tls(tls.demand, Arc::clone(&opened));
            door = Some(opened);
        }
        let dialer = config.upstream_tls.as_ref().map(TlsDialer::open).transpose()?;
        let password = match &config.auth {
            AuthConfig::Passthrough => None,
            AuthConfig::Users { upstream_password, .. } => upstream_password.clone(),
        };
        let auth = auth(config, password.as_ref())?;
        Ok(Self { entrance, door, dialer: dialer.map(Arc::new), auth, password })
    }

    /// The way in for clients.
    pub(super) fn entrance(&self) -> Entrance {
        self.entrance.clone()
    }

    /// What encrypts the way to the server.
    pub(super) fn dialer(&self) -> Option<Arc<TlsDialer>> {
        self.dialer.clone()
    }

    /// Who decides who a client is.
    pub(super) fn auth(&self) -> Auth {
        self.auth.clone()
    }

    /// Reads certificates, users and the gate's own password again. A file that cannot be used
    /// changes nothing; either is recorded.
    pub(super) fn reload(&self, log: &AuditLog) {
        if let Some(door) = &self.door {
            note(log, Kind::CertReloaded, door.reload(), "certificates");
        }
        if let Some(dialer) = &self.dialer {
            note(log, Kind::CertReloaded, dialer.reload(), "certificates towards the server");
        }
        if let Auth::Users(gatekeeper, credential) = &self.auth {
            note(log, Kind::UsersReloaded, gatekeeper.reload(), "users");
            if let Some(source) = &self.password {
                let password = source.read().map(Some);
                let replaced = password.map(|password| credential.replace_password(password));
                note(log, Kind::UsersReloaded, replaced, "the gate's own password");
            }
        }
    }
}

fn auth(config: &PostgresConfig, password: Option<&SecretSource>) -> Result<Auth, AccessError> {
    let AuthConfig::Users { users, upstream_user, .. } = &config.auth else {
        return Ok(Auth::Passthrough);
    };
    let gatekeeper = Gatekeeper::open(users.clone())?;
    let asks_for_certificates =
        config.tls.as_ref().is_some_and(|tls| tls.demand == TlsDemand::Mutual);
    if gatekeeper.knows_certificates() && !asks_for_certificates {
        return Err(AccessError::UnaskedCertificates);
    }
    let password = password.map(SecretSource::read).transpose()?;
    let credential = Credential::new(upstream_user.clone(), password);
    Ok(Auth::Users(Arc::new(gatekeeper), Arc::new(credential)))
}

fn note<E: Error>(log: &AuditLog, kind: Kind, outcome: Result<(), E>, what: &str) {
    let (decision, message) = match outcome {
        Ok(()) => (Decision::None, format!("{what}: read again")),
        Err(_) => (Decision::Error, format!("{what}: not read again, and as before")),
    };
    match outcome {
        Ok(()) => tracing::info!("{message}"),
        Err(error) => tracing::error!(error = with_cause(&error), "{message}"),
    }
    if log.record(&Entry::plain(kind, decision, &message)).is_err() {
        tracing::error!("a reload could not be written into the audit log");
    }
}
