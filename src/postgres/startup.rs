//! The first packets of a connection: encryption requests, cancel requests, and the start-up packet
//! itself, which is never forwarded but rebuilt from an allow list and pinned.
//!
//! Why rebuilt: start-up parameters set anything (`options=-c default_transaction_read_only=off`),
//! the last of two duplicates wins, dashes count as underscores, and a packet that two readers
//! split differently lets a client log in as somebody the gate did not see (checklist A4 to A20).

use crate::audit::event::Receipt;
use crate::policy::file::Policy;
use crate::policy::reason::Reason;
use crate::policy::sql::setting::{judge_startup_setting, known_encoding};
use crate::policy::verdict::Denial;
use crate::postgres::reply::Complaint;
use crate::postgres::session::PINNED;

/// Longest start-up packet, as PostgreSQL has it: 10,000 bytes.
pub const MAX_STARTUP_BYTES: usize = 10_000;

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// Newest minor version of protocol 3 that the gate speaks.
pub const NEWEST_MINOR: u16 = 2;

/// What a connection may open with.
#[derive(Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// A cancel request with the key that the gate handed out.
    Cancel {
        /// Process id.
        pid: u32,
        /// The secret: 4 bytes, or up to 256 in protocol 3.2.
        secret: Vec<u8>,
    },
    /// A request for GSSAPI encryption.
    GssEnc,
    /// A request for TLS.
    Ssl,
    /// The start-up packet.
    Startup(StartupMessage),
}

/// The start-up packet, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartupMessage {
    /// Minor version of protocol 3 that the client asked for.
    pub minor: u16,
    /// Names and values in the order of the packet; names are unique.
    pub parameters: Vec<(String, String)>,
}

/// Why a first packet is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupRefusal {
    /// Not even a packet: close without a word, as PostgreSQL does.
    #[error("not a start-up packet")]
    Silent(Reason),
    /// Bytes behind an encryption request.
    #[error("bytes behind an encryption request")]
    Stuffing,
    /// A login in clear where only encrypted ones are taken.
    #[error("a connection in clear where encryption is required")]
    InClear,
    /// A packet that breaks its own form.
    #[error("malformed start-up packet")]
    Malformed,
    /// A protocol version that nobody here speaks.
    #[error("unsupported protocol {0}.{1}")]
    Version(u16, u16),
    /// A replication connection.
    #[error("replication connection")]
    Replication,
    /// A client encoding other than UTF-8.
    #[error("unsupported client encoding")]
    Encoding,
    /// A parameter outside the allow list.
    #[error("start-up parameter refused: {}", .0.operation)]
    Parameter(Denial),
}

impl StartupRefusal {
    /// The reason under which it is logged.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Silent(reason) => *reason,
            Self::Stuffing => Reason::ProtoStuffing,
            Self::InClear => Reason::ProtoTlsRequired,
            Self::Malformed => Reason::ProtoBadLength,
            Self::Version(..) => Reason::ProtoVersion,
            Self::Replication => Reason::ProtoReplication,
            Self::Encoding | Self::Parameter(_) => Reason::ProtoStartup,
        }
    }

    /// What the client reads before the connection is closed; nothing where PostgreSQL says nothing.
    #[must_use]
    pub fn complaint(&self, receipt: Option<&Receipt>) -> Option<Complaint> {
        let reason = self.reason();
        let words = match self {
            Self::Silent(_) | Self::Stuffing => return None,
            Self::InClear => "this gate takes encrypted connections only".to_owned(),
            Self::Malformed => "invalid startup packet".to_owned(),
            Self::Version(major, minor) => {
                format!(
                    "unsupported frontend protocol {major}.{minor}: this gate speaks 3.0 to 3.{NEWEST_MINOR}"
                )
            }
            Self::Replication => {
                "replication connections do not pass this read-only gate".to_owned()
            }
            Self::Encoding => "this gate takes SQL text in UTF-8 only".to_owned(),
            Self::Parameter(denial) => denial.message(),
        };
        let complaint = Complaint::fault(reason, &words, receipt).as_fatal();
        Some(match self {
            Self::Encoding => complaint.with_hint("set PGCLIENTENCODING=UTF8"),
            Self::Malformed => complaint.with_sqlstate("08P01"),
            _ => complaint,
        })
    }
}

