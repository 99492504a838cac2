//! The configuration as typed: which keys there are and of what type.
//!
//! Keys that this version does not know yet are told apart from misspelt ones: a gate must not
//! start as if encryption or a second gate were on when they are not.

use crate::audit::log::Mode;
use crate::audit::redact::SqlText;
use crate::policy::document::{Placed, Section};
use crate::postgres::entrance::TlsDemand;

/// The file as typed.
pub(super) struct RawConfig {
    pub(super) policy_dir: Option<Placed<String>>,
    pub(super) postgres: Option<RawPostgres>,
    pub(super) audit: Option<RawAudit>,
}

/// `[postgres]` as typed.
pub(super) struct RawPostgres {
    pub(super) listen: Option<Placed<Vec<Placed<String>>>>,
    pub(super) upstream: Option<Placed<String>>,
    pub(super) tls: Option<RawTls>,
    pub(super) max_connections: Option<Placed<usize>>,
}

/// `[audit]` as typed.
pub(super) struct RawAudit {
    pub(super) dir: Option<Placed<String>>,
    pub(super) mode: Option<Placed<Mode>>,
    pub(super) sql: Option<Placed<SqlText>>,
    pub(super) keeping: RawKeeping,
}

/// How long the log is kept, as typed.
pub(super) struct RawKeeping {
    pub(super) segment_bytes: Option<Placed<String>>,
    pub(super) segment_age: Option<Placed<String>>,
    pub(super) keep: Option<Placed<String>>,
    pub(super) max_bytes: Option<Placed<String>>,
}

/// Who checks the client's password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Auth {
    Passthrough,
    Users,
}

/// Encryption towards clients, as typed.
pub(super) struct RawTls {
    pub(super) demand: TlsDemand,
    pub(super) cert: Placed<String>,
    pub(super) key: Placed<String>,
    pub(super) client_ca: Option<Placed<String>>,
}

/// Encryption towards the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    Disable,
    Enforced,
}

const SERVER_TLS: [(&str, Tls); 3] =
    [("disable", Tls::Disable), ("require", Tls::Enforced), ("verify-full", Tls::Enforced)];

impl RawConfig {
    pub(super) fn read(root: &mut Section<'_, '_>) -> Self {
        for section in ["jira", "mcp", "admin"] {
            root.refuse(section, format!("`[{section}]` is not supported by this version"));
        }
        let policy_dir = root.string("policy_dir");
        if !root.has("postgres") {
            root.mistake(0..0, "`[postgres]` is missing: there is no gate to serve");
        }
        if !root.has("audit") {
            root.mistake(0..0, "`[audit]` is missing: nothing passes that cannot be recorded");
        }
        let postgres = root.section("postgres", |section| Some(RawPostgres::read(section)));
        let audit = root.section("audit", |section| Some(RawAudit::read(section)));
        Self { policy_dir, postgres, audit }
    }
}

impl RawPostgres {
    fn read(section: &mut Section<'_, '_>) -> Self {
        let auth =
            section.word("auth", &[("passthrough", Auth::Passthrough), ("users", Auth::Users)]);
        if let Some(users) = auth.filter(|auth| auth.value == Auth::Users) {
            section.mistake(users.place, "`auth = \"users\"` is not supported by this version");
        }
        read_tls(section, "upstream_tls", &SERVER_TLS, &["ca"]);
        Self {
            tls: section.section("tls", RawTls::read),
            listen: section.required("listen", Section::one_or_more),
            upstream: section.required("upstream", Section::string),
            max_connections: section.integer("max_connections", 1..=100_000),
        }
    }
}

impl RawAudit {
    fn read(section: &mut Section<'_, '_>) -> Self {
        let modes = [("written", Mode::Written), ("durable", Mode::Durable)];
        let forms = [
            ("normalized", SqlText::Normalized),
            ("full", SqlText::Full),
            ("fingerprint", SqlText::Fingerprint),
            ("off", SqlText::Off),
        ];
        Self {
            dir: section.required("dir", Section::string),
            mode: section.word("mode", &modes),
            sql: section.word("sql", &forms),
            keeping: RawKeeping {
                segment_bytes: section.string("segment_bytes"),
                segment_age: section.string("segment_age"),
                keep: section.string("keep"),
                max_bytes: section.string("max_bytes"),
            },
        }
    }
}

impl RawTls {
    /// `None` where nothing is to be encrypted: `disable`, and `allow` without a certificate to allow
    /// it with.
    fn read(tls: &mut Section<'_, '_>) -> Option<Self> {
        let words = [
            ("disable", None),
            ("allow", Some(TlsDemand::Allow)),
            ("require", Some(TlsDemand::Require)),
            ("mutual", Some(TlsDemand::Mutual)),
        ];
        let mode = tls.required("mode", |tls, mode| tls.word(mode, &words));
        let (cert, key) = (tls.string("cert"), tls.string("key"));
        let client_ca = tls.string("client_ca");
        let Placed { value: Some(demand), place } = mode? else { return None };
        if demand == TlsDemand::Allow && cert.is_none() && key.is_none() && client_ca.is_none() {
            return None;
        }
        if (demand == TlsDemand::Mutual) != client_ca.is_some() {
            let message = match &client_ca {
                None => "`mutual` needs the authorities of the clients' certificates: `client_ca`",
                Some(_) => "`client_ca` has a meaning under `mutual` only",
            };
            let place = client_ca.as_ref().map_or(place.clone(), |file| file.place.clone());
            tls.mistake(place, message);
        }
        if cert.is_none() || key.is_none() {
            tls.mistake(place, "encryption needs a certificate and its key: `cert` and `key`");
        }
        Some(Self { demand, cert: cert?, key: key?, client_ca })
    }
}

/// This version does not encrypt towards the server. What asks for no more than that is accepted.
fn read_tls(section: &mut Section<'_, '_>, key: &str, modes: &[(&str, Tls)], files: &[&str]) {
    section.section(key, |tls| {
        let mode = tls.required("mode", |tls, mode| tls.word(mode, modes));
        for file in files {
            tls.string(file);
        }
        let mode = mode?;
        if mode.value == Tls::Enforced {
            let message = format!("`{key}`: encryption is not supported by this version");
            tls.mistake_with_help(mode.place, message, "write `mode = \"disable\"`");
        }
        Some(())
    });
}
