//! Certificates for a test, and a client that speaks TLS over a blocking socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rowarden::cli::certs;
use rowarden::listen::Address;
use rowarden::listen::certificate::{read_certificates, read_key};
use rowarden::listen::tls::TlsDemand;
use rowarden::listen::tls::{TlsDoor, TlsFiles, provider};
use rowarden::postgres::entrance::{Entrance, PROTOCOL};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

/// `SSLRequest`.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// An authority with a certificate for a server on this machine and one for `ann`.
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certs::make(folder.path(), &[], "ann").unwrap();
        Self { folder }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn files(&self, demand: TlsDemand) -> TlsFiles {
        let client_ca = (demand == TlsDemand::Mutual).then(|| self.file("ca.crt"));
        TlsFiles { cert: self.file("server.crt"), key: self.file("server.key"), client_ca }
    }

    /// A way in with these certificates.
    pub(crate) fn entrance(&self, demand: TlsDemand) -> Entrance {
        Entrance::default().with_tls(demand, self.door(demand))
    }

    pub(crate) fn door(&self, demand: TlsDemand) -> Arc<TlsDoor> {
        Arc::new(TlsDoor::open(self.files(demand), &[PROTOCOL]).unwrap())
    }

    /// A client that trusts the authority, shows ann's certificate if `shows`, and offers these
    /// protocols.
    pub(crate) fn client(&self, shows: Shows, protocols: &[&str]) -> Arc<ClientConfig> {
        self.client_of(self, shows, protocols)
    }

    /// The same with a certificate that `owner` has signed.
    pub(crate) fn client_showing(&self, owner: &Self, shows: Shows) -> Arc<ClientConfig> {
        self.client_of(owner, shows, &["postgresql"])
    }

    fn client_of(&self, owner: &Self, shows: Shows, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(read_certificates(&self.file("ca.crt")).unwrap().remove(0)).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shows {
            Shows::Nothing => builder.with_no_client_auth(),
            Shows::Certificate => {
                let chain = read_certificates(&owner.file("client.crt")).unwrap();
                let key = read_key(&owner.file("client.key")).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// What a client shows of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    Certificate,
    Nothing,
}

/// A bare connection to a gate on a loopback port.
pub(crate) fn connect(address: &Address) -> TcpStream {
    let Address::Tcp(address) = address else { panic!("a loopback port") };
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Speaks TLS on a connection from here on; the handshake is made when something is sent or read.
pub(crate) fn wrap(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = "localhost".try_into().unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

/// Asks for TLS as clients of all versions do, and shakes hands.
pub(crate) fn secure(
    address: &Address,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut stream = connect(address);
    stream.write_all(&SSL_REQUEST)?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, *b"S");
    shake_hands(wrap(stream, config))
}

/// Shakes hands now.
pub(crate) fn shake_hands(
    mut stream: StreamOwned<ClientConnection, TcpStream>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}
