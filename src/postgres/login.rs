//! From the start-up packet to a session that is known to be pinned to reading.
//!
//! Who a client is, the server decides: its questions and the client's answers are passed on, and
//! so is its error, byte for byte. What the gate adds: the start-up packet is its own, channel
//! binding is not offered in clear, cancel keys are its own, and before the client hears
//! ReadyForQuery the session has been asked whether the pins hold.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::dial::TlsDialer;
use crate::postgres::cancel::{CancelKeys, IssuedKey};
use crate::postgres::catalogs::{Catalogs, SessionJudge};
use crate::postgres::credential::Refused;
use crate::postgres::dismissal::Dismissal;
use crate::postgres::frame::{ProtocolViolation, next_login_frame, next_server_frame};
use crate::postgres::handshake::{
    AuthStep, Binding, Negotiation, Reported, SaslInitial, auth_step, backend_pid, sasl_mechanisms,
    sasl_message, unbound_mechanisms,
};
use crate::postgres::identity::Means;
use crate::postgres::posture;
use crate::postgres::posture::Posture;
use crate::postgres::session::{Pins, field};
use crate::postgres::upstream::{CancelTarget, UpstreamAddress};
use crate::postgres::wire::{Taken, Wire};

/// What the server asks of the client in the SASL request that lists mechanisms.
const SASL_MECHANISMS: &[u8] = &[0, 0, 0, 10];

/// A session of the server, logged in and asked; the client has not heard ReadyForQuery yet.
pub struct LoggedIn {
    /// What must stay as it is.
    pub pins: Pins,
    /// What the role can do.
    pub posture: Posture,
    /// The key that the client gets, valid as long as this lives.
    pub key: IssuedKey,
    /// Where the session can be cancelled.
    pub target: CancelTarget,
    /// Reports, cancel key and ReadyForQuery for the client.
    pub for_client: Vec<u8>,
    /// Who judges the session's statements.
    pub judge: SessionJudge,
}

/// The SASL mechanisms that the client has been offered and not yet chosen from.
#[derive(Debug, Default)]
enum Offer {
    /// None.
    #[default]
    None,
    /// These.
    Made {
        /// Their names.
        mechanisms: Vec<Vec<u8>>,
        /// What became of those that bind.
        bound: Bound,
    },
}

/// What became of the mechanisms that bind to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    AsOffered,
    TakenOut,
}

impl Offer {
    /// Looks at the client's next answer. A server that offered binding refuses a client that could
    /// bind and does not (RFC 5802, section 6), in words that help nobody; the gate is faster.
    fn check(self, answer: &[u8]) -> Result<(), Dismissal> {
        let Self::Made { mechanisms, bound } = self else { return Ok(()) };
        let initial = SaslInitial::read(answer)?;
        if !mechanisms.iter().any(|name| name == initial.mechanism) {
            return Err(ProtocolViolation::Malformed("SASLInitialResponse").into());
        }
        match bound {
            Bound::TakenOut if initial.misses_binding() => Err(Dismissal::BindingCut),
            Bound::AsOffered | Bound::TakenOut => Ok(()),
        }
    }
}

/// One login under way.
pub struct Login<'a, C, S> {
    /// The client.
    pub client: &'a mut Wire<C>,
    /// The server, which has been sent the start-up packet.
    pub server: &'a mut Wire<S>,
    /// The protocol version.
    pub negotiation: Negotiation,
    /// Where keys are issued.
    pub keys: &'a Arc<CancelKeys>,
    /// Where the server was reached.
    pub address: &'a UpstreamAddress,
    /// What is known of the server's databases.
    pub catalogs: &'a Catalogs,
    /// The database that the client asked for.
    pub database: &'a str,
    /// What encrypts the way there.
    pub dialer: Option<&'a Arc<TlsDialer>>,
    /// Who answers the server's questions.
    pub means: Means<'a>,
}

