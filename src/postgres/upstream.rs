//! The way to the server: connect, and ask it to cancel.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::listen::stream::{Stream, watch_peer};

/// How long a connection attempt may take: 10 s, libpq's usual patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
    source: Option<io::Error>,
}

impl Upstream {
    /// Connects to the first place that takes the connection. Not cancel-safe: a connection under
    /// way is given up.
    ///
    /// # Errors
    /// When none does within ten seconds each.
    pub async fn connect(&self) -> Result<(Stream, &UpstreamAddress), Unreachable> {
        let mut last = None;
        for address in &self.addresses {
            match connect_within(address, CONNECT_TIMEOUT).await {
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

/// Where one session of the server can be cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelTarget {
    /// Where the session was opened.
    pub address: UpstreamAddress,
    /// Process id and secret, as the server gave them out: the body of `BackendKeyData`.
    pub key: Vec<u8>,
}

impl CancelTarget {
    /// Asks the server to cancel what that session is doing. Like libpq, waits until the server
    /// closes the connection.
    ///
    /// # Errors
    /// When the server cannot be reached; the query then goes on.
    pub async fn cancel(&self) -> io::Result<()> {
        let request = async {
            let mut stream = connect_within(&self.address, CANCEL_TIMEOUT).await?;
            let length = u32::try_from(self.key.len() + 8).unwrap_or(u32::MAX);
            let mut packet = length.to_be_bytes().to_vec();
            packet.extend_from_slice(&80_877_102_u32.to_be_bytes());
            packet.extend_from_slice(&self.key);
            stream.write_all(&packet).await?;
            let mut nothing = [0; 1];
            stream.read(&mut nothing).await.map(drop)
        };
        tokio::time::timeout(CANCEL_TIMEOUT, request)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
