//! TLS towards clients: the certificate that is shown, whose certificates are asked for, and how
//! both are replaced while connections go on.
//!
//! Nothing here knows what is spoken inside. No session is ever resumed and no early data taken: a
//! certificate that is no longer trusted must not live on in a ticket, and what comes early can be
//! sent again by somebody else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientCertVerifierBuilder, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ProtocolVersion, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::audit::event::TlsFacts;
use crate::listen::certificate::{FileError, read_certificates, read_key};
use crate::listen::stream::{Rewound, Stream};

/// Who must encrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsDemand {
    /// Whoever wants to.
    Allow,
    /// Everybody, and with a certificate of their own.
    Mutual,
    /// Everybody who comes over a network. A unix socket is none, and no client encrypts there.
    Require,
}

/// Where the certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The gate's own certificate and those between it and the root, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM; nobody else may read the file.
    pub key: PathBuf,
    /// The authorities of clients, in PEM. When given, every client must show a certificate.
    pub client_ca: Option<PathBuf>,
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not as it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// Certificate and key do not belong together, or are of a kind that is not spoken.
    #[error("`{cert}` and `{key}` cannot be used together")]
    Identity {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities of clients cannot be used.
    #[error("`{path}` holds no usable certificate authority: {why}")]
    ClientCa {
        /// Their file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// What a connection's handshake has settled.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// What will be spoken inside, if the client said so (ALPN).
    pub protocol: Option<Vec<u8>>,
    /// The version of TLS, such as `1.3`.
    pub version: &'static str,
    /// The cipher suite, by its name in the standard.
    pub cipher: &'static str,
    /// The certificate that the client has shown and proven.
    pub client_certificate: Option<CertificateDer<'static>>,
    /// The certificate that the client was shown.
    pub own_certificate: CertificateDer<'static>,
}

impl Handshake {
    /// What the audit log says about it.
    #[must_use]
    pub fn facts(&self) -> TlsFacts {
        let certificate = self.client_certificate.as_ref().map(|certificate| {
            let hash: [u8; 32] = Sha256::digest(certificate).into();
            hash.map(|byte| format!("{byte:02x}")).concat()
        });
        TlsFacts { version: self.version, cipher: self.cipher, certificate }
    }
}

/// The cryptography of the whole process, always named and never a global.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A way to encrypt connections of clients, with the certificates in force.
#[derive(Debug)]
pub struct TlsDoor {
    files: TlsFiles,
    /// What may be spoken inside.
    protocols: Vec<Vec<u8>>,
    identity: ArcSwap<Identity>,
}

#[derive(Debug)]
struct Identity {
    config: Arc<ServerConfig>,
    certificate: CertificateDer<'static>,
}

impl TlsDoor {
    /// Reads the certificates. `protocols` are the names (ALPN) of what is spoken inside; a client
    /// that names only others is turned away in the handshake.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn open(files: TlsFiles, protocols: &[&str]) -> Result<Self, TlsError> {
        let protocols: Vec<Vec<u8>> =
            protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let identity = ArcSwap::from_pointee(load(&files, &protocols)?);
        Ok(Self { files, protocols, identity })
    }

    /// Reads the certificates again. New connections get them; those that are open go on.
    ///
    /// # Errors
    /// A file that cannot be used; nothing has changed then.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.identity.store(Arc::new(load(&self.files, &self.protocols)?));
        Ok(())
    }

    /// Encrypts a connection, of which `first` has been read already. Not cancel-safe: a
    /// connection whose handshake is given up is closed.
    ///
    /// # Errors
    /// When no handshake comes about; the client has been told by an alert.
    pub async fn encrypt(&self, first: Vec<u8>, stream: Stream) -> io::Result<(Stream, Handshake)> {
        let identity = self.identity.load_full();
        let acceptor = TlsAcceptor::from(Arc::clone(&identity.config));
        let encrypted = acceptor.accept(Rewound::new(first, stream)).await?;
        let (_, connection) = encrypted.get_ref();
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "unknown",
        };
        let suite = connection.negotiated_cipher_suite();
        let cipher = suite.and_then(|suite| suite.suite().as_str()).unwrap_or("unknown");
        let handshake = Handshake {
            version,
            cipher,
            protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
            client_certificate: shown.map(|certificate| certificate.clone().into_owned()),
            own_certificate: identity.certificate.clone(),
        };
        Ok((Stream::Tls(Box::new(TlsStream::Server(encrypted))), handshake))
    }
}

fn load(files: &TlsFiles, protocols: &[Vec<u8>]) -> Result<Identity, TlsError> {
    let chain = read_certificates(&files.cert)?;
    let key = read_key(&files.key)?;
    let unusable =
        |source| TlsError::Identity { cert: files.cert.clone(), key: files.key.clone(), source };
    let certificate = chain
        .first()
        .cloned()
        .ok_or_else(|| FileError::Empty { path: files.cert.clone(), what: "certificate" })?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let wrong = |why: String| TlsError::ClientCa { path: path.clone(), why };
            let verifier = authorities(path)?.build().map_err(|error| wrong(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = protocols.to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Identity { config: Arc::new(config), certificate })
}

fn authorities(path: &Path) -> Result<ClientCertVerifierBuilder, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::ClientCa {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
    }
    Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()))
}