/// What the gate makes of encryption on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// It has no certificate: who asks is told to go on in clear.
    #[default]
    Declined,
    /// Whoever asks gets it.
    Offered,
    /// Without it there is no login and no cancel request.
    Required,
}

/// How far the opening has come: each kind of encryption request may come once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    encryption: Encryption,
    channel: Channel,
    ssl: Asked,
    gss: Asked,
}

/// What the packets come through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Channel {
    #[default]
    Clear,
    Encrypted,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    NotYet,
    Once,
}

/// The first byte of a TLS handshake record (RFC 8446, section 5.1). No packet of PostgreSQL's begins
/// with it: as a length it would be beyond every bound.
const TLS_HANDSHAKE: u8 = 0x16;

/// Length of the first packet; `None` if fewer than four bytes are here.
///
/// # Errors
/// A length that no first packet has; nothing is said to such a peer.
pub fn first_packet_bytes(bytes: &[u8]) -> Result<Option<usize>, StartupRefusal> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if (8..=MAX_STARTUP_BYTES).contains(&length) {
        Ok(Some(length))
    } else {
        Err(StartupRefusal::Silent(Reason::ProtoBadLength))
    }
}

impl Opening {
    /// Before the first byte of a connection.
    #[must_use]
    pub fn new(encryption: Encryption) -> Self {
        Self { encryption, ..Self::default() }
    }

    /// What the gate makes of encryption here.
    #[must_use]
    pub const fn encryption(self) -> Encryption {
        self.encryption
    }

    /// Whether the connection begins with a TLS handshake that nobody asked leave for, as clients of
    /// PostgreSQL 17 and later may (`sslnegotiation=direct`). Only as the very first bytes.
    #[must_use]
    pub fn is_direct_tls(self, bytes: &[u8]) -> bool {
        self == Self::new(self.encryption)
            && self.encryption != Encryption::Declined
            && bytes.first() == Some(&TLS_HANDSHAKE)
    }

    /// The rest of the opening comes encrypted; there is no second layer to ask for.
    #[must_use]
    pub const fn encrypted(self) -> Self {
        Self { channel: Channel::Encrypted, ssl: Asked::Once, ..self }
    }

    /// Takes a whole first packet; `behind` is how many bytes have already come after it.
    ///
    /// # Errors
    /// A packet that is refused; the connection is closed after the complaint, if there is one.
    pub fn on_packet(
        self,
        packet: &[u8],
        behind: usize,
    ) -> Result<(Self, FirstPacket), StartupRefusal> {
        let malformed = StartupRefusal::Silent(Reason::ProtoBadLength);
        let Some((code, body)) = packet.get(4..).and_then(|rest| rest.split_first_chunk::<4>())
        else {
            return Err(malformed);
        };
        match (u32::from_be_bytes(*code), self) {
            (SSL_REQUEST | GSSENC_REQUEST, _) if !body.is_empty() => Err(malformed),
            // The answer must be on its way before anything else may come, or clear bytes would be
            // taken for encrypted ones (CVE-2021-23214).
            (SSL_REQUEST | GSSENC_REQUEST, _) if behind > 0 => Err(StartupRefusal::Stuffing),
            (SSL_REQUEST, Self { ssl: Asked::NotYet, .. }) => {
                Ok((Self { ssl: Asked::Once, ..self }, FirstPacket::Ssl))
            }
            (GSSENC_REQUEST, Self { gss: Asked::NotYet, .. }) => {
                Ok((Self { gss: Asked::Once, ..self }, FirstPacket::GssEnc))
            }
            (SSL_REQUEST | GSSENC_REQUEST, _) => {
                Err(StartupRefusal::Silent(Reason::ProtoOutOfOrder))
            }
            // Its secret is worth a running query; nobody on the way may read it.
            (CANCEL_REQUEST, _) if self.must_not_be_in_clear() => {
                Err(StartupRefusal::Silent(Reason::ProtoTlsRequired))
            }
            (CANCEL_REQUEST, _) => Ok((self, read_cancel(body, behind).ok_or(malformed)?)),
            (version, _) => {
                let message = read_startup(version, body)?;
                if self.must_not_be_in_clear() {
                    return Err(StartupRefusal::InClear);
                }
                Ok((self, FirstPacket::Startup(message)))
            }
        }
    }

