//! `rowarden check`: is the configuration sound, and does a server answer?

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cli::access::Access;
use crate::cli::gates::rules_in_force;
use crate::cli::report;
use crate::cli::serve::with_cause;
use crate::cli::site::Site;
use crate::cli::source::{self, Audience};
use crate::cli::{Exit, complain, runtime};
use crate::config::{AuthConfig, Config, PostgresConfig};
use crate::dial::{TlsDialer, Trust};
use crate::listen::tls::TlsDemand;
use crate::postgres::upstream::{SSL_REQUEST, Upstream, UpstreamAddress, connect_within, link};

/// How long each server may take to answer: 5 s. An operator waits for it.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// Validate the configuration and the policy; all mistakes at once
#[derive(Args, Debug)]
pub struct Check {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Also ask the server behind the gate whether it speaks PostgreSQL
    #[arg(long)]
    probe: bool,
    /// Print mistakes as one JSON object a line, on standard output
    #[arg(long)]
    json: bool,
}

/// Checks, and says what was found.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(check: &Check, out: &mut impl Write) -> io::Result<Exit> {
    let audience = if check.json { Audience::Programs } else { Audience::People };
    let config = match source::read_config(&check.config, audience, out)? {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let policy = match source::read_policy(&config, audience, out)? {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    let access = match config.postgres.as_ref().map(Access::load).transpose() {
        Ok(access) => access,
        Err(error) => {
            let message = with_cause(&error);
            match audience {
                Audience::People => complain(&message),
                Audience::Programs => {
                    report::whole_file_for_programs(&check.config, &message, out)?;
                }
            }
            return Ok(Exit::BadConfiguration);
        }
    };
    let site = match Site::load(&config, &check.config, audience, out)? {
        Ok(site) => site,
        Err(exit) => return Ok(exit),
    };
    if audience == Audience::People {
        let (name, id) = rules_in_force(policy.as_ref(), site.as_ref());
        summarise(check, &config, (&name, &id), out)?;
    }
    if !check.probe {
        return Ok(Exit::Good);
    }
    let servers = match &config.postgres {
        Some(gate) => {
            let dialer = access.and_then(|access| access.dialer());
            probe_postgres(check, &gate.upstream, dialer.as_deref(), out)?
        }
        None => Exit::Good,
    };
    let sites = match &site {
        Some(site) => probe_site(check, site, out)?,
        None => Exit::Good,
    };
    Ok(if servers == Exit::Good { sites } else { servers })
}

fn summarise(
    check: &Check,
    config: &Config,
    (policy, policy_id): (&str, &str),
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}: no mistakes", check.config.display())?;
    if let Some(gate) = &config.postgres {
        for address in &gate.listen {
            writeln!(out, "  clients   {address}")?;
        }
        writeln!(out, "  tls       {}", client_tls(gate))?;
        for address in &gate.upstream.addresses {
            writeln!(out, "  server    {address}, {}", server_tls(gate))?;
        }
        writeln!(out, "  logins    {}", logins(gate))?;
        if let Some(warning) = binding_warning(gate) {
            writeln!(out, "  warning   {warning}")?;
        }
    }
    if let Some(gate) = &config.jira {
        for address in &gate.listen {
            writeln!(out, "  clients   {address} (JIRA)")?;
        }
        writeln!(out, "  site      {}", gate.upstream)?;
    }
    writeln!(out, "  policy    {policy} ({policy_id})")?;
    writeln!(out, "  audit     {}", config.audit.dir.display())
}

fn client_tls(gate: &PostgresConfig) -> &'static str {
    match gate.tls.as_ref().map(|tls| tls.demand) {
        None => "none: clients connect in clear",
        Some(TlsDemand::Allow) => "for clients that ask for it",
        Some(TlsDemand::Mutual) => "required, with a certificate of the client's own",
        Some(TlsDemand::Require) => "required",
    }
}

