//! SCRAM-SHA-256 (RFC 5802 and 7677), both halves: the server's towards clients of the gate, the
//! client's towards the server behind it.
//!
//! Each half is a chain of states that take themselves by value. Messages are read to the letter:
//! an attribute too many, a nonce that is not ours, base64 in another spelling end the exchange.
//! Randomness comes from the caller.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

/// The longest message that is read: 2 KiB, ten times what any client sends.
const MAX_MESSAGE_BYTES: usize = 2048;

/// The most rounds that are computed for a server that asks for them: 100,000, what it takes is
/// tens of milliseconds. PostgreSQL asks for 4,096; a hostile server for two thousand million.
const MAX_ITERATIONS: u32 = 100_000;

/// The rounds of new verifiers: 4,096, as PostgreSQL's own.
pub const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// The kind of channel binding that both sides know (RFC 5929).
const END_POINT: &str = "tls-server-end-point";

/// Why an exchange ended. The client is told no more than that its password is wrong, or that it
/// does not keep to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that is not of the form of the RFC.
    #[error("malformed SCRAM message")]
    Malformed,
    /// The other side binds to another channel, or says that binding was not offered when it was:
    /// somebody stands between.
    #[error("SCRAM channel binding does not hold")]
    Binding,
    /// The server asks for more rounds than it may.
    #[error("the server asks for {0} rounds of hashing")]
    Costly(u32),
    /// The other side does not know the password.
    #[error("the password is wrong")]
    WrongPassword,
}

/// What the gate keeps of a user's password: enough to check it, too little to log in with.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Verifier(…)")
    }
}

impl Verifier {
    /// The verifier of a password.
    #[must_use]
    pub fn of(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let salted = SaltedPassword::of(password, salt, iterations);
        Self {
            salt: salt.to_vec(),
            iterations,
            stored_key: sha256(&salted.client_key()),
            server_key: salted.server_key(),
        }
    }

    /// The verifier of nobody, for a name that is not known: an exchange with it looks like any
    /// other and fails at its end. The same `seed` and name make the same salt.
    #[must_use]
    pub fn of_nobody(seed: &[u8; 32], name: &str, iterations: NonZeroU32) -> Self {
        let part = |what: &str| keyed(seed, &[what.as_bytes(), name.as_bytes()].concat());
        let salt = part("salt").iter().take(16).copied().collect();
        Self { salt, iterations, stored_key: part("stored"), server_key: part("server") }
    }

    /// Reads `SCRAM-SHA-256$4096:SALT$STOREDKEY:SERVERKEY`, as in PostgreSQL's `pg_authid`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text| <[u8; 32]>::try_from(BASE64.decode(text).ok()?).ok();
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        let (stored_key, server_key) = (key(stored_key)?, key(server_key)?);
        Some(Self { salt, iterations: number(iterations)?, stored_key, server_key })
    }

    /// The text that [`Self::parse`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|key| BASE64.encode(key));
        format!("SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }

    /// How many rounds it takes to try a password.
    #[must_use]
    pub const fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }
}

/// Which of the two mechanisms the client has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256-PLUS: bound to the TLS channel.
    Bound,
    /// SCRAM-SHA-256.
    Plain,
}

impl Mechanism {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bound => "SCRAM-SHA-256-PLUS",
            Self::Plain => "SCRAM-SHA-256",
        }
    }

    /// The mechanism of this name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        [Self::Bound, Self::Plain].into_iter().find(|it| it.name().as_bytes() == name)
    }
}

/// The server's half, after it has sent its challenge.
#[derive(Debug)]
pub struct Challenged {
    verifier: Verifier,
    /// What the client must repeat in `c=`.
    binding: Vec<u8>,
    nonce: String,
    /// The client's first message without its header, and the challenge.
    transcript: String,
}

