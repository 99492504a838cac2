//! The JIRA gate's half of what `serve` and `check` make ready: its rules, its secrets, and its way
//! to the site. Everything that can be wrong in a file is found here, before anything listens.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret as _;

use crate::audit::event::Auditor;
use crate::cli::serve::with_cause;
use crate::cli::source::{self, Audience};
use crate::cli::{Exit, complain, report};
use crate::config::Config;
use crate::config::jira::{CredentialConfig, JiraConfig};
use crate::jira::access::Access;
use crate::jira::doorway::Patience;
use crate::jira::gate::{PROTOCOL, Parts};
use crate::jira::limits::Budgets;
use crate::jira::request::Names;
use crate::jira::rewrite::SiteNames;
use crate::jira::upstream::Upstream;
use crate::listen::tls::{TlsDemand, TlsDoor};
use crate::listen::{Address, Listener};
use crate::policy::jira::table::JiraPolicy;

/// A JIRA gate that lacks only its listeners and its log.
pub struct Site {
    config: JiraConfig,
    policy: Arc<JiraPolicy>,
    access: Access,
    upstream: Arc<Upstream>,
    tls: Option<(TlsDemand, Arc<TlsDoor>)>,
}

impl Site {
    /// Reads what `[jira]` names, if it is there.
    ///
    /// # Errors
    /// The outer one when `out` cannot be written; the inner one, after the operator has been told,
    /// when a file cannot be used.
    pub(super) fn load(
        config: &Config,
        file: &Path,
        audience: Audience,
        out: &mut impl Write,
    ) -> io::Result<Result<Option<Self>, Exit>> {
        let Some(jira) = &config.jira else { return Ok(Ok(None)) };
        let policy = match source::read_jira_policy(config.policy_dir.as_deref(), audience, out)? {
            Ok(policy) => policy,
            Err(exit) => return Ok(Err(exit)),
        };
        let policy = Arc::new(policy.open(jira.groups.iter().copied()));
        let loaded = load_access(&jira.credential).and_then(|access| {
            let upstream = Upstream::new(jira.upstream.clone(), jira.upstream_ca.clone());
            let upstream = upstream.map_err(|error| with_cause(&error))?;
            Ok((access, upstream, load_tls(jira)?))
        });
        match loaded {
            Ok((access, upstream, tls)) => {
                let upstream = Arc::new(upstream);
                Ok(Ok(Some(Self { config: jira.clone(), policy, access, upstream, tls })))
            }
            Err(message) => {
                match audience {
                    Audience::People => complain(&message),
                    Audience::Programs => report::whole_file_for_programs(file, &message, out)?,
                }
                Ok(Err(Exit::BadConfiguration))
            }
        }
    }

    /// The rules.
    pub(super) fn policy(&self) -> &JiraPolicy {
        &self.policy
    }

    /// The groups that are open, by name.
    pub(super) fn open_groups(&self) -> impl Iterator<Item = &'static str> {
        self.config.groups.iter().map(|group| group.name())
    }

    /// The way to the site.
    pub(super) const fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The parts of a gate that listens here.
    pub(super) fn parts(self, listeners: &[Listener], auditor: Arc<dyn Auditor>) -> Parts {
        let bound: Vec<Address> =
            listeners.iter().filter_map(|listener| listener.local_address().ok()).collect();
        let Self { config, policy, access, upstream, tls } = self;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let of_address = |address: &Address| match address {
            Address::Tcp(address) => format!("{scheme}://{address}").parse().ok(),
            Address::Unix(_) => None,
        };
        let public = config.public_url.clone().or_else(|| bound.iter().find_map(of_address));
        // On unix sockets only, a client says where it is by its own `Host`; nothing is rewritten.
        let public = public.unwrap_or_else(|| config.upstream.clone());
        let mut own: Vec<String> = config.hosts.clone();
        own.extend(bound.iter().filter_map(|address| match address {
            Address::Tcp(address) => Some(address.to_string()),
            Address::Unix(_) => None,
        }));
        own.extend(config.listens_on_localhost.iter().map(|port| format!("localhost:{port}")));
        own.push(public.authority());
        let mut site = vec![config.upstream.clone()];
        site.extend(config.site_urls.iter().cloned());
        Parts {
            tls,
            hosts: Names::new(own, config.upstream),
            site_names: Arc::new(SiteNames::new(site, &public)),
            upstream,
            access,
            policy,
            budgets: Arc::new(Budgets::new(config.limits)),
            auditor,
            patience: Patience::default(),
            max_connections: config.max_connections,
        }
    }
}

fn load_tls(jira: &JiraConfig) -> Result<Option<(TlsDemand, Arc<TlsDoor>)>, String> {
    let Some(tls) = &jira.tls else { return Ok(None) };
    let door = TlsDoor::open(tls.files.clone(), &[PROTOCOL]);
    let door = door.map_err(|error| with_cause(&error))?;
    Ok(Some((tls.demand, Arc::new(door))))
}

fn load_access(credential: &CredentialConfig) -> Result<Access, String> {
    match credential {
        CredentialConfig::Passthrough => Ok(Access::Passthrough),
        CredentialConfig::Held { credential, clients } => {
            let secret = credential.read().map_err(|error| with_cause(&error))?;
            let tokens = clients.read().map_err(|error| with_cause(&error))?;
            Access::held(secret.expose_secret(), tokens.expose_secret())
                .map_err(|mistake| format!("{credential}, {clients}: {mistake}"))
        }
    }
}
