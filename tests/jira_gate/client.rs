//! What a client sends, byte for byte, and what it reads.

use std::io::{Read, Write};

use rowarden::policy::reason::Reason;
use serde_json::Value;

use crate::gate::LiveGate;
use crate::site::connect;

/// A request line and the fields that every client sends; other fields and the empty line follow.
pub(crate) fn head(request: &str) -> String {
    format!("{request} HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Basic dTp0\r\n")
}

/// A request without a body, the last one of its connection.
pub(crate) fn last(request: &str) -> String {
    format!("{}Connection: close\r\n\r\n", head(request))
}

/// A request with a body in JSON, the last one of its connection.
pub(crate) fn post(target: &str, body: &str) -> String {
    let head = head(&format!("POST {target}"));
    let length = body.len();
    format!(
        "{head}Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// An answer as the client read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// The reason of a refusal, which is told in the one object that all fronts use.
    pub(crate) fn reason(&self) -> Reason {
        let body = self.json();
        assert_eq!(body["error"], "SECURITY_VIOLATION", "{body}");
        Reason::from_code(body["reason"].as_str().unwrap()).unwrap()
    }
}

/// Sends bytes and reads until the gate closes.
pub(crate) fn exchange(gate: &LiveGate, bytes: impl AsRef<[u8]>) -> Vec<Answer> {
    let mut stream = connect(gate.address());
    stream.write_all(bytes.as_ref()).unwrap();
    read_all(&mut stream, "GET")
}

/// Sends one request and reads its answer.
pub(crate) fn ask(gate: &LiveGate, bytes: impl AsRef<[u8]>) -> Answer {
    let mut answers = exchange(gate, bytes);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

/// All answers up to the end of the connection. `method` is that of the last request.
pub(crate) fn read_all(stream: &mut impl Read, method: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(answer) = read_answer(stream, method) {
        answers.push(answer);
    }
    answers
}

/// The next answer; `None` at the end of the connection.
pub(crate) fn read_answer(stream: &mut impl Read, method: &str) -> Option<Answer> {
    let head = read_head(stream)?;
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let fields: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    let mut answer = Answer { status, fields, body: Vec::new() };
    if method == "HEAD" || status == 100 || status == 304 {
        return Some(answer);
    }
    answer.body = match (answer.field("content-length"), answer.field("transfer-encoding")) {
        (Some(length), _) => {
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            body
        }
        (None, Some(_)) => read_chunks(stream),
        (None, None) => {
            let mut body = Vec::new();
            stream.read_to_end(&mut body).unwrap();
            body
        }
    };
    Some(answer)
}

fn read_head(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap() == 0 {
            assert!(head.is_empty(), "torn: {head:?}");
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

fn read_chunks(stream: &mut impl Read) -> Vec<u8> {
    let (mut body, mut byte) = (Vec::new(), [0]);
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        let size = std::str::from_utf8(&line).unwrap().trim();
        let size = usize::from_str_radix(size, 16).unwrap();
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
