//! The configuration as typed: which keys there are and of what type.
//!
//! Keys that this version does not know yet are told apart from misspelt ones: a gate must not
//! start as if encryption or a second gate were on when they are not.

use std::num::NonZeroU32;
use std::ops::Range;

use crate::audit::log::Mode;
use crate::audit::redact::SqlText;
use crate::jira::limits::Limits;
use crate::listen::tls::TlsDemand;
use crate::policy::document::{Placed, Section};

/// The file as typed.
pub(super) struct RawConfig {
    pub(super) policy_dir: Option<Placed<String>>,
    pub(super) postgres: Option<RawPostgres>,
    pub(super) jira: Option<RawJira>,
    pub(super) audit: Option<RawAudit>,
}

/// `[postgres]` as typed.
pub(super) struct RawPostgres {
    pub(super) listen: Option<Placed<Vec<Placed<String>>>>,
    pub(super) upstream: Option<Placed<String>>,
    pub(super) auth: Option<Placed<RawAuth>>,
    pub(super) users: Option<Placed<String>>,
    pub(super) upstream_user: Option<Placed<String>>,
    pub(super) upstream_password: Option<Placed<String>>,
    pub(super) upstream_tls: Option<RawUpstreamTls>,
    pub(super) proxy_protocol_from: Option<Placed<Vec<Placed<String>>>>,
    pub(super) tls: Option<RawTls>,
    pub(super) max_connections: Option<Placed<usize>>,
}

/// `[jira]` as typed.
pub(super) struct RawJira {
    pub(super) listen: Option<Placed<Vec<Placed<String>>>>,
    pub(super) upstream: Option<Placed<String>>,
    pub(super) upstream_ca: Option<Placed<String>>,
    pub(super) hosts: Vec<Placed<String>>,
    pub(super) public_url: Option<Placed<String>>,
    pub(super) site_urls: Vec<Placed<String>>,
    pub(super) groups: Vec<Placed<String>>,
    pub(super) credential: Option<Placed<String>>,
    pub(super) clients: Option<Placed<String>>,
    pub(super) max_connections: Option<Placed<usize>>,
    pub(super) tls: Option<RawTls>,
    pub(super) limits: Option<Limits>,
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
pub(super) enum RawAuth {
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

/// Encryption towards the server, as typed.
pub(super) struct RawUpstreamTls {
    pub(super) place: Range<usize>,
    pub(super) verification: Verification,
    pub(super) ca: Option<Placed<String>>,
    pub(super) identity: Option<(Placed<String>, Placed<String>)>,
}

/// How sure the gate must be of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verification {
    None,
    Full,
}

impl RawConfig {
    pub(super) fn read(root: &mut Section<'_, '_>) -> Self {
        for section in ["mcp", "admin"] {
            root.refuse(section, format!("`[{section}]` is not supported by this version"));
        }
        let policy_dir = root.string("policy_dir");
        if !root.has("postgres") && !root.has("jira") {
            let message = "`[postgres]` and `[jira]` are missing: there is no gate to serve";
            root.mistake(0..0, message);
        }
        if !root.has("audit") {
            root.mistake(0..0, "`[audit]` is missing: nothing passes that cannot be recorded");
        }
        let postgres = root.section("postgres", |section| Some(RawPostgres::read(section)));
        let jira = root.section("jira", |section| Some(RawJira::read(section)));
        let audit = root.section("audit", |section| Some(RawAudit::read(section)));
        Self { policy_dir, postgres, jira, audit }
    }
}

impl RawPostgres {
    fn read(section: &mut Section<'_, '_>) -> Self {
        let words = [("passthrough", RawAuth::Passthrough), ("users", RawAuth::Users)];
        Self {
            auth: section.word("auth", &words),
            users: section.string("users"),
            upstream_user: section.string("upstream_user"),
            upstream_password: section.string("upstream_password"),
            upstream_tls: section.section("upstream_tls", RawUpstreamTls::read),
            proxy_protocol_from: section.strings("proxy_protocol_from"),
            tls: section.section("tls", RawTls::read),
            listen: section.required("listen", Section::one_or_more),
            upstream: section.required("upstream", Section::string),
            max_connections: section.integer("max_connections", 1..=100_000),
        }
    }
}

impl RawJira {
    fn read(section: &mut Section<'_, '_>) -> Self {
        let mut list = |key| section.strings(key).map_or_else(Vec::new, |list| list.value);
        let (hosts, site_urls, groups) = (list("hosts"), list("site_urls"), list("groups"));
        Self {
            listen: section.required("listen", Section::one_or_more),
            upstream: section.required("upstream", Section::string),
            upstream_ca: section.section("upstream_tls", |tls| tls.required("ca", Section::string)),
            hosts,
            public_url: section.string("public_url"),
            site_urls,
            groups,
            credential: section.string("credential"),
            clients: section.string("clients"),
            max_connections: section.integer("max_connections", 1..=100_000),
            tls: section.section("tls", RawTls::read),
            limits: section.section("limits", |limits| Some(read_limits(limits))),
        }
    }
}

/// What one client of the JIRA gate may use; 0 is no bound.
fn read_limits(section: &mut Section<'_, '_>) -> Limits {
    let usual = Limits::default();
    let mut bound = |key, usual| match section.integer(key, 0..=1_000_000_u32) {
        Some(placed) => NonZeroU32::new(placed.value),
        None => usual,
    };
    Limits {
        concurrent_requests: bound("concurrent_requests", usual.concurrent_requests),
        requests_per_second: bound("requests_per_second", usual.requests_per_second),
        refusals_per_minute: bound("refusals_per_minute", usual.refusals_per_minute),
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

impl RawUpstreamTls {
    fn read(tls: &mut Section<'_, '_>) -> Option<Self> {
        let words = [
            ("disable", None),
            ("require", Some(Verification::None)),
            ("verify-full", Some(Verification::Full)),
        ];
        let mode = tls.required("mode", |tls, mode| tls.word(mode, &words));
        let (ca, cert, key) = (tls.string("ca"), tls.string("cert"), tls.string("key"));
        let Placed { value: Some(verification), place } = mode? else { return None };
        if let Some(ca) = ca.as_ref().filter(|_| verification == Verification::None) {
            let message = "`ca` has a meaning under `verify-full` only";
            let help = "`require` takes any certificate";
            tls.mistake_with_help(ca.place.clone(), message, help);
        }
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(half), None) | (None, Some(half)) => {
                tls.mistake(half.place, "`cert` and `key` go together");
                None
            }
        };
        Some(Self { place, verification, ca, identity })
    }
}
