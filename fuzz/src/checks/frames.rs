//! The strict readers: what they take is whole, is the same when it is read from its own parts, and
//! is what a second, simple reader takes too.

use rowarden::postgres::frame::{
    Frame, next_client_frame, next_login_frame, next_server_frame, server_header,
};
use rowarden::postgres::message::{ClientMessage, Target};

use super::wire::{self, Reader};

/// Reads `data` as a client's bytes, as a login's and as a server's.
///
/// # Panics
/// When a reader takes what it must not.
pub fn check(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(frame)) = next_client_frame(rest) {
        rest = check_whole(frame, rest);
        check_shorter(frame, |bytes| matches!(next_client_frame(bytes), Ok(None)));
        check_message(frame);
    }
    let mut rest = data;
    while let Ok(Some(frame)) = next_login_frame(rest) {
        assert_eq!(frame.kind, b'p');
        rest = check_whole(frame, rest);
    }
    let mut rest = data;
    while let Ok(Some(frame)) = next_server_frame(rest) {
        assert_eq!(server_header(rest), Ok(Some((frame.kind, frame.raw.len()))));
        rest = check_whole(frame, rest);
        check_shorter(frame, |bytes| matches!(next_server_frame(bytes), Ok(None)));
    }
}

/// The frame is the front of the bytes, and its parts are its own; what is left.
fn check_whole<'a>(frame: Frame<'a>, bytes: &'a [u8]) -> &'a [u8] {
    let (front, rest) = bytes.split_at(frame.raw.len());
    assert_eq!(front, frame.raw);
    assert_eq!(wire::message(frame.kind, frame.body), frame.raw);
    rest
}

/// The type byte alone may be enough for a refusal, but never fewer bytes for a message.
fn check_shorter(frame: Frame<'_>, waits: impl Fn(&[u8]) -> bool) {
    let last = frame.raw.len() - 1;
    for length in [0, 1, 2, 3, 4, 5, last / 2, last] {
        let part = &frame.raw[..length.min(last)];
        assert!(waits(part), "taken from {length} of {} bytes", frame.raw.len());
    }
}

fn check_message(frame: Frame<'_>) {
    let Ok(message) = ClientMessage::read(frame) else { return };
    assert_eq!(ClientMessage::read(frame), Ok(message), "read again");
    let written = match message {
        ClientMessage::Bind(bind) => {
            assert_eq!(bind.raw, frame.raw);
            let names = second_look_at_bind(frame.body);
            assert_eq!(names, Some((bind.portal.as_bytes(), bind.statement.as_bytes())));
            return;
        }
        ClientMessage::Close(target) => wire::message(b'C', &target_body(target)),
        ClientMessage::Describe(target) => wire::message(b'D', &target_body(target)),
        ClientMessage::Execute(portal) => {
            let rows = &frame.body[frame.body.len() - 4..];
            wire::message(b'E', &[portal.as_bytes(), b"\0", rows].concat())
        }
        ClientMessage::Parse(parse) => {
            let name = parse.name.as_bytes();
            wire::message(b'P', &[name, b"\0", parse.sql, b"\0", parse.parameter_types].concat())
        }
        ClientMessage::Query(sql) => wire::message(b'Q', &[sql, b"\0"].concat()),
        ClientMessage::Flush => wire::message(b'H', b""),
        ClientMessage::Sync => wire::message(b'S', b""),
        ClientMessage::Terminate => wire::message(b'X', b""),
        // Their bodies are never looked at: they are refused or dropped.
        ClientMessage::Copy | ClientMessage::FunctionCall => return,
    };
    assert_eq!(written, frame.raw);
}

fn target_body(target: Target<'_>) -> Vec<u8> {
    let (kind, name) = match target {
        Target::Portal(name) => (b"P", name),
        Target::Statement(name) => (b"S", name),
    };
    [kind, name.as_bytes(), b"\0"].concat()
}

/// Portal and statement of a Bind, read as PostgreSQL's `exec_bind_message` reads it.
fn second_look_at_bind(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader(body);
    let portal = reader.text()?;
    let statement = reader.text()?;
    let formats = reader.int2()?;
    reader.bytes(2 * usize::from(formats))?;
    let values = reader.int2()?;
    for _ in 0..values {
        let length = reader.int4()?;
        if length != u32::MAX {
            reader.bytes(length as usize)?;
        }
    }
    let results = reader.int2()?;
    reader.bytes(2 * usize::from(results))?;
    let fits = formats <= 1 || formats == values;
    (fits && reader.0.is_empty()).then_some((portal, statement))
}