fn server_tls(gate: &PostgresConfig) -> &'static str {
    match gate.upstream_tls.as_ref().map(|tls| &tls.trust) {
        None => "in clear",
        Some(Trust::Anybody) => "encrypted, whoever it is",
        Some(Trust::Authorities(_)) => "encrypted, known by its certificate",
        Some(Trust::Machine) => "encrypted, known by a certificate that this machine trusts",
    }
}

fn logins(gate: &PostgresConfig) -> String {
    match &gate.auth {
        AuthConfig::Passthrough => "passed through to the server".to_owned(),
        AuthConfig::Users { users, upstream_user, .. } => {
            format!("checked by the gate ({}), then as `{upstream_user}`", users.display())
        }
    }
}

/// What a client that binds its password to the channel meets between two channels.
fn binding_warning(gate: &PostgresConfig) -> Option<&'static str> {
    let PostgresConfig { tls, upstream_tls, auth, .. } = gate;
    let cuts = tls.is_some() && upstream_tls.is_some() && *auth == AuthConfig::Passthrough;
    cuts.then_some(
        "passwords are passed through with TLS on both sides: unless the gate's certificate is \
         the server's own, the server refuses clients that can bind to the channel (libpq by \
         default). Clients write channel_binding=disable, or set auth = \"users\" here, or reach \
         the server by a unix socket",
    )
}

/// Connects to the site and closes again: it gets no request of the gate's own.
fn probe_site(check: &Check, site: &Site, out: &mut impl Write) -> io::Result<Exit> {
    let url = site.upstream().site();
    match (runtime()?.block_on(site.upstream().probe()), check.json) {
        (Ok(()), false) => {
            writeln!(out, "  probe     {url} takes connections")?;
            Ok(Exit::Good)
        }
        (Ok(()), true) => Ok(Exit::Good),
        (Err(error), json) => {
            let failure = format!("no site at `{url}`: {error}");
            if json {
                report::whole_file_for_programs(&check.config, &failure, out)?;
            } else {
                complain(&failure);
            }
            Ok(Exit::Unavailable)
        }
    }
}

fn probe_postgres(
    check: &Check,
    upstream: &Upstream,
    dialer: Option<&TlsDialer>,
    out: &mut impl Write,
) -> io::Result<Exit> {
    let answer = runtime()?.block_on(probe_any(upstream, dialer));
    match (answer, check.json) {
        (Ok(address), false) => {
            writeln!(out, "  probe     {address} speaks PostgreSQL")?;
            Ok(Exit::Good)
        }
        (Ok(_), true) => Ok(Exit::Good),
        (Err(failures), json) => {
            for failure in &failures {
                if json {
                    report::whole_file_for_programs(&check.config, failure, out)?;
                } else {
                    complain(failure);
                }
            }
            Ok(Exit::Unavailable)
        }
    }
}

/// The first place that answers as PostgreSQL does, or what went wrong at each.
async fn probe_any<'a>(
    upstream: &'a Upstream,
    dialer: Option<&TlsDialer>,
) -> Result<&'a UpstreamAddress, Vec<String>> {
    let mut failures = Vec::new();
    for address in &upstream.addresses {
        let answer = tokio::time::timeout(PROBE_PATIENCE, ask(address)).await;
        match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(b'S' | b'N' | b'E') if dialer.is_none() => return Ok(address),
            // It speaks PostgreSQL; will it also encrypt, and be believed?
            Ok(b'S' | b'N' | b'E') => match link(address, dialer, PROBE_PATIENCE).await {
                Ok(_) => return Ok(address),
                Err(error) => failures.push(format!("the server at `{address}`: {error}")),
            },
            Ok(_) => failures.push(format!("what answers at `{address}` is not PostgreSQL")),
            Err(error) => failures.push(format!("no PostgreSQL server at `{address}`: {error}")),
        }
    }
    Err(failures)
}

async fn ask(address: &UpstreamAddress) -> io::Result<u8> {
    let mut stream = connect_within(address, PROBE_PATIENCE).await?;
    stream.write_all(&SSL_REQUEST).await?;
    stream.read_u8().await
}
