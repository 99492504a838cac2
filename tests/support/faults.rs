//! A proxy between gate and server that fails on demand.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rowarden::postgres::upstream::UpstreamAddress;

/// What the proxy does with what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Passes it on.
    None,
    /// Passes it on byte by byte.
    Trickle,
    /// Keeps it, and the connection open: the other end does not answer any more.
    Silence,
    /// Closes the connection.
    Cut,
}

/// What all connections share.
struct Switch {
    fault: Mutex<Fault>,
    /// Connections that are still open.
    open: AtomicUsize,
    stopping: Mutex<bool>,
}

impl Switch {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }
}

/// A server seen through the proxy.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    switch: Arc<Switch>,
    door: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Before the server with this socket, without a fault.
    pub(crate) fn before(socket: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (fault, stopping) = (Mutex::new(Fault::None), Mutex::new(false));
        let switch = Arc::new(Switch { fault, open: AtomicUsize::new(0), stopping });
        let (shared, socket) = (Arc::clone(&switch), socket.to_owned());
        let door = thread::spawn(move || keep_door(&listener, &shared, &socket));
        Self { address, switch, door: Some(door) }
    }

    /// Where the gate finds it.
    pub(crate) fn upstream(&self) -> UpstreamAddress {
        UpstreamAddress::Tcp(self.address.ip().to_string(), self.address.port())
    }

    /// From now on.
    pub(crate) fn fail(&self, fault: Fault) {
        *self.switch.fault.lock().unwrap() = fault;
    }

    /// Connections of the gate's that are open.
    pub(crate) fn open(&self) -> usize {
        self.switch.open.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        *self.switch.stopping.lock().unwrap() = true;
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(door) = self.door.take().filter(|_| woken) {
            door.join().unwrap();
        }
    }
}

fn keep_door(listener: &TcpListener, switch: &Arc<Switch>, socket: &PathBuf) {
    for stream in listener.incoming() {
        if *switch.stopping.lock().unwrap() {
            return;
        }
        let (Ok(gate), Ok(server)) = (stream, UnixStream::connect(socket)) else { continue };
        gate.set_nodelay(true).unwrap();
        switch.open.fetch_add(1, Ordering::SeqCst);
        let switch = Arc::clone(switch);
        thread::spawn(move || {
            let (gate_too, server_too) = (gate.try_clone().unwrap(), server.try_clone().unwrap());
            let shared = Arc::clone(&switch);
            let up = thread::spawn(move || relay(&gate_too, &server_too, &shared));
            relay(&server, &gate, &switch);
            // Whoever has closed, the other direction ends as well.
            let _ = (gate.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
            up.join().unwrap();
            switch.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// A stream that can be closed under the other direction's feet.
trait Hangup {
    fn hang_up(&self);
}

impl Hangup for TcpStream {
    fn hang_up(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Hangup for UnixStream {
    fn hang_up(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

fn relay<F: Hangup, T: Hangup>(mut from: &F, mut to: &T, switch: &Switch)
where
    for<'a> &'a F: Read,
    for<'a> &'a T: Write,
{
    let mut bytes = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while switch.fault() == Fault::Silence && !*switch.stopping.lock().unwrap() {
            thread::park_timeout(Duration::from_millis(5));
        }
        let passed = match switch.fault() {
            Fault::Trickle => bytes[..count].chunks(1).try_for_each(|byte| to.write_all(byte)),
            Fault::None => to.write_all(&bytes[..count]),
            Fault::Cut | Fault::Silence => break,
        };
        if passed.is_err() {
            break;
        }
    }
    from.hang_up();
    to.hang_up();
}
