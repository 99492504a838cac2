//! A byte stream to or from a peer, over TCP or a unix socket, in clear or encrypted.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// A connection, whatever it runs over.
#[derive(Debug)]
pub enum Stream {
    /// None: what stands in while a handshake owns the connection, and after one that failed.
    Closed,
    /// TCP.
    Tcp(TcpStream),
    /// TLS over one of the others.
    Tls(Box<TlsStream<Rewound>>),
    /// A unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// The certificate that the other side has shown and proven, if the connection is encrypted and
    /// it has.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
            Self::Closed | Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Whether the other side has said that it will send nothing more, though what it has sent may
    /// not have been read yet.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Tcp(stream) => says_hang_up(stream),
            Self::Tls(stream) => stream.get_ref().0.stream.has_hung_up(),
            Self::Unix(stream) => says_hang_up(stream),
        }
    }

    /// Takes the connection out; [`Stream::Closed`] stays behind.
    #[must_use]
    pub const fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Closed)
    }
}

fn says_hang_up(socket: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    let at_once = Timespec::default();
    poll(&mut asked, Some(&at_once)).is_ok_and(|answers| answers > 0)
}

/// How long a peer may be silent before the system asks whether it is still there: 60 s, then every
/// 10 s, three times. A machine that lost its power says nothing; without this its session, and the
/// transaction in it, would last for ever.
const SILENCE: (Duration, Duration, u32) = (Duration::from_mins(1), Duration::from_secs(10), 3);

/// Has the system notice when the machine at the other end is gone.
///
/// # Errors
/// When the system refuses.
pub fn watch_peer(stream: &TcpStream) -> io::Result<()> {
    let (silence, interval, times) = SILENCE;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, silence)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_keepcnt(stream, times)?;
    Ok(())
}

/// A connection of which some bytes have been read already; they come first once more.
#[derive(Debug)]
pub struct Rewound {
    /// What has been read, less what has been read again.
    first: Vec<u8>,
    stream: Stream,
}

impl Rewound {
    /// `first` is what has been read from `stream`.
    #[must_use]
    pub const fn new(first: Vec<u8>, stream: Stream) -> Self {
        Self { first, stream }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(self.first.get(..count).unwrap_or_default());
        self.first.drain(..count);
        if self.first.is_empty() {
            self.first = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// Records that wait together leave together; the last words of a failed handshake are several,
    /// and there is one write for them.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Closed => Poll::Ready(Ok(())),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Closed => false,
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Closed => Poll::Ready(Ok(())),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Closed => Poll::Ready(Ok(())),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
