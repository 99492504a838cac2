//! The gate's own login at the server (`auth = "users"`), with a credential that no client sees.
//!
//! The server is not trusted with it beyond need: a password goes out in clear, or hashed by MD5,
//! only to a server that is on this machine or has proven who it is; SCRAM is bound to the
//! channel where the server can; and a server that asks for too many rounds, or cannot show at the
//! end that it knows the password too, gets no session (checklist A25, A26).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::postgres::dismissal::Dismissal;
use crate::postgres::frame::{ProtocolViolation, next_server_frame};
use crate::postgres::gatekeeper::random;
use crate::postgres::handshake::{message, sasl_initial, sasl_mechanisms};
use crate::postgres::scram::{
    Challenge, ClientBinding, ClientFirst, Mechanism, SaltedPassword, ScramError,
};
use crate::postgres::wire::{Taken, Wire};

/// Who the gate is at the server.
pub struct Credential {
    /// The role.
    pub user: String,
    password: ArcSwap<Option<SecretString>>,
    /// The rounds of hashing are computed once for each salt: with them a login would cost
    /// milliseconds.
    salted: Mutex<Option<(Vec<u8>, u32, SaltedPassword)>>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Credential({})", self.user)
    }
}

/// What the gate knows of the way to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerChannel {
    /// The hash of the server's certificate, if the way is encrypted.
    pub end_point: Option<Vec<u8>>,
    /// Whether it is certain whom a password would reach.
    pub reach: Reach,
}

/// Whom a password would reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A process of this machine, or a server that has proven its name.
    Known,
    /// Whoever sits on the way.
    Unknown,
}

/// Why the gate got no session.
#[derive(Debug)]
pub enum Refused {
    /// The server said no, in these words.
    ByServer(Taken),
    /// Anything else.
    Dismissed(Dismissal),
}

impl From<Dismissal> for Refused {
    fn from(dismissal: Dismissal) -> Self {
        Self::Dismissed(dismissal)
    }
}

impl From<ProtocolViolation> for Refused {
    fn from(violation: ProtocolViolation) -> Self {
        Self::Dismissed(violation.into())
    }
}

impl Credential {
    /// Without a password the server must know the gate by its certificate, or trust it.
    #[must_use]
    pub fn new(user: String, password: Option<SecretString>) -> Self {
        Self { user, password: ArcSwap::from_pointee(password), salted: Mutex::new(None) }
    }

    /// Later logins use this password.
    pub fn replace_password(&self, password: Option<SecretString>) {
        self.password.store(Arc::new(password));
        *self.salted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Logs in on a connection that has been sent the start-up packet. Not cancel-safe.
    ///
    /// # Errors
    /// When the server refuses, or asks for what it must not get.
    pub async fn log_in<S>(
        &self,
        server: &mut Wire<S>,
        channel: &ServerChannel,
    ) -> Result<(), Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut dialogue = Dialogue { server };
        loop {
            let (code, body) = dialogue.next_question().await?;
            match code {
                0 => return Ok(()),
                3 if channel.reach == Reach::Known => {
                    let password = self.password()?;
                    dialogue.say(&[password.expose_secret().as_bytes(), b"\0"].concat()).await?;
                }
                5 if channel.reach == Reach::Known => {
                    let salt = body.first_chunk::<4>();
                    let salt = salt.ok_or(ProtocolViolation::Malformed("Authentication"))?;
                    let hash = self.md5(&self.password()?, *salt);
                    dialogue.say(hash.as_bytes()).await?;
                }
                3 | 5 => return Err(Dismissal::Untrusted("a password without SCRAM").into()),
                10 => {
                    self.scram(&mut dialogue, &body, channel).await?;
                    return dialogue.expect_end().await;
                }
                _ => return Err(Dismissal::Untrusted("an unknown kind of authentication").into()),
            }
        }
    }

    fn password(&self) -> Result<SecretString, Dismissal> {
        let password = self.password.load();
        password.as_ref().clone().ok_or(Dismissal::Untrusted("a password, and the gate has none"))
    }

    /// `md5` and the hash of the salt behind the hash of password and name.
    fn md5(&self, password: &SecretString, salt: [u8; 4]) -> String {
        let inner = [password.expose_secret().as_bytes(), self.user.as_bytes()].concat();
        let inner = hex(Md5::digest(inner).into());
        let outer = hex(Md5::digest([inner.as_bytes(), &salt].concat()).into());
        format!("md5{outer}\0")
    }

