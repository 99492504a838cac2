//! What a client message says. Exact: a body that is one byte too long or too short is a violation,
//! because the server's reader and this one must never differ (checklist B5, B11).

use crate::postgres::frame::{Frame, ProtocolViolation};

/// A message that a client sends after login (protocol chapter "Message Formats").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// `B`: parameters for a statement make a portal.
    Bind(Bind<'a>),
    /// `C`: drop a statement or portal.
    Close(Target<'a>),
    /// `d`, `c`, `f`: data for a COPY.
    Copy,
    /// `D`: what does it return?
    Describe(Target<'a>),
    /// `E`: run a portal.
    Execute(&'a str),
    /// `H`: send what you have.
    Flush,
    /// `F`: the fast-path function call.
    FunctionCall,
    /// `P`: a statement.
    Parse(Parse<'a>),
    /// `Q`: a string of statements. Not yet known to be UTF-8, or free of zero bytes.
    Query(&'a [u8]),
    /// `S`: end of a series.
    Sync,
    /// `X`: goodbye.
    Terminate,
}

/// The body of Parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty is the unnamed one.
    pub name: &'a str,
    /// Its text. Not yet known to be UTF-8.
    pub sql: &'a [u8],
    /// Count and types of the parameters, as on the wire.
    pub parameter_types: &'a [u8],
}

/// The body of Bind, checked; the bytes are forwarded as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal that it makes.
    pub portal: &'a str,
    /// The statement that it takes.
    pub statement: &'a str,
    /// The whole message.
    pub raw: &'a [u8],
}

/// What Describe and Close speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A portal, by name.
    Portal(&'a str),
    /// A prepared statement, by name.
    Statement(&'a str),
}

impl<'a> ClientMessage<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// A body that is not exactly what its type says.
    pub fn read(frame: Frame<'a>) -> Result<Self, ProtocolViolation> {
        let mut body = Body(frame.body);
        let message = match frame.kind {
            b'B' => Self::Bind(read_bind(&mut body, frame.raw)?),
            b'C' => Self::Close(read_target(&mut body, "Close")?),
            b'D' => Self::Describe(read_target(&mut body, "Describe")?),
            b'E' => {
                let portal = body.name().ok_or(ProtocolViolation::Malformed("Execute"))?;
                body.take(4).ok_or(ProtocolViolation::Malformed("Execute"))?;
                Self::Execute(portal)
            }
            b'P' => Self::Parse(read_parse(&mut body)?),
            b'Q' => Self::Query(body.all_but_zero().ok_or(ProtocolViolation::Malformed("Query"))?),
            b'H' => return Ok(Self::Flush),
            b'S' => return Ok(Self::Sync),
            b'X' => return Ok(Self::Terminate),
            b'F' => return Ok(Self::FunctionCall),
            b'd' | b'c' | b'f' => return Ok(Self::Copy),
            _ => return Err(ProtocolViolation::UnknownType),
        };
        if body.0.is_empty() { Ok(message) } else { Err(message.with_surplus()) }
    }
}

impl ClientMessage<'_> {
    /// The violation of a body that goes on after its end.
    const fn with_surplus(&self) -> ProtocolViolation {
        ProtocolViolation::Malformed(match self {
            Self::Bind(_) => "Bind",
            Self::Close(_) => "Close",
            Self::Describe(_) => "Describe",
            Self::Execute(_) => "Execute",
            Self::Parse(_) => "Parse",
            Self::Copy
            | Self::Flush
            | Self::FunctionCall
            | Self::Query(_)
            | Self::Sync
            | Self::Terminate => "client",
        })
    }
}

fn read_target<'a>(body: &mut Body<'a>, of: &'static str) -> Result<Target<'a>, ProtocolViolation> {
    let malformed = ProtocolViolation::Malformed(of);
    let kind = body.take(1).ok_or(malformed)?;
    let name = body.name().ok_or(malformed)?;
    match kind {
        b"P" => Ok(Target::Portal(name)),
        b"S" => Ok(Target::Statement(name)),
        _ => Err(malformed),
    }
}

fn read_parse<'a>(body: &mut Body<'a>) -> Result<Parse<'a>, ProtocolViolation> {
    let read = |body: &mut Body<'a>| {
        let name = body.name()?;
        let sql = body.string()?;
        let parameter_types = body.0;
        let count = usize::from(body.u16()?);
        body.take(count * 4)?;
        Some(Parse { name, sql, parameter_types })
    };
    read(body).ok_or(ProtocolViolation::Malformed("Parse"))
}

