//! TLS towards servers: whom to believe, and what is shown of ourselves.
//!
//! The counterpart of `listen::tls`. Nothing here knows what is spoken inside.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio_rustls::{TlsConnector, TlsStream};

use crate::listen::certificate::{FileError, read_certificates, read_key};
use crate::listen::stream::{Rewound, Stream};
use crate::listen::tls::provider;

/// Whom to take for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anybody: the bytes are encrypted, and nobody knows for whom. It stops who only listens.
    Anybody,
    /// Whoever has a certificate for the server's name from one of the authorities in this file.
    Authorities(PathBuf),
    /// Whoever has a certificate for the server's name from an authority that this machine trusts.
    Machine,
}

/// Encryption towards a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Whom to take for the server.
    pub trust: Trust,
    /// Certificate and key by which the server may know us.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Settings that cannot be put to work.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// A file is not as it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// The authorities cannot be used.
    #[error("`{path}` holds no usable certificate authority: {why}")]
    Authorities {
        /// Their file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The rest: certificate and key that do not belong together, a machine that trusts nobody.
    #[error("encryption towards the server cannot be set up")]
    Unusable(#[from] rustls::Error),
}

/// A way to encrypt connections to a server, with the certificates in force.
#[derive(Debug)]
pub struct TlsDialer {
    settings: ServerTls,
    config: ArcSwap<ClientConfig>,
}

impl TlsDialer {
    /// Reads the certificates.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn open(settings: &ServerTls) -> Result<Self, DialError> {
        let config = ArcSwap::from_pointee(load(settings)?);
        Ok(Self { settings: settings.clone(), config })
    }

    /// Reads the certificates again. New connections use them; those that are open go on.
    ///
    /// # Errors
    /// A file that cannot be used; nothing has changed then.
    pub fn reload(&self) -> Result<(), DialError> {
        self.config.store(Arc::new(load(&self.settings)?));
        Ok(())
    }

    /// Whether the server has proven who it is once a handshake has succeeded.
    #[must_use]
    pub fn knows_the_server(&self) -> bool {
        self.settings.trust != Trust::Anybody
    }

    /// Encrypts a connection to the server of this name or address. Not cancel-safe: a connection
    /// whose handshake is given up is closed.
    ///
    /// # Errors
    /// When no handshake comes about, a certificate that does not convince included.
    pub async fn encrypt(&self, host: &str, stream: Stream) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(self.config.load_full());
        let encrypted = connector.connect(name, Rewound::new(Vec::new(), stream)).await?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(encrypted))))
    }
}

fn load(settings: &ServerTls) -> Result<ClientConfig, DialError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier(&settings.trust)?);
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            builder.with_client_auth_cert(read_certificates(cert)?, read_key(key)?)?
        }
    };
    // What a server once said must not let a later handshake go without its certificate.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn verifier(trust: &Trust) -> Result<Arc<dyn ServerCertVerifier>, DialError> {
    match trust {
        Trust::Anybody => Ok(Arc::new(AnyServer(provider()))),
        Trust::Machine => Ok(Arc::new(Verifier::new(provider())?)),
        Trust::Authorities(path) => {
            let wrong = |why: String| DialError::Authorities { path: path.clone(), why };
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(path)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            let roots = Arc::new(roots);
            let built = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
            let verifier = built.map_err(|error| wrong(error.to_string()))?;
            Ok(verifier)
        }
    }
}

/// Takes any certificate, as `sslmode=require` does; its holder must still have the key.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
