//! Where a request's head ends and how long its body is, in one reading only (RFC 9112).
//!
//! This stands in front of hyper, which is strict and yet passes on what another parser may read
//! otherwise: a length beside chunks, line ends without CR, chunk extensions, a cut fragment. What
//! two parsers can read in two ways is how a write is smuggled behind a read, so the bytes are held
//! to the narrowest form that clients send, and hyper sees them only then.

use std::ops::ControlFlow;

use hyper::Uri;

/// Longest request line: 8 KiB. A JQL query of 6 KiB in a URL is seen in practice.
pub const MAX_REQUEST_LINE_BYTES: usize = 8 * 1024;

/// Longest head: 16 KiB.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most header fields.
pub const MAX_FIELDS: usize = 64;

/// Longest size line of a chunk: no client writes more than sixteen digits.
const MAX_SIZE_DIGITS: u8 = 8;

/// Bytes that are not a request in exactly one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingFault {
    /// The body did not come in time.
    #[error("the body took too long")]
    BodyTooSlow,
    /// The connection ended inside the body.
    #[error("the body ends too early")]
    BodyTooShort,
    /// A chunk that is not `SIZE CRLF DATA CRLF`.
    #[error("a chunk is malformed")]
    Chunk,
    /// A header field that is not `name: value`, or a line that continues one.
    #[error("a header field is malformed")]
    Field,
    /// More than the cap on heads.
    #[error("the header is too large")]
    HeadTooLarge,
    /// The head did not come in time.
    #[error("the header took too long")]
    HeadTooSlow,
    /// Content-Length is not one plain decimal number, or stands beside chunks.
    #[error("the length of the body is ambiguous")]
    Length,
    /// A line that does not end in CR LF.
    #[error("a line does not end in CR LF")]
    LineEnd,
    /// The first line is not `METHOD TARGET HTTP/1.1`.
    #[error("the request line is malformed")]
    RequestLine,
    /// More than the cap on the first line.
    #[error("the request line is too long")]
    RequestLineTooLong,
    /// The target holds bytes that no URL has.
    #[error("the target is not a URL")]
    Target,
    /// Transfer-Encoding is anything but `chunked`.
    #[error("the transfer encoding is not `chunked`")]
    TransferEncoding,
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    Version,
}

/// The body behind a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// In chunks.
    Chunked,
    /// So many bytes; 0 if there is none.
    Exact(u64),
}

/// A head that is there as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its bytes, with the empty line.
    pub bytes: usize,
    /// What comes behind it.
    pub body: BodyLength,
}

/// Reads the head at the front of `bytes`; `None` while it is not there as a whole.
///
/// # Errors
/// When it cannot become a request any more.
pub fn read_head(bytes: &[u8]) -> Result<Option<Head>, FramingFault> {
    let Some(end) = end_of_head(bytes) else {
        return refuse_endless(bytes).map(|()| None);
    };
    let head = bytes.get(..end).unwrap_or(bytes);
    refuse_endless(head)?;
    let mut lines = head
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r\n").ok_or(FramingFault::LineEnd));
    let version = read_request_line(lines.next().ok_or(FramingFault::RequestLine)??)?;
    let mut lengths = Lengths::default();
    for (index, line) in lines.enumerate() {
        match line? {
            // The empty line is the last one: the head ends with the first of them.
            [] => break,
            _ if index >= MAX_FIELDS => return Err(FramingFault::HeadTooLarge),
            line => lengths.note(line)?,
        }
    }
    Ok(Some(Head { bytes: end, body: lengths.body(version)? }))
}

/// Bytes up to and with the first empty line, whatever its line ends are: strictness comes later,
/// but a head with wrong line ends must not wait for the right ones.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(newline) = bytes.get(from..)?.iter().position(|byte| *byte == b'\n') {
        from += newline + 1;
        match bytes.get(from..)? {
            [b'\n', ..] => return Some(from + 1),
            [b'\r', b'\n', ..] => return Some(from + 2),
            _ => {}
        }
    }
    None
}