fn read_bind<'a>(body: &mut Body<'a>, raw: &'a [u8]) -> Result<Bind<'a>, ProtocolViolation> {
    let read = |body: &mut Body<'a>| {
        let portal = body.name()?;
        let statement = body.name()?;
        let formats = body.formats()?;
        let values = usize::from(body.u16()?);
        for _ in 0..values {
            body.value()?;
        }
        body.formats()?;
        (formats <= 1 || formats == values).then_some(Bind { portal, statement, raw })
    };
    read(body).ok_or(ProtocolViolation::Malformed("Bind"))
}

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    /// All of it, which must end in a zero byte. Zero bytes before that are the judge's to refuse.
    fn all_but_zero(&mut self) -> Option<&'a [u8]> {
        let (&0, text) = std::mem::take(&mut self.0).split_last()? else { return None };
        Some(text)
    }

    /// Bytes up to a zero byte, which is consumed.
    fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }

    fn name(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    /// A list of format codes, 0 (text) or 1 (binary); how many.
    fn formats(&mut self) -> Option<usize> {
        let count = usize::from(self.u16()?);
        for _ in 0..count {
            if self.u16()? > 1 {
                return None;
            }
        }
        Some(count)
    }

    /// A parameter value; only -1 means NULL, any other negative length is refused.
    fn value(&mut self) -> Option<()> {
        let length = i32::from_be_bytes(*self.take(4)?.first_chunk()?);
        if length == -1 {
            return Some(());
        }
        self.take(usize::try_from(length).ok()?)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientMessage, Target};
    use crate::postgres::frame::{Frame, ProtocolViolation};

    fn read(kind: u8, body: &[u8]) -> Result<ClientMessage<'_>, ProtocolViolation> {
        ClientMessage::read(Frame { kind, body, raw: body })
    }

    #[test]
    fn a_query_has_one_zero_byte_at_its_very_end() {
        assert_eq!(read(b'Q', b"select 1\0"), Ok(ClientMessage::Query(b"select 1")));
        assert_eq!(read(b'Q', b"select 1"), Err(ProtocolViolation::Malformed("Query")));
        let hidden = Ok(ClientMessage::Query(b"select 1\0; drop"));
        assert_eq!(read(b'Q', b"select 1\0; drop\0"), hidden);
    }

    #[test]
    fn a_parse_with_surplus_or_missing_bytes_is_refused() {
        assert!(read(b'P', b"a\0select $1\0\0\x01\0\0\0\x17").is_ok());
        assert!(read(b'P', b"a\0select $1\0\0\x01\0\0\0").is_err());
        assert!(read(b'P', b"a\0select 1\0\0\0Q").is_err());
    }

    #[test]
    fn a_bind_with_an_odd_length_or_format_is_refused() {
        assert!(read(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xff\0\0").is_ok());
        assert!(read(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xf9\0\0").is_err());
        assert!(read(b'B', b"\0\0\0\x01\0\x02\0\0\0\0").is_err());
        assert!(read(b'B', b"\0\0\0\x02\0\0\0\0\0\x01\0\0\0\0\0\0").is_err());
    }

    #[test]
    fn describe_and_close_name_a_statement_or_a_portal() {
        let portal = ClientMessage::Describe(Target::Portal("x"));
        assert_eq!(read(b'D', b"Px\0"), Ok(portal));
        assert!(read(b'D', b"Zx\0").is_err());
        assert!(read(b'C', b"Sx\0more").is_err());
    }
}
