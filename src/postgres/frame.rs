//! Frames: where a message begins and ends, and nothing else.
//!
//! Strict on purpose. Two readers that disagree about where a message ends are how statements are
//! smuggled, so every length is checked against the bounds of its type *before* a byte of the body
//! is waited for, and memory grows only with bytes that have arrived (protocol chapter
//! "Message Formats"; checklist B1 to B3).

use crate::policy::reason::Reason;

/// Longest message a client may send: 16 MiB. PostgreSQL takes 1 GiB; a read needs far less, and
/// the gate holds a whole message in memory before it judges it.
pub const MAX_CLIENT_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// Longest message taken while logging in (password, SASL): 64 KiB, as PostgreSQL has it.
pub const MAX_LOGIN_FRAME_BYTES: usize = 64 * 1024;

/// Longest message from the server that is held as a whole (errors, row descriptions and so on):
/// 16 MiB. Rows and COPY data are not held and may be as long as the protocol lets them.
pub const MAX_SERVER_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// A fault that ends the connection, because from here on nobody knows what the bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolViolation {
    /// A body that does not parse exactly as its type says.
    #[error("malformed {0} message")]
    Malformed(&'static str),
    /// A length outside the bounds of its type.
    #[error("message with an impossible length")]
    BadLength,
    /// COPY data from a client that was not asked for any.
    #[error("COPY data out of place")]
    CopyOutOfPlace,
    /// A simple query or a function call before the Sync of an extended series.
    #[error("query inside an unfinished extended series")]
    QueryInSeries,
    /// A message while another one still waits for its answer.
    #[error("message while the session is busy")]
    Busy,
    /// More messages in one series than the gate will follow.
    #[error("too many messages without Sync")]
    SeriesTooLong,
    /// A message type that no client sends.
    #[error("unknown message type")]
    UnknownType,
    /// An answer from the server that fits no question.
    #[error("unexpected message from the server")]
    UnexpectedAnswer,
    /// The server began a COPY that takes data in.
    #[error("the server asked for COPY data")]
    CopyInStarted,
    /// A pinned setting changed.
    #[error("a pinned setting changed")]
    Tripwire,
}

impl ProtocolViolation {
    /// The reason under which it is logged and answered.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::BadLength | Self::Malformed(_) => Reason::ProtoBadLength,
            Self::CopyOutOfPlace | Self::QueryInSeries | Self::Busy | Self::SeriesTooLong => {
                Reason::ProtoOutOfOrder
            }
            Self::UnknownType => Reason::ProtoUnknownMessage,
            Self::UnexpectedAnswer => Reason::Internal,
            Self::CopyInStarted | Self::Tripwire => Reason::Tripwire,
        }
    }
}

/// A whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its type byte.
    pub kind: u8,
    /// What follows the length.
    pub body: &'a [u8],
    /// All of it, as received.
    pub raw: &'a [u8],
}

/// The type byte and the length on the wire (body and the length field itself).
fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let (&kind, rest) = bytes.split_first()?;
    let length = rest.first_chunk::<4>()?;
    // A negative length becomes a huge one and fails every bound.
    Some((kind, usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX)))
}

/// The next whole message from a client, or `None` if more bytes are needed.
///
/// # Errors
/// A type that clients do not send, or a length outside the bounds of its type.
pub fn next_client_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, ProtocolViolation> {
    client_frame_within(bytes, MAX_CLIENT_FRAME_BYTES)
}

/// The same, where a message may be no longer than `longest` (its length field included).
///
/// # Errors
/// The same, and a longer message.
pub fn client_frame_within(
    bytes: &[u8],
    longest: usize,
) -> Result<Option<Frame<'_>>, ProtocolViolation> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    let (least, most) = client_bounds(kind).ok_or(ProtocolViolation::UnknownType)?;
    take(bytes, (least, most.min(longest)))
}

/// The next whole answer of a client during login, or `None` if more bytes are needed.
///
/// # Errors
/// Any other type than `p`, or a length outside the bounds.
pub fn next_login_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, ProtocolViolation> {
    match bytes.first() {
        None => Ok(None),
        Some(b'p') => take(bytes, (5, MAX_LOGIN_FRAME_BYTES)),
        Some(_) => Err(ProtocolViolation::UnknownType),
    }
}