impl<C, S> Login<'_, C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Carries a login through. Not cancel-safe.
    ///
    /// # Errors
    /// When there will be no session.
    pub async fn run(mut self) -> Result<LoggedIn, Dismissal> {
        self.prove().await?;
        let (reported, mut for_client, backend_key) = self.collect_reports().await?;
        if let Some(pin) = reported.broken_pin() {
            return Err(Dismissal::Unpinned(pin));
        }
        let posture = self.ask_posture(&mut for_client).await?;
        let judge = self.catalogs.judge_for(self.database, self.server, &mut for_client).await?;
        let pid = backend_pid(&backend_key, self.negotiation.minor())
            .ok_or(ProtocolViolation::Malformed("BackendKeyData"))?;
        let target = CancelTarget {
            dialer: self.dialer.cloned(),
            address: self.address.clone(),
            key: backend_key,
        };
        let key = self.keys.issue(pid, self.negotiation.minor(), target.clone());
        for_client.extend_from_slice(&key.message());
        for_client.extend_from_slice(b"Z\0\0\0\x05I");
        Ok(LoggedIn {
            pins: reported.pins(posture.server_major()),
            posture,
            key,
            target,
            for_client,
            judge,
        })
    }

    /// Answers the server's questions until it is satisfied.
    async fn prove(&mut self) -> Result<(), Dismissal> {
        let (credential, channel) = match &self.means {
            Means::Client(binding) => return self.authenticate(*binding).await,
            Means::Gate(credential, channel) => (*credential, channel),
        };
        match credential.log_in(self.server, channel).await {
            Ok(()) => self.tell_client(&sasl_message(0, b"")).await,
            Err(Refused::Dismissed(dismissal)) => Err(dismissal),
            Err(Refused::ByServer(error)) => Err(self.pass_refusal(&error).await),
        }
    }

    /// Passes questions and answers on until the server is satisfied.
    async fn authenticate(&mut self, binding: Binding) -> Result<(), Dismissal> {
        let mut offer = Offer::default();
        let mut version_is_told = false;
        let mut step = AuthStep::ServerGoesOn;
        loop {
            while let Some(message) = self.server.take(next_server_frame)? {
                match message.kind {
                    b'R' if version_is_told => {
                        step = self.pass_question(&message, binding, &mut offer).await?;
                    }
                    b'R' => {
                        self.tell_version().await?;
                        version_is_told = true;
                        step = self.pass_question(&message, binding, &mut offer).await?;
                    }
                    b'v' if !version_is_told => self.negotiation.on_server(message.body())?,
                    b'N' => self.tell_client(&message.raw).await?,
                    b'E' => return Err(self.pass_refusal(&message).await),
                    _ => return Err(ProtocolViolation::UnexpectedAnswer.into()),
                }
                if step == AuthStep::Done {
                    return Ok(());
                }
            }
            if step == AuthStep::ClientAnswers
                && let Some(answer) = self.client.take(next_login_frame)?
            {
                std::mem::take(&mut offer).check(answer.body())?;
                self.tell_server(&answer.raw).await?;
                step = AuthStep::ServerGoesOn;
            }
            self.wait(step).await?;
        }
    }

    async fn tell_version(&mut self) -> Result<(), Dismissal> {
        match self.negotiation.client_message() {
            Some(words) => self.tell_client(&words).await,
            None => Ok(()),
        }
    }

    /// Waits for whoever's turn it is; the server may always speak, as it does when its patience
    /// ends.
    async fn wait(&mut self, step: AuthStep) -> Result<(), Dismissal> {
        tokio::select! {
            heard = self.server.more() => heard.map_err(|_| Dismissal::ServerDown),
            heard = self.client.more(), if step == AuthStep::ClientAnswers => {
                heard.map_err(|_| Dismissal::ClientLeft)
            }
        }
    }

    async fn pass_question(
        &mut self,
        message: &Taken,
        binding: Binding,
        offer: &mut Offer,
    ) -> Result<AuthStep, Dismissal> {
        let step = auth_step(message.body()).map_err(|_| Dismissal::Method)?;
        let Some(list) = message.body().strip_prefix(SASL_MECHANISMS) else {
            self.tell_client(&message.raw).await?;
            return Ok(step);
        };
        let kept = match binding {
            Binding::Cut => unbound_mechanisms(message.body()).ok_or(Dismissal::Method)?,
            Binding::Through => message.raw.clone(),
        };
        let offered = sasl_mechanisms(kept.get(9..).unwrap_or_default());
        let was_cut = offered.len() < sasl_mechanisms(list).len();
        *offer = Offer::Made {
            mechanisms: offered.iter().map(|name| name.to_vec()).collect(),
            bound: if was_cut { Bound::TakenOut } else { Bound::AsOffered },
        };
        self.tell_client(&kept).await?;
        Ok(step)
    }

    /// Collects what the server reports up to its ReadyForQuery: the settings, the messages for the
    /// client, the body of its own cancel key.
    async fn collect_reports(&mut self) -> Result<(Reported, Vec<u8>, Vec<u8>), Dismissal> {
        let mut reported = Reported::default();
        let mut for_client = Vec::new();
        let mut backend_key = Vec::new();
        loop {
            let message = self.next_message().await?;
            match message.kind {
                b'S' => {
                    reported.take(message.body())?;
                    for_client.extend_from_slice(&message.raw);
                }
                b'K' => backend_key = message.body().to_vec(),
                b'N' => for_client.extend_from_slice(&message.raw),
                b'Z' => return Ok((reported, for_client, backend_key)),
                b'E' => return Err(self.pass_refusal(&message).await),
                _ => return Err(ProtocolViolation::UnexpectedAnswer.into()),
            }
        }
    }

    /// Asks the gate's own question. An error is not passed on, for the client has asked nothing.
    async fn ask_posture(&mut self, for_client: &mut Vec<u8>) -> Result<Posture, Dismissal> {
        self.tell_server(&posture::question()).await?;
        let mut posture = None;
        loop {
            let message = self.next_message().await?;
            match message.kind {
                b'D' if posture.is_none() => posture = Posture::read(message.body()),
                b'T' | b'C' => {}
                b'N' | b'A' => for_client.extend_from_slice(&message.raw),
                b'Z' => break,
                _ => return Err(ProtocolViolation::UnexpectedAnswer.into()),
            }
        }
        let posture = posture.ok_or(ProtocolViolation::UnexpectedAnswer)?;
        match posture.broken_pin() {
            Some(pin) => Err(Dismissal::Unpinned(pin)),
            None => Ok(posture),
        }
    }

    async fn next_message(&mut self) -> Result<Taken, Dismissal> {
        loop {
            if let Some(message) = self.server.take(next_server_frame)? {
                return Ok(message);
            }
            self.server.more().await.map_err(|_| Dismissal::ServerDown)?;
        }
    }

    async fn pass_refusal(&mut self, error: &Taken) -> Dismissal {
        let sqlstate = field(error.body(), b'C').and_then(|code| std::str::from_utf8(code).ok());
        let sqlstate = sqlstate.unwrap_or("XX000").to_owned();
        // Its words about the gate's own role are none of the client's business.
        if matches!(self.means, Means::Gate(..)) && sqlstate.starts_with("28") {
            return Dismissal::GateRefused(sqlstate);
        }
        if let Err(left) = self.tell_client(&error.raw).await {
            return left;
        }
        Dismissal::ServerRefused(sqlstate)
    }

    async fn tell_client(&mut self, bytes: &[u8]) -> Result<(), Dismissal> {
        self.client.send(bytes).await.map_err(|_| Dismissal::ClientLeft)
    }

    async fn tell_server(&mut self, bytes: &[u8]) -> Result<(), Dismissal> {
        self.server.send(bytes).await.map_err(|_| Dismissal::ServerDown)
    }
}
