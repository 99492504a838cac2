//! What an operator typed, and what it means.
//!
//! Two types: [`raw::RawConfig`] is the file as typed, [`Config`] what it means, with every default
//! filled in and every address understood. Only `Config` leaves this module, and only when the
//! whole file is free of mistakes: a gate that runs on half of its configuration protects half.

mod address;
pub mod jira;
mod quantity;
mod raw;
pub mod secret;

use std::path::{Path, PathBuf};

use crate::audit::log::{Keeping, Mode};
use crate::audit::redact::SqlText;
use crate::config::jira::JiraConfig;
use crate::config::quantity::QuantityMistake;
use crate::config::raw::{
    RawAudit, RawAuth, RawConfig, RawKeeping, RawPostgres, RawTls, RawUpstreamTls, Verification,
};
use crate::config::secret::SecretSource;
use crate::dial::{ServerTls, Trust};
use crate::listen::Address;
use crate::listen::proxy::IpRange;
use crate::listen::tls::TlsDemand;
use crate::listen::tls::TlsFiles;
use crate::policy::document::{self, Mistakes, Placed, Section};
use crate::postgres::upstream::{Upstream, UpstreamAddress};

/// The most clients at once: 2000, twenty times what PostgreSQL itself takes by default, so that
/// by default it is the server's limit that clients meet and not the gate's.
const DEFAULT_MAX_CONNECTIONS: usize = 2000;

/// What `rowarden serve` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where `readonly.toml` lives. `None`, the default, is the policy that is built into the
    /// binary: it has been reviewed together with the code that applies it.
    pub policy_dir: Option<PathBuf>,
    /// The PostgreSQL gate, if there is one. At least one of the gates is there.
    pub postgres: Option<PostgresConfig>,
    /// The JIRA gate, if there is one.
    pub jira: Option<JiraConfig>,
    /// The audit log.
    pub audit: AuditConfig,
}

/// The PostgreSQL gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// Where clients connect; at least one address, none twice. No default: who may reach the
    /// gate is for the operator to say.
    pub listen: Vec<Address>,
    /// The server behind the gate.
    pub upstream: Upstream,
    /// Encryption towards clients; `None` leaves every connection in clear. No default: a
    /// certificate is the operator's to choose.
    pub tls: Option<ClientTls>,
    /// Encryption towards the server; `None` goes in clear.
    pub upstream_tls: Option<ServerTls>,
    /// Who decides who a client is. The server by default: it knows its users.
    pub auth: AuthConfig,
    /// Load balancers that say by the PROXY protocol who comes. None by default: whoever is one can
    /// claim any address.
    pub balancers: Vec<IpRange>,
    /// How many clients at once.
    pub max_connections: usize,
}

/// Who decides who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthConfig {
    /// The server: clients hold its passwords.
    Passthrough,
    /// The gate: clients hold passwords or certificates that the server does not know.
    Users {
        /// The users file.
        users: PathBuf,
        /// The role that the gate logs in with.
        upstream_user: String,
        /// Its password; without one the server must know the gate by its certificate.
        upstream_password: Option<SecretSource>,
    },
}

/// Encryption towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// Who must encrypt.
    pub demand: TlsDemand,
    /// The certificates.
    pub files: TlsFiles,
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// The folder of the log. No default: an auditor must know where to look.
    pub dir: PathBuf,
    /// When an entry counts as recorded. `written` by default: it survives the end of the process
    /// and costs a read no wait for a disk.
    pub mode: Mode,
    /// How much of a statement is logged. `normalized` by default: enough to see what was tried,
    /// without the literals, which may be personal data.
    pub sql: SqlText,
    /// How long it is kept. For ever by default: what may be deleted is for the operator to say.
    pub keeping: Keeping,
}

impl Config {
    /// Reads a configuration. `file` is where the text comes from: relative paths in it are
    /// relative to the folder of that file. Nothing but the text is read.
    ///
    /// # Errors
    /// All mistakes of the text.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Mistakes> {
        let folder = file.parent().unwrap_or(Path::new(""));
        document::read(text, |root| {
            let raw = RawConfig::read(root);
            Meaning { folder, root }.config(raw)
        })
    }
}

/// Turns what was typed into what it means.
struct Meaning<'a, 'i, 'm> {
    folder: &'a Path,
    root: &'a mut Section<'i, 'm>,
}

