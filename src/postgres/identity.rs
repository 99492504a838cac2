//! Who answers the question who a client is: the server, or the gate.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::audit::event::AuthMethod;
use crate::dial::TlsDialer;
use crate::listen::certificate::end_point_binding;
use crate::listen::stream::Stream;
use crate::listen::tls::Handshake;
use crate::postgres::credential::{Credential, Reach, ServerChannel};
use crate::postgres::dismissal::Dismissal;
use crate::postgres::gatekeeper::Gatekeeper;
use crate::postgres::handshake::{Binding, Negotiation};
use crate::postgres::startup::{PinnedStartup, StartupMessage};
use crate::postgres::upstream::UpstreamAddress;
use crate::postgres::wire::Wire;

/// Who decides.
#[derive(Clone, Debug)]
pub enum Auth {
    /// The server: its questions and the client's answers are passed on.
    Passthrough,
    /// The gate, which then logs in with a credential of its own.
    Users(Arc<Gatekeeper>, Arc<Credential>),
}

/// Who answers the server's questions during a login.
#[derive(Debug)]
pub enum Means<'a> {
    /// The client.
    Client(Binding),
    /// The gate.
    Gate(&'a Credential, ServerChannel),
}

impl Auth {
    /// Finds out who the client is, if that is the gate's business, and puts the gate's own role
    /// into the start-up packet. Not cancel-safe.
    ///
    /// # Errors
    /// When the client is not who it says it is; the server has not heard of it then.
    pub async fn identify<C>(
        &self,
        client: &mut Wire<C>,
        message: &StartupMessage,
        pinned: &mut PinnedStartup,
        handshake: Option<&Handshake>,
    ) -> Result<AuthMethod, Dismissal>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self::Users(gatekeeper, credential) = self else {
            return Ok(AuthMethod::Passthrough);
        };
        // Which version the server speaks is not known yet, and both sides must speak the same.
        pinned.minor = 0;
        if let Some(words) = Negotiation::new(message, pinned).client_message() {
            client.send(&words).await.map_err(|_| Dismissal::ClientLeft)?;
        }
        let method = gatekeeper.check(client, &pinned.user, handshake).await?;
        pinned.user.clone_from(&credential.user);
        Ok(method)
    }

    /// Who answers the server on this connection.
    #[must_use]
    pub fn means(
        &self,
        server: &Stream,
        address: &UpstreamAddress,
        dialer: Option<&TlsDialer>,
        handshake: Option<&Handshake>,
    ) -> Means<'_> {
        let certificate = server.peer_certificate();
        match self {
            // Both hops show one certificate: what the client binds to is what the server checks.
            Self::Passthrough => Means::Client(match (handshake, certificate) {
                (Some(settled), Some(shown)) if settled.own_certificate == *shown => {
                    Binding::Through
                }
                _ => Binding::Cut,
            }),
            Self::Users(_, credential) => {
                let is_known = dialer.is_some_and(TlsDialer::knows_the_server);
                let reach =
                    if is_known || is_here(address) { Reach::Known } else { Reach::Unknown };
                let end_point = certificate.and_then(end_point_binding);
                Means::Gate(credential, ServerChannel { end_point, reach })
            }
        }
    }
}

/// Whether the server is on this machine: nobody sits on the way.
fn is_here(address: &UpstreamAddress) -> bool {
    match address {
        UpstreamAddress::Tcp(host, _) => {
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        UpstreamAddress::Unix(_) => true,
    }
}