    fn must_not_be_in_clear(self) -> bool {
        self.encryption == Encryption::Required && self.channel == Channel::Clear
    }
}

fn read_cancel(body: &[u8], behind: usize) -> Option<FirstPacket> {
    let (pid, secret) = body.split_first_chunk::<4>()?;
    let fits = (4..=256).contains(&secret.len()) && behind == 0;
    fits.then(|| FirstPacket::Cancel { pid: u32::from_be_bytes(*pid), secret: secret.to_vec() })
}

fn read_startup(version: u32, body: &[u8]) -> Result<StartupMessage, StartupRefusal> {
    let [a, b, c, d] = version.to_be_bytes();
    let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match major {
        3 => {}
        1 | 2 | 4..=9 | 0 => return Err(StartupRefusal::Version(major, minor)),
        // Random bytes, an HTTP request, a TLS hello: no answer that could be read as one.
        _ => return Err(StartupRefusal::Silent(Reason::ProtoBadLength)),
    }
    let mut message = StartupMessage { minor, parameters: Vec::new() };
    let mut rest = body;
    loop {
        let name = take_text(&mut rest).ok_or(StartupRefusal::Malformed)?;
        if name.is_empty() {
            break;
        }
        let value = take_text(&mut rest).ok_or(StartupRefusal::Malformed)?;
        if message.parameter(&name).is_some() {
            return Err(StartupRefusal::Malformed);
        }
        message.parameters.push((name, value));
    }
    if rest.is_empty() { Ok(message) } else { Err(StartupRefusal::Malformed) }
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let end = rest.iter().position(|&byte| byte == 0)?;
    let text = std::str::from_utf8(rest.get(..end)?).ok()?.to_owned();
    *rest = rest.get(end + 1..)?;
    Some(text)
}

impl StartupMessage {
    /// The value of a parameter, by its exact name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A start-up packet as it goes to the server: what was allowed, then the pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedStartup {
    /// Minor version asked of the server.
    pub minor: u16,
    /// Role on the wire.
    pub user: String,
    /// Database; the role's name if the client named none.
    pub database: String,
    /// What the client calls itself.
    pub application_name: Option<String>,
    /// `_pq_.` options that the client asked for; none of them is known here or sent on.
    pub unknown_options: Vec<String>,
    parameters: Vec<(String, String)>,
}

/// Whether the policy lets a client give this setting this value.
pub trait StartupSettings {
    /// # Errors
    /// The refusal, naming the setting.
    fn judge_setting(&self, name: &str, value: &str) -> Result<(), Denial>;
}

impl StartupSettings for Policy {
    fn judge_setting(&self, name: &str, value: &str) -> Result<(), Denial> {
        judge_startup_setting(self, name, value)
    }
}

