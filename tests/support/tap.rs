//! A tap between gate and server: it passes everything on, and keeps what went to the server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rowarden::postgres::upstream::UpstreamAddress;

/// A server seen through a tap. It takes connections until it is dropped; those that it has end with
/// their two ends.
pub(crate) struct Tap {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    stopping: Arc<AtomicBool>,
    door: Option<JoinHandle<()>>,
}

impl Tap {
    /// A tap before the server with this socket.
    pub(crate) fn before(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, stopping) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (shared, told, socket) = (Arc::clone(&heard), Arc::clone(&stopping), socket.to_owned());
        let door = thread::spawn(move || keep_door(&listener, &told, &socket, &shared));
        Self { address, heard, stopping, door: Some(door) }
    }

    /// Where the gate finds it.
    pub(crate) fn upstream(&self) -> UpstreamAddress {
        UpstreamAddress::Tcp(self.address.ip().to_string(), self.address.port())
    }

    /// Takes what has come since it was last asked. What a client sent before it read an answer of
    /// the server's is in it.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(door) = self.door.take().filter(|_| woken) {
            door.join().unwrap();
        }
    }
}

fn keep_door(
    listener: &TcpListener,
    stopping: &AtomicBool,
    socket: &PathBuf,
    heard: &Arc<Mutex<Vec<u8>>>,
) {
    for gate in listener.incoming() {
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let (mut gate, mut server) = (gate.unwrap(), UnixStream::connect(socket).unwrap());
        gate.set_nodelay(true).unwrap();
        let (mut to_gate, mut to_server) = (gate.try_clone().unwrap(), server.try_clone().unwrap());
        let heard = Arc::clone(heard);
        thread::spawn(move || {
            pass(&mut gate, &mut to_server, |bytes| heard.lock().unwrap().extend_from_slice(bytes));
            // The other side may have closed first.
            let _ = to_server.shutdown(Shutdown::Write);
        });
        thread::spawn(move || {
            pass(&mut server, &mut to_gate, |_| {});
            let _ = to_gate.shutdown(Shutdown::Write);
        });
    }
}

/// Passes bytes on until either end is gone.
fn pass(from: &mut impl Read, to: &mut impl Write, mut note: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        note(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Whether these bytes hold that text.
pub(crate) fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
