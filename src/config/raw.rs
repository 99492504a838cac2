//! The configuration as typed: which keys there are and of what type.
//!
//! Keys that this version does not know yet are told apart from misspelt ones: a gate must not
//! start as if encryption or a second gate were on when they are not.

use crate::audit::log::Mode;
use crate::audit::redact::SqlText;
use crate::policy::document::{Placed, Section};

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
    pub(super) max_connections: Option<Placed<usize>>,
}

/// `[audit]` as typed.
pub(super) struct RawAudit {
    pub(super) dir: Option<Placed<String>>,
    pub(super) mode: Option<Placed<Mode>>,
    pub(super) sql: Option<Placed<SqlText>>,
}

/// Who checks the client's password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Auth {
    Passthrough,
    Users,
}

/// Encryption on either side of the gate. Both sides know a word that the other does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    Allow,
    Disable,
    Enforced,
}

const CLIENT_TLS: [(&str, Tls); 4] = [
    ("disable", Tls::Disable),
    ("allow", Tls::Allow),
    ("require", Tls::Enforced),
    ("mutual", Tls::Enforced),
];

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
        read_tls(section, "tls", &CLIENT_TLS, &["cert", "key", "ca"]);
        read_tls(section, "upstream_tls", &SERVER_TLS, &["ca"]);
        Self {
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
        }
    }
}

/// This version encrypts neither side. What asks for no more than that is accepted: `disable`, and
/// `allow` without a certificate to allow it with.
fn read_tls(section: &mut Section<'_, '_>, key: &str, modes: &[(&str, Tls)], files: &[&str]) {
    section.section(key, |tls| {
        let mode = tls.required("mode", |tls, mode| tls.word(mode, modes));
        let files: Vec<_> = files.iter().filter_map(|file| tls.string(file)).collect();
        let mode = mode?;
        let asks_for_it = match mode.value {
            Tls::Allow => !files.is_empty(),
            Tls::Disable => false,
            Tls::Enforced => true,
        };
        if asks_for_it {
            let message = format!("`{key}`: encryption is not supported by this version");
            tls.mistake_with_help(mode.place, message, "write `mode = \"disable\"`");
        }
        Some(())
    });
}