impl PinnedStartup {
    /// Rebuilds a client's start-up packet.
    ///
    /// # Errors
    /// Parameters that no reader needs, or that would undo a pin.
    pub fn rebuild(
        message: &StartupMessage,
        settings: &dyn StartupSettings,
    ) -> Result<Self, StartupRefusal> {
        let mut pinned = Self {
            // There never was a 3.1.
            minor: if message.minor < NEWEST_MINOR { 0 } else { NEWEST_MINOR },
            user: String::new(),
            database: String::new(),
            application_name: None,
            unknown_options: Vec::new(),
            parameters: Vec::new(),
        };
        // Named parameters beat `options` in the server whatever their order, so those go first.
        if let Some(options) = message.parameter("options") {
            for (name, value) in split_options(options)? {
                pinned.take_setting(&name, &value, settings)?;
            }
        }
        for (name, value) in &message.parameters {
            match name.as_str() {
                "user" => pinned.user.clone_from(value),
                "database" => pinned.database.clone_from(value),
                "options" => {}
                "replication" if is_off(value) => {}
                "replication" => return Err(StartupRefusal::Replication),
                option if option.starts_with("_pq_.") => {
                    pinned.unknown_options.push(option.to_owned());
                }
                setting => pinned.take_setting(setting, value, settings)?,
            }
        }
        if pinned.user.is_empty() {
            return Err(StartupRefusal::Malformed);
        }
        if pinned.database.is_empty() {
            pinned.database.clone_from(&pinned.user);
        }
        Ok(pinned)
    }

    fn take_setting(
        &mut self,
        name: &str,
        value: &str,
        settings: &dyn StartupSettings,
    ) -> Result<(), StartupRefusal> {
        let name = name.to_ascii_lowercase();
        if name == "client_encoding" {
            // Both names are pinned to UTF-8.
            return known_encoding(value).map(drop).ok_or(StartupRefusal::Encoding);
        }
        settings.judge_setting(&name, value).map_err(|denial| {
            StartupRefusal::Parameter(Denial { reason: Reason::ProtoStartup, ..denial })
        })?;
        if PINNED.iter().any(|(pin, _)| *pin == name) {
            return Ok(());
        }
        if name == "application_name" {
            self.application_name = Some(value.to_owned());
        }
        self.parameters.retain(|(known, _)| *known != name);
        self.parameters.push((name, value.to_owned()));
        Ok(())
    }

    /// Whether the client itself gave this setting a value.
    #[must_use]
    pub fn sets(&self, name: &str) -> bool {
        self.parameters.iter().any(|(known, _)| known == name)
    }

    /// The packet as it goes to the server.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(256);
        body.extend_from_slice(&[0, 3]);
        body.extend_from_slice(&self.minor.to_be_bytes());
        let who = [("user", self.user.as_str()), ("database", self.database.as_str())];
        let settings = self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in who.into_iter().chain(settings).chain(PINNED) {
            for text in [name, value] {
                body.extend_from_slice(text.as_bytes());
                body.push(0);
            }
        }
        body.push(0);
        let mut packet = Vec::with_capacity(body.len() + 4);
        packet.extend_from_slice(&u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
        packet.extend_from_slice(&body);
        packet
    }
}

fn is_off(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "false" | "off" | "no" | "0" | "f" | "n")
}

