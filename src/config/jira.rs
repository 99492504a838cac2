//! `[jira]` as meant.

use std::path::PathBuf;

use crate::config::raw::RawJira;
use crate::config::secret::SecretSource;
use crate::config::{ClientTls, Meaning};
use crate::jira::limits::Limits;
use crate::jira::site::SiteUrl;
use crate::listen::Address;
use crate::policy::document::Placed;
use crate::policy::jira::operation::Group;

/// The most connections of clients at once: 2000, as for PostgreSQL.
const DEFAULT_MAX_CONNECTIONS: usize = 2000;

/// The JIRA gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JiraConfig {
    /// Where clients connect; at least one address, none twice.
    pub listen: Vec<Address>,
    /// The site behind the gate, with its context path.
    pub upstream: SiteUrl,
    /// Certificates that vouch for the site, in place of those that the system trusts.
    pub upstream_ca: Option<PathBuf>,
    /// Names the gate answers to besides its listen addresses and its public URL: `host:port`, or
    /// `host` for any port. In lower case.
    pub hosts: Vec<String>,
    /// What the site's own URLs in answers are rewritten to. `None` is the first listen address.
    pub public_url: Option<SiteUrl>,
    /// Every URL by which the site names itself besides `upstream`.
    pub site_urls: Vec<SiteUrl>,
    /// Groups of sensitive reads that are open. None by default.
    pub groups: Vec<Group>,
    /// Who says to the site who asks.
    pub credential: CredentialConfig,
    /// Encryption towards clients; `None` leaves every connection in clear.
    pub tls: Option<ClientTls>,
    /// How many connections of clients at once.
    pub max_connections: usize,
    /// What one client may use.
    pub limits: Limits,
    /// The ports of `localhost` among the listen addresses: that is a name the gate answers to.
    pub listens_on_localhost: Vec<u16>,
}

/// Who says to the site who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialConfig {
    /// The gate: clients hold tokens that the site does not know.
    Held {
        /// The site's credential.
        credential: SecretSource,
        /// The tokens of the clients, `name:token` a line.
        clients: SecretSource,
    },
    /// Each client, through the gate.
    Passthrough,
}

impl Meaning<'_, '_, '_> {
    pub(super) fn jira(&mut self, raw: RawJira) -> Option<JiraConfig> {
        let tls = raw.tls.and_then(|tls| self.client_tls(&tls));
        let written = raw.listen.as_ref().map_or(&[][..], |listen| &listen.value);
        let port_of = |item: &Placed<String>| item.value.strip_prefix("localhost:")?.parse().ok();
        let listens_on_localhost = written.iter().filter_map(port_of).collect();
        let listen = raw.listen.map(|listen| self.listen(&listen));
        let place = raw.upstream.as_ref().map(|upstream| upstream.place.clone());
        let upstream = raw.upstream.and_then(|upstream| self.site("upstream", &upstream));
        let public_url = raw.public_url.map(|url| self.site("public_url", &url));
        let site_urls: Vec<_> =
            raw.site_urls.iter().map(|url| self.site("site_urls", url)).collect();
        let hosts: Vec<_> = raw.hosts.iter().map(|host| self.host(host)).collect();
        let groups: Vec<_> = raw.groups.iter().map(|group| self.group(group)).collect();
        let upstream_ca = raw.upstream_ca.map(|file| self.folder.join(file.value));
        let credential = self.credential(raw.credential, raw.clients);
        let (listen, upstream) = (listen?, upstream?);
        if listen.iter().any(|gate| is_same_place(gate, &upstream)) {
            let message = "`upstream` is the address that the gate itself listens on";
            self.root.mistake(place.unwrap_or(0..0), message);
        }
        let max_connections =
            raw.max_connections.map_or(DEFAULT_MAX_CONNECTIONS, |placed| placed.value);
        Some(JiraConfig {
            listen,
            upstream,
            upstream_ca,
            hosts: hosts.into_iter().collect::<Option<_>>()?,
            public_url: match public_url {
                Some(url) => Some(url?),
                None => None,
            },
            site_urls: site_urls.into_iter().collect::<Option<_>>()?,
            groups: groups.into_iter().collect::<Option<_>>()?,
            credential: credential?,
            tls,
            max_connections,
            limits: raw.limits.unwrap_or_default(),
            listens_on_localhost,
        })
    }

    fn group(&mut self, written: &Placed<String>) -> Option<Group> {
        let group = Group::from_name(&written.value);
        if group.is_none() {
            let names: Vec<String> =
                Group::ALL.iter().map(|group| format!("\"{}\"", group.name())).collect();
            let message = format!("there is no group `{}`", written.value);
            let help = format!("the groups are {}", names.join(", "));
            self.root.mistake_with_help(written.place.clone(), message, help);
        }
        group
    }

    fn site(&mut self, key: &str, written: &Placed<String>) -> Option<SiteUrl> {
        let site = written.value.parse::<SiteUrl>();
        // Not repeated: it may hold a password.
        let message = format!("`{key}` is not the URL of a site");
        let place = written.place.clone();
        site.map_err(|wrong| self.root.mistake_with_help(place, message, wrong.to_string())).ok()
    }

    fn host(&mut self, written: &Placed<String>) -> Option<String> {
        let host = written.value.to_ascii_lowercase();
        if format!("http://{host}").parse::<SiteUrl>().is_ok_and(|site| site.path().is_empty()) {
            return Some(host.trim_end_matches('/').to_owned());
        }
        let message = format!("`{}` is not a host", written.value);
        let help = "write `HOST:PORT`, or `HOST` for any port";
        self.root.mistake_with_help(written.place.clone(), message, help);
        None
    }

    fn credential(
        &mut self,
        credential: Option<Placed<String>>,
        clients: Option<Placed<String>>,
    ) -> Option<CredentialConfig> {
        let held = credential.filter(|credential| credential.value != "passthrough");
        match (held, clients) {
            (None, None) => Some(CredentialConfig::Passthrough),
            (None, Some(clients)) => {
                let message = "`clients` are for a gate that holds the credential itself";
                let instead = "set `credential`, or leave `clients` out";
                self.root.mistake_with_help(clients.place, message, instead);
                None
            }
            (Some(credential), None) => {
                let message = "`clients` is missing: to whom does the gate lend its credential?";
                let instead = "write `clients = \"file:PATH\"`, a file of `name:token` lines";
                self.root.mistake_with_help(credential.place, message, instead);
                None
            }
            (Some(credential), Some(clients)) => {
                let credential = self.secret(&credential);
                let clients = self.secret(&clients);
                Some(CredentialConfig::Held { credential: credential?, clients: clients? })
            }
        }
    }
}

/// A gate whose site is the gate would ask itself without end.
fn is_same_place(gate: &Address, site: &SiteUrl) -> bool {
    let Address::Tcp(gate) = gate else { return false };
    let is_here = gate.ip().is_loopback() || gate.ip().is_unspecified();
    gate.port() == site.port()
        && ((site.host() == "localhost" && is_here) || site.host().parse() == Ok(gate.ip()))
}
