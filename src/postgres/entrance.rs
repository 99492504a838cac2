//! From the first byte of a connection to the packet that says what the client wants.
//!
//! Whether the connection is encrypted is settled here, before a name or a password has been read.
//! What came in clear is never read as if it had come encrypted: bytes behind a request for
//! encryption end the connection (CVE-2021-23214), and a handshake begins with an empty buffer.

use std::sync::Arc;

use crate::listen::Peer;
use crate::listen::proxy::{self, Header, IpRange};
use crate::listen::stream::Stream;
use crate::listen::tls::{Handshake, TlsDemand, TlsDoor};
use crate::policy::reason::Reason;
use crate::postgres::dismissal::Dismissal;
use crate::postgres::startup::{
    Encryption, FirstPacket, Opening, StartupRefusal, first_packet_bytes,
};
use crate::postgres::wire::Wire;

/// The name of the protocol inside TLS (ALPN), as PostgreSQL 17 registered it.
pub const PROTOCOL: &str = "postgresql";

/// The way in.
#[derive(Clone, Debug, Default)]
pub struct Entrance {
    tls: Option<(TlsDemand, Arc<TlsDoor>)>,
    balancers: Vec<IpRange>,
}

impl Entrance {
    /// With encryption.
    #[must_use]
    pub fn with_tls(self, demand: TlsDemand, door: Arc<TlsDoor>) -> Self {
        Self { tls: Some((demand, door)), ..self }
    }

    /// Behind load balancers at these addresses, which say by the PROXY protocol who comes.
    #[must_use]
    pub fn behind(self, balancers: Vec<IpRange>) -> Self {
        Self { balancers, ..self }
    }

    /// Who the client is: the peer itself, or whom a load balancer names. Not cancel-safe.
    ///
    /// # Errors
    /// A load balancer that does not say, or a client that left.
    pub async fn unveil(&self, client: &mut Wire<Stream>, peer: &Peer) -> Result<Peer, Dismissal> {
        let trusted = |ip| self.balancers.iter().any(|range| range.contains(ip));
        if !peer.socket_address().is_some_and(|address| trusted(address.ip())) {
            return Ok(peer.clone());
        }
        loop {
            let header = proxy::read(&client.bytes)
                .map_err(|_| StartupRefusal::Silent(Reason::ProtoBadLength))?;
            if let Some(Header { length, client: named }) = header {
                client.drop_front(length);
                return Ok(named.map_or_else(|| peer.clone(), Peer::Tcp));
            }
            client.more().await.map_err(|_| Dismissal::ClientLeft)?;
        }
    }

    fn encryption(&self, peer: &Peer) -> Encryption {
        match (&self.tls, peer) {
            (None, _) => Encryption::Declined,
            (Some((TlsDemand::Allow, _)), _) | (Some((TlsDemand::Require, _)), Peer::Unix) => {
                Encryption::Offered
            }
            (Some((TlsDemand::Mutual | TlsDemand::Require, _)), _) => Encryption::Required,
        }
    }

    /// Reads first packets until one says what the client wants, and encrypts the connection if it
    /// asks for that. Not cancel-safe.
    ///
    /// # Errors
    /// A packet that is refused, a handshake that fails, or a client that left.
    pub async fn enter(
        &self,
        client: &mut Wire<Stream>,
        peer: &Peer,
    ) -> Result<(FirstPacket, Option<Handshake>), Dismissal> {
        let mut opening = Opening::new(self.encryption(peer));
        let mut handshake = None;
        loop {
            if opening.is_direct_tls(&client.bytes) {
                let settled = self.encrypt(client).await?;
                // Without the name it may be a browser that was sent here with somebody else's
                // request (the ALPACA attack). PostgreSQL closes too.
                if settled.protocol.as_deref() != Some(PROTOCOL.as_bytes()) {
                    return Err(Dismissal::Handshake);
                }
                handshake = Some(settled);
                opening = opening.encrypted();
            }
            let whole = first_packet_bytes(&client.bytes)?;
            let Some(packet) = whole.and_then(|length| client.bytes.get(..length)) else {
                client.more().await.map_err(|_| Dismissal::ClientLeft)?;
                continue;
            };
            let length = packet.len();
            let (next, first) = opening.on_packet(packet, client.bytes.len() - length)?;
            client.drop_front(length);
            opening = next;
            match first {
                FirstPacket::Ssl if opening.encryption() != Encryption::Declined => {
                    say(client, b"S").await?;
                    handshake = Some(self.encrypt(client).await?);
                    opening = opening.encrypted();
                }
                FirstPacket::GssEnc | FirstPacket::Ssl => say(client, b"N").await?,
                FirstPacket::Cancel { .. } | FirstPacket::Startup(_) => {
                    return Ok((first, handshake));
                }
            }
        }
    }

    /// Puts TLS around the connection. What has been read of it belongs to the handshake.
    async fn encrypt(&self, client: &mut Wire<Stream>) -> Result<Handshake, Dismissal> {
        let Some((_, door)) = &self.tls else { return Err(Dismissal::Handshake) };
        let first = std::mem::take(&mut client.bytes);
        let encrypted = door.encrypt(first, client.stream.take()).await;
        let (stream, handshake) = encrypted.map_err(|error| {
            tracing::debug!(%error, "a TLS handshake failed");
            Dismissal::Handshake
        })?;
        client.stream = stream;
        Ok(handshake)
    }
}

async fn say(client: &mut Wire<Stream>, answer: &[u8]) -> Result<(), Dismissal> {
    client.send(answer).await.map_err(|_| Dismissal::ClientLeft)
}