fn refuse_endless(bytes: &[u8]) -> Result<(), FramingFault> {
    // Such as the first byte of a TLS handshake.
    if bytes.first().is_some_and(|first| !is_token_byte(*first)) {
        return Err(FramingFault::RequestLine);
    }
    let line = bytes.iter().take(MAX_REQUEST_LINE_BYTES + 1).position(|byte| *byte == b'\n');
    if line.is_none() && bytes.len() > MAX_REQUEST_LINE_BYTES {
        return Err(FramingFault::RequestLineTooLong);
    }
    if bytes.len() > MAX_HEAD_BYTES { Err(FramingFault::HeadTooLarge) } else { Ok(()) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

fn read_request_line(line: &[u8]) -> Result<Version, FramingFault> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(FramingFault::RequestLine);
    };
    if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) {
        return Err(FramingFault::RequestLine);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(FramingFault::Version),
    };
    if target.is_empty() {
        return Err(FramingFault::RequestLine);
    }
    is_target(target).then_some(version).ok_or(FramingFault::Target)
}

/// Whether hyper will take it for a target, and keep all of it: it cuts a fragment off.
fn is_target(target: &[u8]) -> bool {
    if !target.iter().all(u8::is_ascii_graphic) || target.contains(&b'#') {
        return false;
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%/?&=+:@,()*".contains(byte);
    (target.starts_with(b"/") && target.iter().all(is_plain)) || Uri::try_from(target).is_ok()
}

/// `tchar` of RFC 9110 section 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// What the fields say about the body.
#[derive(Default)]
struct Lengths {
    content_length: Option<u64>,
    is_chunked: bool,
}

impl Lengths {
    fn note(&mut self, line: &[u8]) -> Result<(), FramingFault> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(FramingFault::Field)?;
        let (name, value) = line.split_at_checked(colon).ok_or(FramingFault::Field)?;
        let value = value.get(1..).unwrap_or_default();
        // A space before the colon, or in front of the name, is not in a token.
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
            return Err(FramingFault::Field);
        }
        if !value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)) {
            return Err(FramingFault::Field);
        }
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = read_length(value).ok_or(FramingFault::Length)?;
            if self.content_length.replace(length).is_some() {
                return Err(FramingFault::Length);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if value != b"chunked" || self.is_chunked {
                return Err(FramingFault::TransferEncoding);
            }
            self.is_chunked = true;
        }
        Ok(())
    }

    fn body(&self, version: Version) -> Result<BodyLength, FramingFault> {
        match (self.content_length, self.is_chunked) {
            (Some(_), true) => Err(FramingFault::Length),
            // HTTP/1.0 knows no chunks: whoever reads it so waits for another end.
            (None, true) if version == Version::Http10 => Err(FramingFault::TransferEncoding),
            (None, true) => Ok(BodyLength::Chunked),
            (length, false) => Ok(BodyLength::Exact(length.unwrap_or(0))),
        }
    }
}

/// One plain decimal number: no sign, no list, no space, no leading zero.
fn read_length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// The end of a chunked body, byte by byte: `SIZE CRLF DATA CRLF … 0 CRLF CRLF`, without extensions
/// and without trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// In the size line, with what has been read of it: value and digits.
    Size(u64, u8),
    /// Behind the CR of a size line.
    SizeEnd(u64),
    /// In the data, which has so many bytes left.
    Data(u64),
    /// Behind the data.
    DataEnd,
    /// Behind the CR behind the data.
    DataEndLf,
    /// Behind the size line of the last chunk.
    LastEnd,
    /// Behind the CR of the last empty line.
    LastEndLf,
}

impl Chunks {
    /// Before the first chunk.
    #[must_use]
    pub const fn start() -> Self {
        Self::Size(0, 0)
    }

