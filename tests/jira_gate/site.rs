//! A site that writes down what it is asked and answers what the test says, over bare sockets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Longer than any machine stalls; nobody waits for it unless the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A request as the site saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The value of a field; fails if it comes more than once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(field, _)| field == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "`{name}` comes twice: {self:?}");
        value
    }
}

/// What a site does with a request: the bytes of its answer, and whether it keeps the connection.
pub(crate) type Answering = dyn Fn(&Seen) -> (Vec<u8>, Then) + Send + Sync;

/// What comes behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    Keep,
    /// The last byte over and over, until nobody takes it.
    Repeat,
    /// Nothing, for as long as the client waits.
    Wait,
}

/// A running site.
pub(crate) struct Site {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicUsize>,
}

impl Site {
    /// A site that answers every request like this.
    pub(crate) fn answering(
        answer: impl Fn(&Seen) -> (Vec<u8>, Then) + Send + Sync + 'static,
    ) -> Self {
        Self::start(Arc::new(answer), None)
    }

    /// A site that answers `{}` to everything.
    pub(crate) fn plain() -> Self {
        Self::answering(|_| (json("{}"), Then::Keep))
    }

    /// The same over TLS.
    pub(crate) fn encrypted(config: Arc<ServerConfig>) -> Self {
        Self::start(Arc::new(|_: &Seen| (json("{}"), Then::Keep)), Some(config))
    }

    fn start(answer: Arc<Answering>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicUsize::new(0));
        let (into, ends) = (Arc::clone(&seen), Arc::clone(&ended));
        // It ends with the process; what it serves ends with its clients.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, into, tls) = (Arc::clone(&answer), Arc::clone(&into), tls.clone());
                let ends = Arc::clone(&ends);
                thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    // A client that leaves is none of the site's business.
                    let _ = match tls.map(|config| ServerConnection::new(config).unwrap()) {
                        None => serve(stream, &*answer, &into),
                        Some(tls) => serve(StreamOwned::new(tls, stream), &*answer, &into),
                    };
                    ends.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen, ended }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many of its connections have ended.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The request lines that it has seen so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

/// An answer in JSON.
pub(crate) fn json(body: &str) -> Vec<u8> {
    answer("200 OK", "Content-Type: application/json\r\n", body.as_bytes())
}

/// An answer with these fields, each with its line end.
pub(crate) fn answer(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn serve(
    mut stream: impl Read + Write,
    answer: &Answering,
    seen: &Mutex<Vec<Seen>>,
) -> io::Result<()> {
    loop {
        let request = read_request(&mut stream)?;
        seen.lock().unwrap().push(request.clone());
        let (bytes, then) = answer(&request);
        stream.write_all(&bytes)?;
        stream.flush()?;
        match then {
            Then::Close => return Ok(()),
            Then::Keep => {}
            Then::Repeat => loop {
                stream.write_all(&[*bytes.last().unwrap(); 4096])?;
            },
            Then::Wait => return stream.read(&mut [0]).map(drop),
        }
    }
}

fn read_request(stream: &mut impl Read) -> io::Result<Seen> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let fields: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    let length = fields.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    stream.read_exact(&mut body)?;
    Ok(Seen { line, fields, body })
}

/// A connection to a gate.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