impl Challenged {
    /// Takes the client's first message; returns the challenge beside the state. `end_point` is the
    /// hash of the certificate that the client was shown, if the mechanism that binds to it was
    /// offered.
    ///
    /// # Errors
    /// A message that is malformed, or that binds to something else.
    pub fn begin(
        mechanism: Mechanism,
        client_first: &[u8],
        end_point: Option<&[u8]>,
        verifier: Verifier,
        nonce: &str,
    ) -> Result<(Self, String), ScramError> {
        let message = text(client_first)?;
        let mut parts = message.splitn(3, ',');
        let flag = parts.next().ok_or(ScramError::Malformed)?;
        // An identity to act as: PostgreSQL knows none either.
        if parts.next() != Some("") {
            return Err(ScramError::Malformed);
        }
        let bare = parts.next().ok_or(ScramError::Malformed)?;
        let bound_to = match (flag, mechanism, end_point) {
            ("n", Mechanism::Plain, _) | ("y", Mechanism::Plain, None) => &[][..],
            // The client could bind and was told that we cannot: somebody took the offer away.
            ("y", Mechanism::Plain, Some(_)) => return Err(ScramError::Binding),
            (flag, Mechanism::Bound, Some(hash)) if flag.strip_prefix("p=") == Some(END_POINT) => {
                hash
            }
            (flag, Mechanism::Bound, _) if flag.starts_with("p=") => {
                return Err(ScramError::Binding);
            }
            _ => return Err(ScramError::Malformed),
        };
        let binding = [flag.as_bytes(), b",,", bound_to].concat();
        let (_, client_nonce) = bare
            .strip_prefix("n=")
            .and_then(|rest| rest.split_once(",r="))
            .ok_or(ScramError::Malformed)?;
        let nonce = format!("{}{nonce}", checked_nonce(client_nonce)?);
        let salt = BASE64.encode(&verifier.salt);
        let challenge = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let transcript = format!("{bare},{challenge}");
        Ok((Self { verifier, binding, nonce, transcript }, challenge))
    }

    /// Takes the client's last message; returns the proof that this side knows the verifier.
    ///
    /// # Errors
    /// A message that is malformed or bound to something else, or a wrong password.
    pub fn finish(self, client_final: &[u8]) -> Result<String, ScramError> {
        let message = text(client_final)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let (binding, nonce) = without_proof
            .strip_prefix("c=")
            .and_then(|rest| rest.split_once(",r="))
            .ok_or(ScramError::Malformed)?;
        if decoded(binding)? != self.binding {
            return Err(ScramError::Binding);
        }
        if nonce != self.nonce {
            return Err(ScramError::Malformed);
        }
        let proof = <[u8; 32]>::try_from(decoded(proof)?).map_err(|_| ScramError::Malformed)?;
        let transcript = format!("{},{without_proof}", self.transcript);
        let signature = keyed(&self.verifier.stored_key, transcript.as_bytes());
        if sha256(&exclusive_or(proof, signature)) != self.verifier.stored_key {
            return Err(ScramError::WrongPassword);
        }
        let proof = keyed(&self.verifier.server_key, transcript.as_bytes());
        Ok(format!("v={}", BASE64.encode(proof)))
    }
}

/// A password after the rounds of hashing; as good as the password, for one salt.
#[derive(Clone)]
pub struct SaltedPassword([u8; 32]);

impl fmt::Debug for SaltedPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SaltedPassword(…)")
    }
}

impl SaltedPassword {
    /// Takes milliseconds, on purpose.
    #[must_use]
    pub fn of(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        // What `SASLprep` forbids is hashed as it is, as PostgreSQL does.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = [0; 32];
        let password = prepared.as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
        Self(salted)
    }

    fn client_key(&self) -> [u8; 32] {
        keyed(&self.0, b"Client Key")
    }

    fn server_key(&self) -> [u8; 32] {
        keyed(&self.0, b"Server Key")
    }
}

/// What the client's half says about binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientBinding<'a> {
    /// It is bound to the certificate with this hash.
    EndPoint(&'a [u8]),
    /// It cannot be.
    Impossible,
    /// It could be, and the server does not offer it.
    NotOffered,
}