    async fn scram<S>(
        &self,
        dialogue: &mut Dialogue<'_, S>,
        offer: &[u8],
        channel: &ServerChannel,
    ) -> Result<(), Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let offered = sasl_mechanisms(offer);
        let offers = |mechanism: Mechanism| offered.contains(&mechanism.name().as_bytes());
        let (mechanism, binding) = match &channel.end_point {
            Some(hash) if offers(Mechanism::Bound) => {
                (Mechanism::Bound, ClientBinding::EndPoint(hash))
            }
            Some(_) => (Mechanism::Plain, ClientBinding::NotOffered),
            None => (Mechanism::Plain, ClientBinding::Impossible),
        };
        if !offers(mechanism) {
            return Err(Dismissal::Untrusted("an unknown kind of SASL").into());
        }
        let nonce = random::<18>().map_err(|_| Dismissal::NoRandomness)?;
        let first = ClientFirst::new(binding, &BASE64.encode(nonce));
        dialogue.say(&sasl_initial(mechanism.name(), first.message().as_bytes())).await?;
        let challenge = dialogue.expect(11).await?;
        let challenge = first.on_challenge(&challenge).map_err(untrusted)?;
        let salted = self.salted(&challenge).await?;
        let (last, proof) = challenge.answer(&salted);
        dialogue.say(last.as_bytes()).await?;
        if proof.is_in(&dialogue.expect(12).await?) {
            Ok(())
        } else {
            Err(Dismissal::Untrusted("to be believed without a proof").into())
        }
    }

    async fn salted(&self, challenge: &Challenge) -> Result<SaltedPassword, Dismissal> {
        let (salt, iterations) = (challenge.salt.clone(), challenge.iterations);
        let kept = self.salted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((known, rounds, salted)) = kept
            && known == salt
            && rounds == iterations.get()
        {
            return Ok(salted);
        }
        let password = self.password()?;
        // Others share this thread.
        let hashing = tokio::task::spawn_blocking(move || {
            let salted = SaltedPassword::of(password.expose_secret(), &salt, iterations);
            (salt, salted)
        });
        let (salt, salted) = hashing.await.map_err(|_| Dismissal::ServerDown)?;
        let kept = Some((salt, iterations.get(), salted.clone()));
        *self.salted.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(salted)
    }
}

const fn untrusted(error: ScramError) -> Dismissal {
    Dismissal::Untrusted(match error {
        ScramError::Costly(_) => "too many rounds of hashing",
        ScramError::Binding | ScramError::Malformed | ScramError::WrongPassword => {
            "an answer to another question"
        }
    })
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).concat()
}

/// Questions of the server's and the gate's answers.
struct Dialogue<'a, S> {
    server: &'a mut Wire<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<'_, S> {
    /// The code and the rest of the next authentication request.
    async fn next_question(&mut self) -> Result<(u32, Vec<u8>), Refused> {
        loop {
            let message = self.next_message().await?;
            match message.kind {
                b'R' => {
                    let (code, rest) = message
                        .body()
                        .split_first_chunk::<4>()
                        .ok_or(ProtocolViolation::Malformed("Authentication"))?;
                    return Ok((u32::from_be_bytes(*code), rest.to_vec()));
                }
                b'N' => {}
                b'E' => return Err(Refused::ByServer(message)),
                _ => return Err(ProtocolViolation::UnexpectedAnswer.into()),
            }
        }
    }

    async fn expect(&mut self, expected: u32) -> Result<Vec<u8>, Refused> {
        match self.next_question().await? {
            (code, rest) if code == expected => Ok(rest),
            // A server that lets us in half-way has not shown that it knows the password.
            _ => Err(Dismissal::Untrusted("to skip its own proof").into()),
        }
    }

    async fn expect_end(&mut self) -> Result<(), Refused> {
        self.expect(0).await.map(drop)
    }

    async fn next_message(&mut self) -> Result<Taken, Dismissal> {
        loop {
            if let Some(message) = self.server.take(next_server_frame)? {
                return Ok(message);
            }
            self.server.more().await.map_err(|_| Dismissal::ServerDown)?;
        }
    }

    async fn say(&mut self, body: &[u8]) -> Result<(), Dismissal> {
        self.server.send(&message(b'p', body)).await.map_err(|_| Dismissal::ServerDown)
    }
}
