//! What passes between start-up packet and ReadyForQuery, read and reworded where client and server
//! must not simply be joined: the protocol version, the SASL mechanisms, the cancel key, the pins.

use crate::postgres::frame::ProtocolViolation;
use crate::postgres::scram::Mechanism;
use crate::postgres::session::{PINNED, Pins, parameter_status};
use crate::postgres::startup::{NEWEST_MINOR, PinnedStartup, StartupMessage};

/// A message of this kind.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.push(kind);
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// What the server asks for while a client logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthStep {
    /// The client answers with a password or a SASL message.
    ClientAnswers,
    /// The server speaks again.
    ServerGoesOn,
    /// Logged in.
    Done,
}

/// Reads an authentication request.
///
/// # Errors
/// A method that cannot be passed through (GSSAPI, SSPI and whatever comes later).
pub fn auth_step(body: &[u8]) -> Result<AuthStep, ProtocolViolation> {
    let malformed = ProtocolViolation::Malformed("Authentication");
    let code = body.first_chunk::<4>().ok_or(malformed)?;
    match u32::from_be_bytes(*code) {
        0 => Ok(AuthStep::Done),
        // Clear text, md5, SASL, SASL continue.
        3 | 5 | 10 | 11 => Ok(AuthStep::ClientAnswers),
        12 => Ok(AuthStep::ServerGoesOn),
        _ => Err(malformed),
    }
}

/// Which minor version of protocol 3 is spoken, on both sides alike.
///
/// The server is asked for what the client asked for, as far as the gate speaks it; if the server
/// knows less, that holds for the client too. Two sides with different versions would disagree on
/// the length of cancel keys.
#[derive(Debug)]
pub struct Negotiation {
    asked: u16,
    agreed: u16,
    answered: Answered,
    unknown_options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    No,
    Yes,
}

impl Negotiation {
    /// Before the server has said a word.
    #[must_use]
    pub fn new(message: &StartupMessage, pinned: &PinnedStartup) -> Self {
        Self {
            asked: message.minor,
            agreed: pinned.minor,
            answered: Answered::No,
            unknown_options: pinned.unknown_options.clone(),
        }
    }

    /// Takes the server's `NegotiateProtocolVersion`.
    ///
    /// # Errors
    /// A version that was not asked for, or a second answer.
    pub fn on_server(&mut self, body: &[u8]) -> Result<(), ProtocolViolation> {
        let malformed = ProtocolViolation::Malformed("NegotiateProtocolVersion");
        let [a, b, c, d] = *body.first_chunk::<4>().ok_or(malformed)?;
        let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if major != 3 || minor > self.agreed || self.answered == Answered::Yes {
            return Err(ProtocolViolation::UnexpectedAnswer);
        }
        self.answered = Answered::Yes;
        // There never was a 3.1.
        self.agreed = if minor < NEWEST_MINOR { 0 } else { minor };
        Ok(())
    }

    /// The minor version that is spoken.
    #[must_use]
    pub const fn minor(&self) -> u16 {
        self.agreed
    }

    /// What the client is told before the first authentication message, if it asked for more than
    /// it gets.
    #[must_use]
    pub fn client_message(&self) -> Option<Vec<u8>> {
        if self.asked == self.agreed && self.unknown_options.is_empty() {
            return None;
        }
        let mut body = vec![0, 3];
        body.extend_from_slice(&self.agreed.to_be_bytes());
        let count = u32::try_from(self.unknown_options.len()).unwrap_or(u32::MAX);
        body.extend_from_slice(&count.to_be_bytes());
        for option in &self.unknown_options {
            body.extend_from_slice(option.as_bytes());
            body.push(0);
        }
        Some(message(b'v', &body))
    }
}

/// The server's list of SASL mechanisms without those that bind to a TLS channel, which does not
/// reach from the client to the server; `None` if none is left. `body` is that of the
/// authentication request.
#[must_use]
pub fn unbound_mechanisms(body: &[u8]) -> Option<Vec<u8>> {
    let (code, list) = body.split_first_chunk::<4>()?;
    let mut kept = code.to_vec();
    for mechanism in sasl_mechanisms(list) {
        if !mechanism.ends_with(b"-PLUS") {
            kept.extend_from_slice(mechanism);
            kept.push(0);
        }
    }
    if kept.len() == code.len() {
        return None;
    }
    kept.push(0);
    Some(message(b'R', &kept))
}

/// Whether a password exchange that is bound to a TLS channel can pass the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The two hops are two channels: what the client binds to, the server does not know.
    Cut,
    /// Both hops show the same certificate, and that is what an exchange is bound to.
    Through,
}

/// The names in a list of SASL mechanisms, which ends in an empty one.
#[must_use]
pub fn sasl_mechanisms(list: &[u8]) -> Vec<&[u8]> {
    list.split(|&byte| byte == 0).take_while(|name| !name.is_empty()).collect()
}

/// The authentication request that offers these mechanisms.
#[must_use]
pub fn sasl_request(offered: &[Mechanism]) -> Vec<u8> {
    let names = offered.iter().flat_map(|mechanism| [mechanism.name().as_bytes(), b"\0"]);
    sasl_message(10, &[names.collect::<Vec<_>>().concat(), vec![0]].concat())
}

/// An authentication request with this code.
#[must_use]
pub fn sasl_message(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], data].concat())
}

/// The body of SASLInitialResponse.
#[must_use]
pub fn sasl_initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
    [mechanism.as_bytes(), b"\0", &length, data].concat()
}

/// The body of SASLInitialResponse, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitial<'a> {
    /// The mechanism's name.
    pub mechanism: &'a [u8],
    /// The mechanism's first message.
    pub data: &'a [u8],
}