/// The client's half, before the challenge.
#[derive(Debug)]
pub struct ClientFirst {
    header: String,
    binding: Vec<u8>,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Begins an exchange. The name stays empty: PostgreSQL takes it from the start-up packet.
    #[must_use]
    pub fn new(binding: ClientBinding<'_>, nonce: &str) -> Self {
        let (flag, bound_to) = match binding {
            ClientBinding::EndPoint(hash) => (format!("p={END_POINT}"), hash),
            ClientBinding::Impossible => ("n".to_owned(), &[][..]),
            ClientBinding::NotOffered => ("y".to_owned(), &[][..]),
        };
        let header = format!("{flag},,");
        let binding = [header.as_bytes(), bound_to].concat();
        Self { header, binding, bare: format!("n=,r={nonce}"), nonce: nonce.to_owned() }
    }

    /// The first message.
    #[must_use]
    pub fn message(&self) -> String {
        format!("{}{}", self.header, self.bare)
    }

    /// Takes the server's challenge.
    ///
    /// # Errors
    /// A challenge that is malformed, not to our nonce, or too costly.
    pub fn on_challenge(self, server_first: &[u8]) -> Result<Challenge, ScramError> {
        let message = text(server_first)?;
        let read = || {
            let (nonce, rest) = message.strip_prefix("r=")?.split_once(",s=")?;
            let (salt, iterations) = rest.split_once(",i=")?;
            let is_ours = nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len();
            let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
            is_ours.then_some((checked_nonce(nonce).ok()?, salt, number(iterations)?))
        };
        let (nonce, salt, iterations) = read().ok_or(ScramError::Malformed)?;
        if iterations.get() > MAX_ITERATIONS {
            return Err(ScramError::Costly(iterations.get()));
        }
        let without_proof = format!("c={},r={nonce}", BASE64.encode(&self.binding));
        let transcript = format!("{},{message},{without_proof}", self.bare);
        Ok(Challenge { salt, iterations, without_proof, transcript })
    }
}

/// The client's half, with a challenge to answer.
#[derive(Debug)]
pub struct Challenge {
    /// The salt of the password.
    pub salt: Vec<u8>,
    /// How many rounds, at most 100,000.
    pub iterations: NonZeroU32,
    without_proof: String,
    transcript: String,
}

impl Challenge {
    /// The last message, and what the server must prove with.
    #[must_use]
    pub fn answer(self, password: &SaltedPassword) -> (String, ServerProof) {
        let client_key = password.client_key();
        let signature = keyed(&sha256(&client_key), self.transcript.as_bytes());
        let proof = BASE64.encode(exclusive_or(client_key, signature));
        let expected = keyed(&password.server_key(), self.transcript.as_bytes());
        (format!("{},p={proof}", self.without_proof), ServerProof(expected))
    }
}

/// What the server must say to show that it knows the password, too.
#[derive(Debug)]
pub struct ServerProof([u8; 32]);

impl ServerProof {
    /// Whether the server's last message holds it.
    #[must_use]
    pub fn is_in(&self, server_final: &[u8]) -> bool {
        let given = text(server_final).ok().and_then(|text| text.strip_prefix("v="));
        given.and_then(|proof| BASE64.decode(proof).ok()).is_some_and(|proof| proof == self.0)
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    let fits = message.len() <= MAX_MESSAGE_BYTES;
    std::str::from_utf8(message).ok().filter(|_| fits).ok_or(ScramError::Malformed)
}

/// Printable ASCII without commas (RFC 5802, section 7), at least one character.
fn checked_nonce(nonce: &str) -> Result<&str, ScramError> {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    let is_nonce = !nonce.is_empty() && nonce.bytes().all(fits);
    is_nonce.then_some(nonce).ok_or(ScramError::Malformed)
}

fn decoded(text: &str) -> Result<Vec<u8>, ScramError> {
    BASE64.decode(text).map_err(|_| ScramError::Malformed)
}

/// Digits only: what the library takes besides (`+4096`) two readers could read in two ways.
fn number(text: &str) -> Option<NonZeroU32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    to_array(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn keyed(key: &[u8], message: &[u8]) -> [u8; 32] {
    to_array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref())
}

/// Both functions of SHA-256 return 32 bytes.
fn to_array(bytes: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    for (to, from) in array.iter_mut().zip(bytes) {
        *to = *from;
    }
    array
}

fn exclusive_or(mut left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    for (byte, other) in left.iter_mut().zip(right) {
        *byte ^= other;
    }
    left
}

#[cfg(test)]
mod tests {
    use super::{
        Challenged, ClientBinding, ClientFirst, ITERATIONS, Mechanism, SaltedPassword, ScramError,
        Verifier,
    };

