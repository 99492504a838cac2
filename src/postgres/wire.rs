//! A stream with the bytes that have come and are not yet read: what a login needs. The pump takes
//! over from it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::postgres::frame::{Frame, ProtocolViolation};
use crate::postgres::reply::Complaint;

/// Room made for each read during a login: 1 KiB. Thousands of peers may connect and say nothing.
const READ_BYTES: usize = 1024;

/// How long a last word may take to be delivered, and how long the peer may take to close after it:
/// 2 s. Closing at once could make the peer's system drop the word unread.
const FAREWELL: Duration = Duration::from_secs(2);

/// A stream and what has come from it.
#[derive(Debug)]
pub struct Wire<S> {
    /// Where the bytes come from.
    pub stream: S,
    /// Bytes that nobody has read yet.
    pub bytes: Vec<u8>,
}

/// A message taken off a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its type byte.
    pub kind: u8,
    /// All of it.
    pub raw: Vec<u8>,
}

impl Taken {
    /// What follows the length.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.raw.get(5..).unwrap_or_default()
    }

    /// As a frame.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        Frame { kind: self.kind, body: self.body(), raw: &self.raw }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A stream from which nothing has come.
    #[must_use]
    pub const fn new(stream: S) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    /// Waits for more bytes. Cancel-safe.
    ///
    /// # Errors
    /// When the peer has closed or is gone.
    pub async fn more(&mut self) -> io::Result<()> {
        self.bytes.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Sends bytes. Not cancel-safe.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        // What is encrypted may wait in a buffer of its own.
        self.stream.flush().await
    }

    /// Takes the next message off, if it is there as a whole.
    ///
    /// # Errors
    /// What `next` finds wrong with it.
    pub fn take(
        &mut self,
        next: fn(&[u8]) -> Result<Option<Frame<'_>>, ProtocolViolation>,
    ) -> Result<Option<Taken>, ProtocolViolation> {
        let Some(frame) = next(&self.bytes)? else { return Ok(None) };
        let taken = Taken { kind: frame.kind, raw: frame.raw.to_vec() };
        self.drop_front(taken.raw.len());
        Ok(Some(taken))
    }

    /// The first `count` bytes have been read.
    pub fn drop_front(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }

    /// Says a last word, if there is one, and closes.
    pub async fn dismiss(&mut self, complaint: Option<&Complaint>) {
        let mut bytes = Vec::new();
        if let Some(complaint) = complaint {
            complaint.encode(&mut bytes);
        }
        say_farewell(&mut self.stream, &bytes).await;
    }
}

/// Sends last bytes, closes this direction and waits for the peer to close too; for a short time
/// only, and nobody learns how it went: the peer may be gone already.
pub async fn say_farewell<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) {
    let farewell = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        let mut unread = [0; 512];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    // Whatever becomes of it, the connection ends here.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}
