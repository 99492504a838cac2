//! A client of HTTP that sends exactly the bytes it is told to, good ones and bad ones.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take. A gate that says nothing has not refused.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 4 << 20;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// 200 and the like.
    pub status: u16,
    /// What stands behind the head.
    pub body: String,
}

/// Sends these bytes on a new connection, reads until it is closed, and returns the last answer: bytes
/// that hold two requests get two.
///
/// # Errors
/// When the connection breaks, or what comes is not HTTP.
pub fn send(address: SocketAddr, bytes: &[u8]) -> io::Result<HttpAnswer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    match stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer) {
        // Whoever closes with bytes unread resets; what was said before that still counts.
        Err(error) if answer.is_empty() => return Err(error),
        Ok(_) | Err(_) => {}
    }
    last(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no answer in HTTP"))
}

fn last(mut answers: &str) -> Option<HttpAnswer> {
    let mut found = None;
    while let Some((answer, rest)) = first(answers) {
        found = Some(answer);
        answers = rest;
    }
    found
}

/// The first answer, and what follows it.
fn first(answers: &str) -> Option<(HttpAnswer, &str)> {
    let (head, body) = answers.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let end = length.filter(|length| body.is_char_boundary(*length)).unwrap_or(body.len());
    let (body, rest) = body.split_at(end);
    Some((HttpAnswer { status, body: body.to_owned() }, rest))
}

#[cfg(test)]
mod tests {
    use super::{HttpAnswer, last};

    #[test]
    fn the_last_answer_is_taken() {
        let two = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 403 Forbidden\r\n\r\nno";
        assert_eq!(last(two), Some(HttpAnswer { status: 403, body: "no".to_owned() }));
        assert_eq!(last("SSH-2.0"), None);
    }
}