/// The next whole message from a server, or `None` if more bytes are needed.
///
/// # Errors
/// A length outside the bounds.
pub fn next_server_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, ProtocolViolation> {
    take(bytes, (4, MAX_SERVER_FRAME_BYTES))
}

/// Type and whole length (type byte included) of the message that begins here; `None` if the header
/// is not complete.
///
/// # Errors
/// A length below 4 or above the protocol's 1 GiB.
pub fn server_header(bytes: &[u8]) -> Result<Option<(u8, usize)>, ProtocolViolation> {
    match header(bytes) {
        None => Ok(None),
        Some((_, length)) if !(4..=0x3fff_ffff).contains(&length) => {
            Err(ProtocolViolation::BadLength)
        }
        Some((kind, length)) => Ok(Some((kind, length + 1))),
    }
}

fn take(
    bytes: &[u8],
    (least, most): (usize, usize),
) -> Result<Option<Frame<'_>>, ProtocolViolation> {
    let Some((kind, length)) = header(bytes) else { return Ok(None) };
    if length < least || length > most {
        return Err(ProtocolViolation::BadLength);
    }
    let Some(raw) = bytes.get(..=length) else { return Ok(None) };
    let body = raw.get(5..).unwrap_or_default();
    Ok(Some(Frame { kind, body, raw }))
}

/// Least and greatest length field of each message that a client may send after login.
const fn client_bounds(kind: u8) -> Option<(usize, usize)> {
    match kind {
        b'Q' | b'f' => Some((5, MAX_CLIENT_FRAME_BYTES)),
        b'P' => Some((8, MAX_CLIENT_FRAME_BYTES)),
        b'B' => Some((12, MAX_CLIENT_FRAME_BYTES)),
        b'F' => Some((14, MAX_CLIENT_FRAME_BYTES)),
        b'E' => Some((9, 8 + MAX_NAME_BYTES)),
        b'D' | b'C' => Some((6, 5 + MAX_NAME_BYTES)),
        b'H' | b'S' | b'X' | b'c' => Some((4, 4)),
        b'd' => Some((4, MAX_CLIENT_FRAME_BYTES)),
        _ => None,
    }
}

/// Longest name of a statement or portal on the wire, with its zero byte: 64 KiB. PostgreSQL has no
/// bound of its own here; drivers stay below 100 bytes.
const MAX_NAME_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::{Frame, ProtocolViolation, next_client_frame, server_header};

    #[test]
    fn an_announced_gibibyte_is_refused_before_it_arrives() {
        assert_eq!(next_client_frame(b"Q\x3f\xff\xff\xff"), Err(ProtocolViolation::BadLength));
        assert_eq!(next_client_frame(b"Q\xff\xff\xff\xff"), Err(ProtocolViolation::BadLength));
    }

    #[test]
    fn a_length_below_the_least_of_its_type_is_refused() {
        for bytes in [b"Q\0\0\0\x04", b"S\0\0\0\x05", b"P\0\0\0\x04", b"B\0\0\0\x05"] {
            assert_eq!(next_client_frame(bytes), Err(ProtocolViolation::BadLength));
        }
    }

    #[test]
    fn unknown_types_are_refused_at_the_first_byte() {
        for kind in [b'p', b'y', 0, b'Z', b'R'] {
            assert_eq!(next_client_frame(&[kind]), Err(ProtocolViolation::UnknownType));
        }
    }

    #[test]
    fn a_message_is_taken_only_when_whole() {
        let wire = b"Q\0\0\0\x06a\0rest";

        assert_eq!(next_client_frame(&wire[..6]), Ok(None));
        let frame = Frame { kind: b'Q', body: b"a\0", raw: &wire[..7] };
        assert_eq!(next_client_frame(wire), Ok(Some(frame)));
    }

    #[test]
    fn server_lengths_outside_the_protocol_are_refused() {
        assert_eq!(server_header(b"D\0\0\0\x03"), Err(ProtocolViolation::BadLength));
        assert_eq!(server_header(b"D\xff\xff\xff\xff"), Err(ProtocolViolation::BadLength));
        assert_eq!(server_header(b"D\0\0\0\x04"), Ok(Some((b'D', 5))));
    }
}