/// Splits `options` as the server does: white space separates, a backslash takes the next character
/// as it is; then `-c name=value`, `-cname=value` and `--name=value`, with dashes for underscores.
fn split_options(options: &str) -> Result<Vec<(String, String)>, StartupRefusal> {
    let mut words = split_words(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let refused = || {
            let operation =
                format!("start-up option {}", word.chars().take(40).collect::<String>());
            StartupRefusal::Parameter(Denial::new(Reason::ProtoStartup, operation, "startup"))
        };
        let setting = match word.strip_prefix("--") {
            Some(long) => long.to_owned(),
            None => match word.strip_prefix("-c") {
                Some("") => words.next().ok_or_else(refused)?,
                Some(attached) => attached.to_owned(),
                None => return Err(refused()),
            },
        };
        let (name, value) = setting.split_once('=').ok_or_else(refused)?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split_words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            space if space.is_ascii_whitespace() || space == '\x0b' => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::{
        FirstPacket, Opening, PinnedStartup, StartupRefusal, StartupSettings, first_packet_bytes,
    };
    use crate::policy::reason::Reason;
    use crate::policy::verdict::Denial;

    struct Only(&'static [&'static str]);

    impl StartupSettings for Only {
        fn judge_setting(&self, name: &str, value: &str) -> Result<(), Denial> {
            let fits = self.0.contains(&name) && value != "off";
            fits.then_some(()).ok_or_else(|| Denial::new(Reason::SqlSetting, name, "test"))
        }
    }

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 8).expect("short");
        [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    fn rebuild(body: &[u8]) -> Result<PinnedStartup, StartupRefusal> {
        let (_, first) = Opening::default().on_packet(&packet(3 << 16, body), 0)?;
        let FirstPacket::Startup(message) = first else { panic!("not a start-up packet") };
        PinnedStartup::rebuild(
            &message,
            &Only(&["datestyle", "search_path", "default_transaction_read_only"]),
        )
    }

    #[test]
    fn impossible_lengths_get_no_answer() {
        for length in [0_u32, 3, 7, 10_001, u32::MAX] {
            assert!(first_packet_bytes(&length.to_be_bytes()).is_err());
        }
    }

    #[test]
    fn bytes_behind_an_encryption_request_are_stuffing() {
        let ssl = packet(80_877_103, b"");
        assert_eq!(Opening::default().on_packet(&ssl, 1), Err(StartupRefusal::Stuffing));
    }

    #[test]
    fn each_encryption_request_may_come_once() {
        let (ssl, gss) = (packet(80_877_103, b""), packet(80_877_104, b""));
        let (opening, _) = Opening::default().on_packet(&ssl, 0).expect("first");
        let (opening, _) = opening.on_packet(&gss, 0).expect("the other kind");
        assert!(opening.on_packet(&ssl, 0).is_err());
        assert!(opening.on_packet(&gss, 0).is_err());
    }

    #[test]
    fn the_packet_that_goes_up_ends_with_the_pins() {
        let pinned = rebuild(b"user\0ann\0DateStyle\0ISO\0\0").expect("allowed");
        let bytes = pinned.encode();
        let pins = b"default_transaction_read_only\0on\0standard_conforming_strings\0on\0client_encoding\0UTF8\0\0";
        assert!(bytes.ends_with(pins));
        assert!(bytes.windows(14).any(|window| window == b"datestyle\0ISO\0"));
    }

    #[test]
    fn a_pin_cannot_be_undone_in_any_spelling() {
        for body in [
            &b"user\0ann\0default_transaction_read_only\0off\0\0"[..],
            b"user\0ann\0options\0-c default_transaction_read_only=off\0\0",
            b"user\0ann\0options\0--default-transaction-read-only=off\0\0",
            b"user\0ann\0options\0-cDEFAULT_transaction_read_only=off\0\0",
            b"user\0ann\0options\0-c default\\_transaction_read_only=off\0\0",
            b"user\0ann\0options\0-O\0\0",
        ] {
            assert!(matches!(rebuild(body), Err(StartupRefusal::Parameter(_))), "{body:?}");
        }
    }

    #[test]
    fn odd_packets_are_refused_and_not_repaired() {
        for body in [
            &b"user\0ann\0user\0bob\0\0"[..],
            b"user\0ann\0",
            b"user\0ann\0\0more",
            b"database\0x\0\0",
            b"user\0\xff\0\0",
        ] {
            assert_eq!(rebuild(body), Err(StartupRefusal::Malformed), "{body:?}");
        }
    }

    #[test]
    fn replication_and_foreign_encodings_are_refused_and_utf8_in_any_spelling_is_not() {
        assert_eq!(
            rebuild(b"user\0a\0replication\0database\0\0"),
            Err(StartupRefusal::Replication)
        );
        assert_eq!(rebuild(b"user\0a\0client_encoding\0SJIS\0\0"), Err(StartupRefusal::Encoding));
        for name in ["UTF8", "utf-8", "'utf-8'", "Unicode", "SQL_ASCII"] {
            let body = format!("user\0a\0client_encoding\0{name}\0\0");
            assert!(rebuild(body.as_bytes()).is_ok(), "{name}");
        }
    }
}