impl Meaning<'_, '_, '_> {
    fn config(&mut self, raw: RawConfig) -> Option<Config> {
        let policy_dir = raw.policy_dir.and_then(|dir| self.folder(&dir));
        let postgres = raw.postgres.and_then(|postgres| self.postgres(postgres));
        let jira = raw.jira.and_then(|jira| self.jira(jira));
        let audit = raw.audit.and_then(|audit| self.audit(audit));
        Some(Config { policy_dir, postgres, jira, audit: audit? })
    }

    fn postgres(&mut self, raw: RawPostgres) -> Option<PostgresConfig> {
        let tls = raw.tls.as_ref().and_then(|tls| self.client_tls(tls));
        let auth = self.auth(&raw);
        let balancers = self.balancers(raw.proxy_protocol_from);
        let encryption = raw.upstream_tls.as_ref().map(|tls| tls.place.clone());
        let upstream_tls = raw.upstream_tls.and_then(|tls| self.upstream_tls(tls));
        let listen = raw.listen.map(|listen| self.listen(&listen));
        let place = raw.upstream.as_ref().map(|upstream| upstream.place.clone());
        let upstream = raw.upstream.and_then(|upstream| self.upstream(&upstream));
        let (listen, upstream) = (listen?, upstream?);
        let is_socket = |server: &UpstreamAddress| matches!(server, UpstreamAddress::Unix(_));
        if let Some(place) = encryption.filter(|_| upstream.addresses.iter().any(is_socket)) {
            let message = "no server encrypts on a unix socket, where `upstream` is";
            self.root.mistake_with_help(place, message, "write `mode = \"disable\"`");
        }
        let is_listened_on = |server| listen.iter().any(|gate| is_same_place(gate, server));
        if upstream.addresses.iter().any(is_listened_on) {
            let message = "`upstream` is the address that the gate itself listens on";
            self.root.mistake(place.unwrap_or(0..0), message);
        }
        let max_connections =
            raw.max_connections.map_or(DEFAULT_MAX_CONNECTIONS, |placed| placed.value);
        Some(PostgresConfig {
            listen,
            upstream,
            tls,
            upstream_tls,
            auth: auth?,
            balancers,
            max_connections,
        })
    }

    fn client_tls(&mut self, raw: &RawTls) -> Option<ClientTls> {
        let client_ca = raw.client_ca.as_ref().map(|file| self.file(file));
        let (cert, key) = (self.file(&raw.cert), self.file(&raw.key));
        let files = TlsFiles { cert: cert?, key: key?, client_ca: client_ca.flatten() };
        Some(ClientTls { demand: raw.demand, files })
    }

    fn upstream_tls(&mut self, raw: RawUpstreamTls) -> Option<ServerTls> {
        let trust = match (raw.verification, &raw.ca) {
            (Verification::None, _) => Trust::Anybody,
            (Verification::Full, None) => Trust::Machine,
            (Verification::Full, Some(ca)) => Trust::Authorities(self.file(ca)?),
        };
        let identity = match raw.identity {
            None => None,
            Some((cert, key)) => Some((self.file(&cert)?, self.file(&key)?)),
        };
        Some(ServerTls { trust, identity })
    }

    fn balancers(&mut self, written: Option<Placed<Vec<Placed<String>>>>) -> Vec<IpRange> {
        let mut ranges = Vec::new();
        for item in written.into_iter().flat_map(|list| list.value) {
            let range = IpRange::parse(&item.value);
            if range.is_none() {
                let message = format!("`{}` is no address or range of addresses", item.value);
                self.root.mistake_with_help(item.place, message, "write `10.0.0.0/8` or `::1`");
            }
            ranges.extend(range);
        }
        ranges
    }

    fn auth(&mut self, raw: &RawPostgres) -> Option<AuthConfig> {
        let of_users = [
            ("users", &raw.users),
            ("upstream_user", &raw.upstream_user),
            ("upstream_password", &raw.upstream_password),
        ];
        let auth = raw.auth.as_ref().filter(|auth| auth.value == RawAuth::Users);
        let Some(auth) = auth else {
            for (key, written) in of_users {
                if let Some(written) = written {
                    let message = format!("`{key}` has a meaning under `auth = \"users\"` only");
                    self.root.mistake(written.place.clone(), message);
                }
            }
            return Some(AuthConfig::Passthrough);
        };
        for (key, written) in of_users.into_iter().take(2) {
            if written.as_ref().is_none_or(|written| written.value.is_empty()) {
                let message = format!("`auth = \"users\"` needs `{key}`");
                self.root.mistake(auth.place.clone(), message);
            }
        }
        let password = raw.upstream_password.as_ref();
        let password = password.map(|written| self.secret(written));
        let users = self.secret(raw.users.as_ref()?)?;
        let SecretSource::File(users) = users else {
            let place = raw.users.as_ref().map_or(0..0, |written| written.place.clone());
            self.root.mistake_with_help(place, "`users` is a file", "write `file:PATH`");
            return None;
        };
        let upstream_user = raw.upstream_user.as_ref()?.value.clone();
        Some(AuthConfig::Users { users, upstream_user, upstream_password: password.flatten() })
    }

    /// Not repeated: it may be the secret itself.
    fn secret(&mut self, written: &Placed<String>) -> Option<SecretSource> {
        let source = SecretSource::parse(&written.value, self.folder);
        if source.is_none() {
            let message = "a secret is not written here, only where it is";
            let help = "write `file:PATH` or `env:NAME`";
            self.root.mistake_with_help(written.place.clone(), message, help);
        }
        source
    }

    fn audit(&mut self, raw: RawAudit) -> Option<AuditConfig> {
        Some(AuditConfig {
            dir: raw.dir.and_then(|dir| self.folder(&dir))?,
            mode: raw.mode.map_or(Mode::Written, |placed| placed.value),
            sql: raw.sql.map_or(SqlText::Normalized, |placed| placed.value),
            keeping: self.keeping(raw.keeping),
        })
    }

    fn keeping(&mut self, raw: RawKeeping) -> Keeping {
        let usual = Keeping::default();
        let segment_bytes = self.quantity(raw.segment_bytes, quantity::bytes);
        let segment_age = self.quantity(raw.segment_age, quantity::duration);
        Keeping {
            segment_bytes: segment_bytes.unwrap_or(usual.segment_bytes),
            segment_age: segment_age.unwrap_or(usual.segment_age),
            keep: self.quantity(raw.keep, quantity::duration),
            max_bytes: self.quantity(raw.max_bytes, quantity::bytes),
            on_loss: usual.on_loss,
        }
    }

    fn quantity<T>(
        &mut self,
        written: Option<Placed<String>>,
        read: impl FnOnce(&str) -> Result<T, QuantityMistake>,
    ) -> Option<T> {
        let written = written?;
        read(&written.value)
            .map_err(|wrong| {
                self.root.mistake_with_help(written.place, wrong.message, wrong.help);
            })
            .ok()
    }

    fn listen(&mut self, written: &Placed<Vec<Placed<String>>>) -> Vec<Address> {
        if written.value.is_empty() {
            self.root.mistake(written.place.clone(), "`listen` must name at least one address");
        }
        let mut addresses = Vec::new();
        for item in &written.value {
            let listen = address::listen(&item.value, self.folder);
            for address in self.understood(item, listen).unwrap_or_default() {
                if addresses.contains(&address) {
                    let message = format!("`{address}` is listed twice");
                    self.root.mistake(item.place.clone(), message);
                }
                addresses.push(address);
            }
        }
        addresses
    }

    fn upstream(&mut self, written: &Placed<String>) -> Option<Upstream> {
        let upstream = address::upstream(&written.value, self.folder);
        self.understood(written, upstream).map(|addresses| Upstream { addresses })
    }

    fn folder(&mut self, written: &Placed<String>) -> Option<PathBuf> {
        if written.value.is_empty() {
            self.root.mistake(written.place.clone(), "a folder's name must not be empty");
            return None;
        }
        Some(self.folder.join(&written.value))
    }

    fn file(&mut self, written: &Placed<String>) -> Option<PathBuf> {
        if written.value.is_empty() {
            self.root.mistake(written.place.clone(), "a file's name must not be empty");
            return None;
        }
        Some(self.folder.join(&written.value))
    }

    fn understood<T>(
        &mut self,
        written: &Placed<String>,
        found: Result<T, address::AddressMistake>,
    ) -> Option<T> {
        let place = written.place.clone();
        found.map_err(|wrong| self.root.mistake_with_help(place, wrong.message, wrong.help)).ok()
    }
}

/// A gate whose server is the gate would talk to itself until it runs out of connections.
fn is_same_place(gate: &Address, server: &UpstreamAddress) -> bool {
    match (gate, server) {
        (Address::Unix(gate), UpstreamAddress::Unix(server)) => gate == server,
        (Address::Tcp(gate), UpstreamAddress::Tcp(host, port)) if gate.port() == *port => {
            let is_here = gate.ip().is_loopback() || gate.ip().is_unspecified();
            (host == "localhost" && is_here) || host.parse() == Ok(gate.ip())
        }
        (Address::Tcp(_), _) | (Address::Unix(_), UpstreamAddress::Tcp(..)) => false,
    }
}