    /// Takes what belongs to the body from the front of `bytes`. Returns how many bytes do, and
    /// whether they are the last ones.
    ///
    /// # Errors
    /// When the chunks are not in their narrowest form.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(usize, ControlFlow<()>), FramingFault> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let Self::Data(left) = *self {
                let here = left.min((bytes.len() - at) as u64);
                at = usize::try_from(here).map_or(bytes.len(), |here| at + here);
                *self = if left == here { Self::DataEnd } else { Self::Data(left - here) };
                continue;
            }
            at += 1;
            match self.step(*byte)? {
                Some(next) => *self = next,
                None => return Ok((at, ControlFlow::Break(()))),
            }
        }
        Ok((at, ControlFlow::Continue(())))
    }

    /// One byte outside the data; `None` behind the last.
    fn step(self, byte: u8) -> Result<Option<Self>, FramingFault> {
        let digit = char::from(byte).to_digit(16);
        Ok(Some(match (self, byte) {
            (Self::Size(size, 1..), b'\r') => Self::SizeEnd(size),
            (Self::Size(size, digits), _) if digits < MAX_SIZE_DIGITS => {
                let digit = digit.ok_or(FramingFault::Chunk)?;
                Self::Size(size * 16 + u64::from(digit), digits + 1)
            }
            (Self::SizeEnd(0), b'\n') => Self::LastEnd,
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataEnd, b'\r') => Self::DataEndLf,
            (Self::DataEndLf, b'\n') => Self::start(),
            (Self::LastEnd, b'\r') => Self::LastEndLf,
            (Self::LastEndLf, b'\n') => return Ok(None),
            _ => return Err(FramingFault::Chunk),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::{BodyLength, Chunks, FramingFault, Head, MAX_REQUEST_LINE_BYTES, read_head};

    const PLAIN: &str = "GET /rest/api/2/myself HTTP/1.1\r\nHost: gate\r\n\r\n";

    fn with_field(field: &str) -> String {
        PLAIN.replace("Host: gate\r\n", &format!("Host: gate\r\n{field}\r\n"))
    }

    #[test]
    fn a_head_ends_at_its_empty_line_and_says_how_long_the_body_is() {
        let chunked = with_field("transfer-encoding:chunked");
        let sized = with_field("Content-Length: 12");

        for (head, body) in [
            (PLAIN, BodyLength::Exact(0)),
            (&sized, BodyLength::Exact(12)),
            (&chunked, BodyLength::Chunked),
        ] {
            let bytes = format!("{head}POST /");
            let expected = Some(Head { bytes: head.len(), body });
            assert_eq!(read_head(bytes.as_bytes()), Ok(expected), "{head}");
            for cut in 0..head.len() {
                assert_eq!(read_head(&bytes.as_bytes()[..cut]), Ok(None), "{head} {cut}");
            }
        }
    }

    #[test]
    fn a_body_whose_length_can_be_read_in_two_ways_is_refused() {
        for (field, fault) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", FramingFault::Length),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1", FramingFault::Length),
            ("Content-Length: 1\r\ncontent-length: 1", FramingFault::Length),
            ("Content-Length: +1", FramingFault::Length),
            ("Content-Length: 1,1", FramingFault::Length),
            ("Content-Length: 0x1", FramingFault::Length),
            ("Content-Length:  1", FramingFault::Length),
            ("Content-Length: 01", FramingFault::Length),
            ("Content-Length: 1 ", FramingFault::Length),
            ("Content-Length:", FramingFault::Length),
            ("Content-Length: 18446744073709551616", FramingFault::Length),
            ("Transfer-Encoding: gzip, chunked", FramingFault::TransferEncoding),
            ("Transfer-Encoding: Chunked", FramingFault::TransferEncoding),
            ("Transfer-Encoding: \tchunked", FramingFault::TransferEncoding),
            ("Transfer-Encoding:", FramingFault::TransferEncoding),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                FramingFault::TransferEncoding,
            ),
            ("Transfer-Encoding : chunked", FramingFault::Field),
            (" Transfer-Encoding: chunked", FramingFault::Field),
            ("X: a\nTransfer-Encoding: chunked", FramingFault::LineEnd),
            ("X: a\rTransfer-Encoding: chunked", FramingFault::Field),
            ("X: a\r\n b", FramingFault::Field),
            ("X: a\0", FramingFault::Field),
            (": a", FramingFault::Field),
            ("X", FramingFault::Field),
        ] {
            assert_eq!(read_head(with_field(field).as_bytes()), Err(fault), "{field:?}");
        }
        let old = with_field("Transfer-Encoding: chunked").replace("1.1", "1.0");
        assert_eq!(read_head(old.as_bytes()), Err(FramingFault::TransferEncoding));
    }

    #[test]
    fn a_request_line_has_three_words_and_a_version_that_is_spoken() {
        for (line, fault) in [
            ("GET  / HTTP/1.1", FramingFault::RequestLine),
            ("GET / HTTP/1.1 ", FramingFault::RequestLine),
            ("GET / x HTTP/1.1", FramingFault::RequestLine),
            ("GET /", FramingFault::RequestLine),
            ("GET\t/\tHTTP/1.1", FramingFault::RequestLine),
            ("G(T / HTTP/1.1", FramingFault::RequestLine),
            ("GET / HTTP/2.0", FramingFault::Version),
            ("GET / http/1.1", FramingFault::Version),
            ("GET /a#b HTTP/1.1", FramingFault::Target),
            ("GET /a\u{e9} HTTP/1.1", FramingFault::Target),
            ("GET a HTTP/1.1\r\nX: /", FramingFault::Target),
        ] {
            let head = format!("{line}\r\n\r\n");
            let found = read_head(head.as_bytes());
            // `a` alone is an authority to some.
            if line.starts_with("GET a ") {
                assert_ne!(found, Ok(None), "{line}");
            } else {
                assert_eq!(found, Err(fault), "{line}");
            }
        }
        assert_eq!(read_head(b"\x16\x03\x01"), Err(FramingFault::RequestLine));
        assert_eq!(read_head(b"GET / HTTP/1.1\n\n"), Err(FramingFault::LineEnd));
        assert_eq!(read_head(b"GET / HTTP/1.1\r\n\n"), Err(FramingFault::LineEnd));
    }

    #[test]
    fn heads_without_end_are_refused_before_their_end() {
        let line = [b'a'; MAX_REQUEST_LINE_BYTES + 1];
        let fields = format!("GET / HTTP/1.1\r\n{}", "X: a\r\n".repeat(65));
        let large =
            format!("GET / HTTP/1.1\r\n{}", format!("X: {}\r\n", "a".repeat(1000)).repeat(17));

        assert_eq!(read_head(&line), Err(FramingFault::RequestLineTooLong));
        assert_eq!(read_head(large.as_bytes()), Err(FramingFault::HeadTooLarge));
        assert_eq!(read_head(format!("{fields}\r\n").as_bytes()), Err(FramingFault::HeadTooLarge));
    }

    #[test]
    fn chunks_end_where_they_say_and_nowhere_else() {
        let body = b"a\r\n{\"jql\":\"\"}\r\n0\r\n\r\nGET /";
        for cut in 0..=body.len() {
            let mut chunks = Chunks::start();
            let (first, rest) = body.split_at(cut);
            let (taken, flow) = chunks.advance(first).unwrap();
            let total = match flow {
                ControlFlow::Break(()) => taken,
                ControlFlow::Continue(()) => taken + chunks.advance(rest).unwrap().0,
            };
            assert_eq!(total, body.len() - 5, "{cut}");
        }
    }

    #[test]
    fn chunks_in_another_form_are_refused() {
        for body in [
            "a;x=y\r\n",
            "0xa\r\n",
            "-1\r\n",
            "a\n",
            " a\r\n",
            "a \r\n",
            "\r\n",
            "1\r\nab",
            "1\r\na\n",
            "123456789\r\n",
            "0\r\nX: y\r\n\r\n",
            "0\r\n\n",
            "g\r\n",
        ] {
            assert_eq!(
                Chunks::start().advance(body.as_bytes()),
                Err(FramingFault::Chunk),
                "{body:?}"
            );
        }
    }
}
