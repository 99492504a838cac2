//! A stand-in for a server that keeps every byte that it is sent, and answers as it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rowarden::demo::client::message::frame;
use rowarden::postgres::upstream::UpstreamAddress;

/// Answers the nth bytes that come on one connection; `None` closes it.
type Script = dyn Fn(usize, &[u8]) -> Option<Vec<u8>> + Send + Sync;

/// A server that records.
pub(crate) struct Recorder {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    stopping: Arc<AtomicBool>,
    door: Option<JoinHandle<()>>,
}

impl Recorder {
    /// One that listens and never answers.
    pub(crate) fn silent() -> Self {
        Self::answering(|_, _| Some(Vec::new()))
    }

    /// One that lets everybody in as PostgreSQL does without a password.
    pub(crate) fn trusting() -> Self {
        Self::answering(|count, _| login_answers().get(count).cloned())
    }

    /// One that answers by a script.
    pub(crate) fn answering(
        script: impl Fn(usize, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, stopping) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (shared, told) = (Arc::clone(&heard), Arc::clone(&stopping));
        let script: Arc<Script> = Arc::new(script);
        let door = thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                let (script, heard) = (Arc::clone(&script), Arc::clone(&shared));
                let stream = stream.unwrap();
                thread::spawn(move || serve(stream, &*script, &heard));
            }
        });
        Self { address, heard, stopping, door: Some(door) }
    }

    /// Where the gate finds it.
    pub(crate) fn upstream(&self) -> UpstreamAddress {
        UpstreamAddress::Tcp(self.address.ip().to_string(), self.address.port())
    }

    /// All bytes that have come.
    pub(crate) fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(door) = self.door.take().filter(|_| woken) {
            door.join().unwrap();
        }
    }
}

fn serve(mut stream: TcpStream, script: &Script, heard: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 64 * 1024];
    for count in 0.. {
        let Ok(length @ 1..) = stream.read(&mut buffer) else { return };
        heard.lock().unwrap().extend_from_slice(&buffer[..length]);
        let Some(answer) = script(count, &buffer[..length]) else { return };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// What PostgreSQL says at a login, its answers to the gate's questions included: the posture, a
/// catalog with nothing in it.
pub(crate) fn login_answers() -> [Vec<u8>; 4] {
    let pin = frame(b'S', b"default_transaction_read_only\0on\0");
    let ready = frame(b'Z', b"I");
    let greeting = [frame(b'R', &[0; 4]), pin, frame(b'K', &[7; 8]), ready.clone()].concat();
    let row = |columns: u8, values: &[&str]| {
        let mut row = vec![0, columns];
        for value in values {
            row.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            row.extend(value.as_bytes());
        }
        row
    };
    let mut posture = row(8, &["on", "on", "UTF8", "public", "150006", "off", "f"]);
    posture.extend((-1_i32).to_be_bytes());
    let state = row(3, &["0", "ann", "public"]);
    let done = [frame(b'C', b"SELECT 1\0"), ready].concat();
    let answer = |row: &[u8]| [frame(b'D', row), done.clone()].concat();
    [greeting, answer(&posture), answer(&state), done.clone()]
}