impl<'a> SaslInitial<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// One that holds no first message, or more than that.
    pub fn read(body: &'a [u8]) -> Result<Self, ProtocolViolation> {
        let read = || {
            let end = body.iter().position(|&byte| byte == 0)?;
            let (length, data) = body.get(end + 1..)?.split_first_chunk::<4>()?;
            let fits = usize::try_from(u32::from_be_bytes(*length)) == Ok(data.len());
            fits.then_some(Self { mechanism: body.get(..end)?, data })
        };
        read().ok_or(ProtocolViolation::Malformed("SASLInitialResponse"))
    }

    /// Whether the client could bind and believes that the server could not.
    #[must_use]
    pub fn misses_binding(&self) -> bool {
        self.data.starts_with(b"y,")
    }
}

/// The process id in a `BackendKeyData` body, after checking its length for this minor version.
#[must_use]
pub fn backend_pid(body: &[u8], minor: u16) -> Option<u32> {
    let (pid, secret) = body.split_first_chunk::<4>()?;
    let most = if minor < NEWEST_MINOR { 4 } else { 256 };
    (4..=most).contains(&secret.len()).then(|| u32::from_be_bytes(*pid))
}

/// What the server reported of its settings while the client logged in.
#[derive(Debug, Default)]
pub struct Reported {
    settings: Vec<(String, String)>,
}

impl Reported {
    /// Takes the body of a `ParameterStatus`.
    ///
    /// # Errors
    /// A body that does not hold a name and a value.
    pub fn take(&mut self, body: &[u8]) -> Result<(), ProtocolViolation> {
        let (name, value) =
            parameter_status(body).ok_or(ProtocolViolation::Malformed("ParameterStatus"))?;
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// The first pin that the server reports with another value. Servers before 14 and some poolers
    /// do not report all of them; the posture query reads them all.
    #[must_use]
    pub fn broken_pin(&self) -> Option<&'static str> {
        PINNED.iter().find_map(|(pin, right)| {
            let other = |(name, value): &(String, String)| name == pin && value != right;
            self.settings.iter().any(other).then_some(*pin)
        })
    }

    /// What must stay as it is from here on.
    #[must_use]
    pub fn pins(self, server_major: u32) -> Pins {
        let noted = ["is_superuser", "session_authorization"];
        let mut settings = self.settings;
        settings.retain(|(name, _)| noted.contains(&name.as_str()));
        Pins { server_major, reported_at_login: settings }
    }
}

#[cfg(test)]
mod tests {
    use super::{Negotiation, Reported, backend_pid, unbound_mechanisms};
    use crate::policy::verdict::Denial;
    use crate::postgres::startup::{PinnedStartup, StartupMessage, StartupSettings};

    struct Nothing;

    impl StartupSettings for Nothing {
        fn judge_setting(&self, _: &str, _: &str) -> Result<(), Denial> {
            Ok(())
        }
    }

    fn negotiation(minor: u16, option: Option<&str>) -> Negotiation {
        let mut parameters = vec![("user".to_owned(), "ann".to_owned())];
        parameters.extend(option.map(|name| (name.to_owned(), "1".to_owned())));
        let message = StartupMessage { minor, parameters };
        let pinned = PinnedStartup::rebuild(&message, &Nothing).expect("allowed");
        Negotiation::new(&message, &pinned)
    }

    #[test]
    fn a_client_that_gets_what_it_asked_for_is_told_nothing() {
        for minor in [0, 2] {
            assert_eq!(negotiation(minor, None).client_message(), None);
        }
    }

    #[test]
    fn grease_is_answered_with_the_newest_minor_that_is_not_newer_than_asked() {
        for (asked, told) in [(1, 0), (3, 2), (7, 2), (9999, 2)] {
            let message = negotiation(asked, None).client_message().expect("told");
            assert_eq!(message, [b'v', 0, 0, 0, 12, 0, 3, 0, told, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn an_older_server_makes_the_session_older_on_both_sides() {
        let mut negotiation = negotiation(2, Some("_pq_.foo"));
        assert_eq!(negotiation.on_server(&[0, 3, 0, 0, 0, 0, 0, 0]), Ok(()));

        assert_eq!(negotiation.minor(), 0);
        let message = negotiation.client_message().expect("told");
        assert_eq!(message, b"v\0\0\0\x15\0\x03\0\0\0\0\0\x01_pq_.foo\0");
        assert!(negotiation.on_server(&[0, 3, 0, 0, 0, 0, 0, 0]).is_err(), "once only");
    }

    #[test]
    fn a_server_cannot_talk_the_session_up() {
        assert!(negotiation(0, None).on_server(&[0, 3, 0, 2, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn channel_binding_is_not_offered_to_a_client_in_clear() {
        let both = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let kept = unbound_mechanisms(both).expect("one is left");
        assert_eq!(kept, b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0");
        assert_eq!(unbound_mechanisms(b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0\0"), None);
    }

    #[test]
    fn a_key_has_the_length_of_its_protocol_version() {
        assert_eq!(backend_pid(&[0, 0, 0, 7, 1, 2, 3, 4], 0), Some(7));
        assert_eq!(backend_pid(&[0; 36], 0), None);
        assert_eq!(backend_pid(&[0; 36], 2), Some(0));
        assert_eq!(backend_pid(&[0; 261], 2), None);
        assert_eq!(backend_pid(&[0; 7], 2), None);
    }

    #[test]
    fn a_reported_pin_with_another_value_is_seen() {
        let mut reported = Reported::default();
        reported.take(b"client_encoding\0UTF8\0").expect("whole");
        assert_eq!(reported.broken_pin(), None);
        reported.take(b"default_transaction_read_only\0off\0").expect("whole");
        assert_eq!(reported.broken_pin(), Some("default_transaction_read_only"));
        assert!(reported.take(b"no value").is_err());
    }
}
