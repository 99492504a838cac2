//! The way to the server: connect, and ask it to cancel.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::dial::TlsDialer;
use crate::listen::stream::{Stream, watch_peer};

/// How long a connection attempt may take: 10 s, libpq's usual patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// `SSLRequest`: length 8 and the code 80877103. Every PostgreSQL answers it with one letter and no
/// password, and nothing else does.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How long a cancel request may take in all: 5 s. Nobody waits for it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// One place where the server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// Host name or IP literal, and port.
    Tcp(String, u16),
    /// The socket file itself, `…/.s.PGSQL.5432`.
    Unix(PathBuf),
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(formatter, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// The server behind the gate: places that are tried in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// At least one.
    pub addresses: Vec<UpstreamAddress>,
}

/// The server cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("no server answers at {tried}")]
pub struct Unreachable {
    tried: String,
    #[source]
    source: Option<LinkError>,
}

/// One place that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It does not answer, or no more.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// It does not encrypt, and must.
    #[error("it offers no TLS, which `upstream_tls` asks for")]
    InClear,
    /// It agreed to encrypt, and no handshake came about.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// It took too long.
    #[error("it did not answer in time")]
    Slow,
}

impl Upstream {
    /// Connects to the first place that takes the connection. Not cancel-safe: a connection under
    /// way is given up.
    ///
    /// # Errors
    /// When none does within ten seconds each.
    pub async fn connect(
        &self,
        dialer: Option<&TlsDialer>,
    ) -> Result<(Stream, &UpstreamAddress), Unreachable> {
        let mut last = None;
        for address in &self.addresses {
            match link(address, dialer, CONNECT_TIMEOUT).await {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => last = Some(error),
            }
        }
        let tried: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        Err(Unreachable { tried: tried.join(", "), source: last })
    }
}

/// Connects to one place.
///
/// # Errors
/// When the system refuses or `patience` runs out.
pub async fn connect_within(address: &UpstreamAddress, patience: Duration) -> io::Result<Stream> {
    let attempt = async {
        match address {
            UpstreamAddress::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                watch_peer(&stream)?;
                Ok(Stream::Tcp(stream))
            }
            UpstreamAddress::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        }
    };
    tokio::time::timeout(patience, attempt)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Connects to one place, and encrypts the connection if there is somebody to do so. Not
/// cancel-safe: a connection under way is given up.
///
/// # Errors
/// When it cannot be reached, or does not encrypt.
pub async fn link(
    address: &UpstreamAddress,
    dialer: Option<&TlsDialer>,
    patience: Duration,
) -> Result<Stream, LinkError> {
    let attempt = async {
        let stream = connect_within(address, patience).await?;
        match (dialer, address) {
            (Some(dialer), UpstreamAddress::Tcp(host, _)) => encrypt(dialer, host, stream).await,
            // No server encrypts on a unix socket.
            (Some(_), UpstreamAddress::Unix(_)) | (None, _) => Ok(stream),
        }
    };
    tokio::time::timeout(patience, attempt).await.unwrap_or(Err(LinkError::Slow))
}

/// Asks for TLS and shakes hands. Exactly one byte is read in clear: what a hostile server sends
/// behind it meets the handshake, and is never taken for an answer (CVE-2021-23222).
async fn encrypt(dialer: &TlsDialer, host: &str, mut stream: Stream) -> Result<Stream, LinkError> {
    stream.write_all(&SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => dialer.encrypt(host, stream).await.map_err(LinkError::Handshake),
        _ => Err(LinkError::InClear),
    }
}

/// Where one session of the server can be cancelled.
#[derive(Clone, Debug)]
pub struct CancelTarget {
    /// What encrypts the way there.
    pub dialer: Option<Arc<TlsDialer>>,
    /// Where the session was opened.
    pub address: UpstreamAddress,
    /// Process id and secret, as the server gave them out: the body of `BackendKeyData`.
    pub key: Vec<u8>,
}

/// Two are the same if they name one session.
impl PartialEq for CancelTarget {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.key == other.key
    }
}

impl Eq for CancelTarget {}

impl CancelTarget {
    /// Asks the server to cancel what that session is doing. Like libpq, waits until the server
    /// closes the connection.
    ///
    /// # Errors
    /// When the server cannot be reached; the query then goes on.
    pub async fn cancel(&self) -> Result<(), LinkError> {
        let request = async {
            let dialer = self.dialer.as_deref();
            let mut stream = link(&self.address, dialer, CANCEL_TIMEOUT).await?;
            let length = u32::try_from(self.key.len() + 8).unwrap_or(u32::MAX);
            let mut packet = length.to_be_bytes().to_vec();
            packet.extend_from_slice(&80_877_102_u32.to_be_bytes());
            packet.extend_from_slice(&self.key);
            stream.write_all(&packet).await?;
            stream.flush().await?;
            let mut nothing = [0; 1];
            // Some servers close without a word of TLS; the request has been read by then.
            let _ = stream.read(&mut nothing).await;
            Ok(())
        };
        tokio::time::timeout(CANCEL_TIMEOUT, request).await.unwrap_or(Err(LinkError::Slow))
    }
}
