//! Where connections come in: addresses are bound, connections accepted and counted.

pub mod certificate;
pub mod descriptors;
pub mod limits;
pub mod proxy;
pub mod stream;
pub mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::listen::stream::Stream;

/// How long accepting pauses when the process has run out of file descriptors: 100 ms. Without a
/// pause the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a unix socket of this machine.
    Unix,
}

impl Peer {
    /// Address and port; `None` over a unix socket.
    #[must_use]
    pub const fn socket_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix => formatter.write_str("[local]"),
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket at this path.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// A listener that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`")]
pub struct ListenError {
    address: String,
    #[source]
    source: io::Error,
}

/// One bound address.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket, removed again when the listener goes.
    Unix(UnixListener, SocketFile),
}

/// A socket file that goes away with its listener.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nothing can be done about a file that is already gone.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// When it is taken or not ours to take.
    pub async fn bind(address: &Address) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address: address.to_string(), source };
        match address {
            Address::Tcp(socket) => TcpListener::bind(socket).await.map(Self::Tcp).map_err(failed),
            Address::Unix(path) => bind_unix(path).await.map_err(failed),
        }
    }

    /// The address that was bound, with the real port when port 0 was asked for.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, file) => Ok(Address::Unix(file.0.clone())),
        }
    }

    /// The next connection. Cancel-safe.
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                stream::watch_peer(&stream)?;
                Ok((Stream::Tcp(stream), Peer::Tcp(address)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }

    /// Accepts connections until the task is dropped. Each comes with a place among `places`, or
    /// with none when all are taken; the connection tells its client then.
    pub async fn run<F>(self, places: Arc<Semaphore>, mut serve: F)
    where
        F: FnMut(Stream, Peer, Option<OwnedSemaphorePermit>),
    {
        loop {
            match self.accept().await {
                Ok((stream, peer)) => {
                    serve(stream, peer, Arc::clone(&places).try_acquire_owned().ok());
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A socket file left by a process that died is replaced; one that answers is not.
async fn bind_unix(path: &Path) -> io::Result<Listener> {
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && tokio::net::UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    // Like PostgreSQL's own: anybody on the machine may connect, authentication decides.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    Ok(Listener::Unix(listener, SocketFile(path.to_owned())))
}