    const HASH: &[u8] = &[7; 32];

    fn verifier() -> Verifier {
        Verifier::of("pencil", b"salt and more", ITERATIONS)
    }

    fn begin(mechanism: Mechanism, first: &str, offered: Option<&[u8]>) -> Result<(), ScramError> {
        Challenged::begin(mechanism, first.as_bytes(), offered, verifier(), "server").map(drop)
    }

    /// Both halves against each other.
    fn exchange(binding: ClientBinding<'_>, password: &str) -> Result<bool, ScramError> {
        let (mechanism, offered) = match binding {
            ClientBinding::EndPoint(_) => (Mechanism::Bound, Some(HASH)),
            ClientBinding::Impossible => (Mechanism::Plain, Some(HASH)),
            ClientBinding::NotOffered => (Mechanism::Plain, None),
        };
        let first = ClientFirst::new(binding, "client");
        let message = first.message();
        let (server, challenge) =
            Challenged::begin(mechanism, message.as_bytes(), offered, verifier(), "server")?;
        let challenge = first.on_challenge(challenge.as_bytes())?;
        let salted = SaltedPassword::of(password, &challenge.salt, challenge.iterations);
        let (last, proof) = challenge.answer(&salted);
        Ok(proof.is_in(server.finish(last.as_bytes())?.as_bytes()))
    }

    #[test]
    fn both_halves_agree_bound_or_not_and_a_wrong_password_is_wrong() {
        for binding in
            [ClientBinding::EndPoint(HASH), ClientBinding::Impossible, ClientBinding::NotOffered]
        {
            assert_eq!(exchange(binding, "pencil"), Ok(true), "{binding:?}");
            assert_eq!(exchange(binding, "pen"), Err(ScramError::WrongPassword), "{binding:?}");
        }
        // Bound to another channel than ours.
        assert_eq!(exchange(ClientBinding::EndPoint(&[8; 32]), "pencil"), Err(ScramError::Binding));
    }

