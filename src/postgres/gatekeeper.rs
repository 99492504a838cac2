//! The gate's own check of who a client is (`auth = "users"`), before the server hears of it.
//!
//! An unknown user, a wrong password and a user without one read the same words after the same
//! exchange, so that nobody learns from them who is in the file.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::audit::event::AuthMethod;
use crate::listen::certificate::{FileError, check_private, common_name, end_point_binding};
use crate::listen::tls::Handshake;
use crate::postgres::dismissal::Dismissal;
use crate::postgres::frame::{ProtocolViolation, next_login_frame};
use crate::postgres::handshake::{SaslInitial, sasl_message, sasl_request};
use crate::postgres::scram::{Challenged, Mechanism, ScramError};
use crate::postgres::users::{Users, UsersMistake};
use crate::postgres::wire::{Taken, Wire};

/// A users file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read, or others can read it.
    #[error(transparent)]
    File(#[from] FileError),
    /// It has mistakes.
    #[error("`{path}`, {}", list(.mistakes))]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them.
        mistakes: Vec<UsersMistake>,
    },
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

fn list(mistakes: &[UsersMistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Random bytes of the system's.
///
/// # Errors
/// When it has none; nobody may be let in then.
pub fn random<const N: usize>() -> Result<[u8; N], UsersError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| UsersError::NoRandomness)?;
    Ok(bytes)
}

/// Knows who may come in.
#[derive(Debug)]
pub struct Gatekeeper {
    file: PathBuf,
    /// Holds the salts of nobody where they are as long as the process runs.
    seed: [u8; 32],
    users: ArcSwap<Users>,
}

impl Gatekeeper {
    /// Reads the users file.
    ///
    /// # Errors
    /// A file that cannot be read, that others can read, or that has mistakes.
    pub fn open(file: PathBuf) -> Result<Self, UsersError> {
        let seed = random()?;
        let users = ArcSwap::from_pointee(load(&file, seed)?);
        Ok(Self { file, seed, users })
    }

    /// Reads the users file again. Sessions that are open go on.
    ///
    /// # Errors
    /// A file that cannot be used; nothing has changed then.
    pub fn reload(&self) -> Result<(), UsersError> {
        self.users.store(Arc::new(load(&self.file, self.seed)?));
        Ok(())
    }

    /// Whether somebody logs in by certificate alone.
    #[must_use]
    pub fn knows_certificates(&self) -> bool {
        self.users.load().know_certificates()
    }

    /// Finds out whether the client is who it says it is. Not cancel-safe.
    ///
    /// # Errors
    /// When it is not, or does not keep to the protocol.
    pub async fn check<C>(
        &self,
        client: &mut Wire<C>,
        name: &str,
        handshake: Option<&Handshake>,
    ) -> Result<AuthMethod, Dismissal>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let users = self.users.load_full();
        let shown = handshake.and_then(|settled| settled.client_certificate.as_ref());
        let shown = shown.and_then(common_name);
        if shown.is_some_and(|common_name| users.is_proven_by(name, &common_name)) {
            return Ok(AuthMethod::Cert);
        }
        let end_point = handshake.and_then(|settled| end_point_binding(&settled.own_certificate));
        let exchange = Exchange { client, end_point: end_point.as_deref() };
        exchange.run(&users, name).await.map_err(|failure| match failure {
            Failure::Dismissed(dismissal) => dismissal,
            Failure::Scram(ScramError::Binding) => Dismissal::ClientBinding,
            Failure::Scram(ScramError::WrongPassword) => Dismissal::WrongPassword(name.to_owned()),
            Failure::Scram(ScramError::Malformed | ScramError::Costly(_)) => {
                ProtocolViolation::Malformed("SCRAM").into()
            }
        })?;
        Ok(AuthMethod::Scram)
    }
}

fn load(file: &PathBuf, seed: [u8; 32]) -> Result<Users, UsersError> {
    check_private(file)?;
    let text = fs::read_to_string(file)
        .map_err(|source| FileError::Unreadable { path: file.clone(), source })?;
    Users::parse(&text, seed)
        .map_err(|mistakes| UsersError::Mistakes { path: file.clone(), mistakes })
}

enum Failure {
    Dismissed(Dismissal),
    Scram(ScramError),
}

impl From<Dismissal> for Failure {
    fn from(dismissal: Dismissal) -> Self {
        Self::Dismissed(dismissal)
    }
}

impl From<ProtocolViolation> for Failure {
    fn from(violation: ProtocolViolation) -> Self {
        Self::Dismissed(violation.into())
    }
}

impl From<ScramError> for Failure {
    fn from(error: ScramError) -> Self {
        Self::Scram(error)
    }
}

/// One SCRAM exchange with a client.
struct Exchange<'a, C> {
    client: &'a mut Wire<C>,
    /// The hash of the certificate that the client was shown; `None` in clear.
    end_point: Option<&'a [u8]>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Exchange<'_, C> {
    async fn run(mut self, users: &Users, name: &str) -> Result<(), Failure> {
        let offered: &[Mechanism] = match self.end_point {
            Some(_) => &[Mechanism::Bound, Mechanism::Plain],
            None => &[Mechanism::Plain],
        };
        self.say(&sasl_request(offered)).await?;
        let answer = self.hear().await?;
        let initial = SaslInitial::read(answer.body())?;
        let mechanism = Mechanism::named(initial.mechanism).filter(|it| offered.contains(it));
        let mechanism = mechanism.ok_or(ProtocolViolation::Malformed("SASLInitialResponse"))?;
        let nonce = random::<18>().map_err(|_| Dismissal::NoRandomness)?;
        let nonce = BASE64.encode(nonce);
        let verifier = users.verifier(name);
        let (challenged, challenge) =
            Challenged::begin(mechanism, initial.data, self.end_point, verifier, &nonce)?;
        self.say(&sasl_message(11, challenge.as_bytes())).await?;
        let answer = self.hear().await?;
        let proof = challenged.finish(answer.body())?;
        Ok(self.say(&sasl_message(12, proof.as_bytes())).await?)
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), Dismissal> {
        self.client.send(bytes).await.map_err(|_| Dismissal::ClientLeft)
    }

    async fn hear(&mut self) -> Result<Taken, Dismissal> {
        loop {
            if let Some(answer) = self.client.take(next_login_frame)? {
                return Ok(answer);
            }
            self.client.more().await.map_err(|_| Dismissal::ClientLeft)?;
        }
    }
}
