//! `rowarden serve`: everything that must be there before the first client is let in.
//!
//! In this order: the configuration, the policy, the stop signals, the listeners. What the gates do
//! with them is the caller's business.

use std::error::Error;
use std::io::{self, Write};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::pin::Pin;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::audit::log::OnLoss;
use crate::cli::access::Access;
use crate::cli::site::Site;
use crate::cli::source::{self, Audience};
use crate::cli::{Exit, complain, runtime};
use crate::config::Config;
use crate::listen::{Address, ListenError, Listener, descriptors};
use crate::policy::file::Policy;

/// Run every gate that the configuration names, until SIGTERM or SIGINT
#[derive(Args, Debug)]
pub struct Serve {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Go on with an audit log that has lost lines, and record that it has
    #[arg(long)]
    accept_loss: bool,
}

/// What the gates are made of.
pub struct Ready {
    /// What the operator wants.
    pub config: Config,
    /// The rules for SQL, if there is a PostgreSQL gate.
    pub policy: Option<Policy>,
    /// Who is let in there.
    pub access: Option<Access>,
    /// What the JIRA gate is made of, if there is one.
    pub site: Option<Site>,
    /// Bound for the PostgreSQL gate, in the order of the configuration.
    pub postgres: Vec<Listener>,
    /// Bound for the JIRA gate, in the order of the configuration.
    pub jira: Vec<Listener>,
    /// Comes when the gates must drain and end.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Comes when files must be read again.
    pub reload: Signal,
}

/// Makes everything ready and runs the gates.
///
/// # Errors
/// When there is no runtime to run them on, or `out` cannot be written.
pub fn run<F>(
    serve: &Serve,
    gates: impl FnOnce(Ready) -> F + Send + 'static,
    out: &mut impl Write,
) -> io::Result<Exit>
where
    F: Future<Output = Exit> + Send,
{
    let mut config = match source::read_config(&serve.config, Audience::People, out)? {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    if serve.accept_loss {
        config.audit.keeping.on_loss = OnLoss::Accept;
    }
    let policy = match source::read_policy(&config, Audience::People, out)? {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    let access = match config.postgres.as_ref().map(Access::load).transpose() {
        Ok(access) => access,
        Err(error) => {
            complain(&with_cause(&error));
            return Ok(Exit::BadConfiguration);
        }
    };
    let site = match Site::load(&config, &serve.config, Audience::People, out)? {
        Ok(site) => site,
        Err(exit) => return Ok(exit),
    };
    let connections = config.postgres.as_ref().map_or(0, |gate| gate.max_connections)
        + config.jira.as_ref().map_or(0, |gate| gate.max_connections);
    if let Err(error) = descriptors::reserve(connections) {
        complain(&with_cause(&error));
        return Ok(Exit::BadConfiguration);
    }
    let runtime = runtime()?;
    // On a worker, whose stack is made for judging; the main thread's is not.
    let worker = runtime.spawn(async move {
        let stop = Box::pin(stop_signal()?);
        let reload = signal(SignalKind::hangup())?;
        match bind_gates(&config).await {
            Ok((postgres, jira)) => {
                let ready = Ready { config, policy, access, site, postgres, jira, stop, reload };
                Ok(gates(ready).await)
            }
            Err(error) => {
                complain(&with_cause(&error));
                Ok(Exit::Failed)
            }
        }
    });
    runtime.block_on(worker).unwrap_or_else(|_| Err(io::Error::other("the gates failed")))
}

/// Binds the addresses of all gates, or none.
async fn bind_gates(config: &Config) -> Result<(Vec<Listener>, Vec<Listener>), ListenError> {
    let postgres = config.postgres.as_ref().map_or(&[][..], |gate| &gate.listen);
    let jira = config.jira.as_ref().map_or(&[][..], |gate| &gate.listen);
    Ok((bind(postgres).await?, bind(jira).await?))
}

/// Binds all addresses, or none.
///
/// # Errors
/// When one of them is taken or not ours. The IPv6 half of `localhost` may be missing: many
/// machines and most containers have no IPv6.
pub async fn bind(addresses: &[Address]) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    for address in addresses {
        match Listener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing_ipv6(address, &error) && !listeners.is_empty() => {
                tracing::warn!(%address, "this machine has no IPv6; going on without");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

fn is_missing_ipv6(address: &Address, error: &ListenError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_loopback = matches!(address, Address::Tcp(socket) if socket.ip() == Ipv6Addr::LOCALHOST);
    // EAFNOSUPPORT has no kind of its own: it is 97 on Linux.
    is_loopback
        && cause.is_some_and(|cause| {
            cause.kind() == io::ErrorKind::AddrNotAvailable || cause.raw_os_error() == Some(97)
        })
}

/// SIGTERM is the service manager's word, SIGINT the terminal's. The handlers are in place when
/// this returns.
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

pub(super) fn with_cause(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