    /// The example of RFC 7677, section 3, read by the server's half.
    #[test]
    fn the_exchange_of_the_rfc_comes_out_to_the_letter() {
        let salt = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81";
        let verifier = Verifier::of("pencil", salt, ITERATIONS);
        let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let begun = Challenged::begin(Mechanism::Plain, first, None, verifier, nonce).unwrap();

        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

        assert_eq!(
            begun.1,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let proof = begun.0.finish(last).unwrap();
        assert_eq!(proof, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn an_offer_that_somebody_took_away_is_noticed() {
        assert_eq!(begin(Mechanism::Plain, "y,,n=,r=x", Some(HASH)), Err(ScramError::Binding));
        assert_eq!(begin(Mechanism::Plain, "y,,n=,r=x", None), Ok(()));
        assert_eq!(begin(Mechanism::Plain, "n,,n=,r=x", Some(HASH)), Ok(()));
    }

    #[test]
    fn a_first_message_that_is_not_to_the_letter_ends_the_exchange() {
        let long = format!("n,,n=,r={}", "x".repeat(3000));
        for first in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,r=x",
            "n,,n=",
            "n,,n=,r=",
            "n,,n=,r=a,b",
            "n,,n=,r=a b",
            "n,a=ann,n=,r=x",
            "x,,n=,r=x",
            "p=tls-server-end-point,,n=,r=x",
            "n,,m=ext,n=,r=x",
            "n,,n=,r=\u{e4}",
            "N,,n=,r=x",
            &long,
        ] {
            let heard = begin(Mechanism::Plain, first, Some(HASH));
            assert_eq!(heard, Err(ScramError::Malformed), "{first}");
        }
        for (first, error) in
            [("n,,n=,r=x", ScramError::Malformed), ("p=tls-unique,,n=,r=x", ScramError::Binding)]
        {
            assert_eq!(begin(Mechanism::Bound, first, Some(HASH)), Err(error), "{first}");
        }
        let unoffered = begin(Mechanism::Bound, "p=tls-server-end-point,,n=,r=x", None);
        assert_eq!(unoffered, Err(ScramError::Binding));
    }

    #[test]
    fn a_last_message_that_is_not_to_the_letter_ends_the_exchange() {
        let proof = "A".repeat(43);
        for (last, error) in [
            (String::new(), ScramError::Malformed),
            ("c=biws,r=clientserver".to_owned(), ScramError::Malformed),
            (format!("c=biws,r=client,p={proof}="), ScramError::Malformed),
            (format!("c=biws,r=clientserver,x=1,p={proof}="), ScramError::Malformed),
            (format!("c=eSws,r=clientserver,p={proof}="), ScramError::Binding),
            ("c=biws,r=clientserver,p=AAAA".to_owned(), ScramError::Malformed),
            (format!("c=biws,r=clientserver,p={proof}"), ScramError::Malformed),
            (format!("c=biws,r=clientserver,p={proof}="), ScramError::WrongPassword),
        ] {
            let first = b"n,,n=,r=client";
            let begun = Challenged::begin(Mechanism::Plain, first, None, verifier(), "server");
            let heard = begun.unwrap().0.finish(last.as_bytes());
            assert_eq!(heard, Err(error), "{last}");
        }
    }

    #[test]
    fn a_hostile_server_is_not_answered() {
        for (challenge, error) in [
            ("r=other1,s=AAAA,i=4096", ScramError::Malformed),
            ("r=client,s=AAAA,i=4096", ScramError::Malformed),
            ("r=client1,s=,i=4096", ScramError::Malformed),
            ("r=client1,s=AAAA,i=0", ScramError::Malformed),
            ("r=client1,s=AAAA,i=-1", ScramError::Malformed),
            ("r=client1,s=AAAA,i=99999999999", ScramError::Malformed),
            ("r=client1,s=AAAA,i=2147483647", ScramError::Costly(2_147_483_647)),
            ("r=client1,s=AAAA,i=100001", ScramError::Costly(100_001)),
        ] {
            let first = ClientFirst::new(ClientBinding::Impossible, "client");
            let heard = first.on_challenge(challenge.as_bytes()).map(drop);
            assert_eq!(heard, Err(error), "{challenge}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_nobody_gets_in_without_the_password(
            first in "[nyp=,a-z]{0,12}(n=,r=)?[ -~]{0,20}",
            last in "(c=biws,r=cserver)?[ -~]{0,60}(,p=[A-Za-z0-9+/]{43}=)?",
            raw in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        ) {
            for first in [first.as_bytes(), &raw, b"n,,n=,r=c"] {
                for mechanism in [Mechanism::Plain, Mechanism::Bound] {
                    let begun = Challenged::begin(mechanism, first, Some(HASH), nobody(), "server");
                    let Ok((challenged, _)) = begun else { continue };
                    proptest::prop_assert!(challenged.finish(last.as_bytes()).is_err());
                }
            }
            let first = ClientFirst::new(ClientBinding::Impossible, "client");
            proptest::prop_assert!(first.on_challenge(&raw).is_err());
        }
    }

    fn nobody() -> Verifier {
        Verifier::of_nobody(&[1; 32], "ann", ITERATIONS)
    }

    #[test]
    fn a_verifier_is_read_as_it_is_written_and_shows_nothing() {
        let text = verifier().to_text();
        assert_eq!(Verifier::parse(&text), Some(verifier()));
        assert!(!format!("{:?}", verifier()).contains("4096"));
        for wrong in [
            "",
            "SCRAM-SHA-256$4096:AAAA",
            "md5abc",
            &text.replace("4096", "0"),
            &text.replace("4096", "+4096"),
            &text[..text.len() - 4],
            &format!("{text}="),
        ] {
            assert_eq!(Verifier::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_verifier_of_nobody_is_the_same_each_time_and_another_for_another_name() {
        let of = |seed, name| Verifier::of_nobody(&[seed; 32], name, ITERATIONS);
        assert_eq!(of(1, "ann"), of(1, "ann"));
        assert_ne!(of(1, "ann").salt, of(1, "bob").salt);
        assert_ne!(of(1, "ann").salt, of(2, "ann").salt);
        assert_eq!(of(1, "ann").salt.len(), 16);
    }
}
