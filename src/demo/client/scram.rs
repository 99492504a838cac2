//! The client's half of SCRAM-SHA-256 (RFC 5802 and 7677), without channel binding.
//!
//! By hand, because the demo shows the deployment that it preaches (`scram-sha-256`), and a
//! password that is sent in the clear would be a poor example. Only for clusters of our own: the
//! password is not run through `SASLprep`, so it must be ASCII.

use sha2::{Digest, Sha256};

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// No channel binding, no other identity: `n,,`.
const GS2_HEADER: &str = "n,,";

/// The most rounds that we accept to compute: a server of ours asks for 4,096.
const MAX_ITERATIONS: u32 = 100_000;

/// An exchange that the client has begun.
#[derive(Debug)]
pub(crate) struct Scram {
    password: String,
    nonce: String,
    first_bare: String,
}

/// The client's last word, and what the server must answer to show that it knows the password.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Final {
    pub(crate) message: String,
    pub(crate) expected_answer: String,
}

impl Scram {
    pub(crate) fn new(user: &str, password: &str, nonce: &str) -> Self {
        Self {
            password: password.to_owned(),
            nonce: nonce.to_owned(),
            first_bare: format!("n={user},r={nonce}"),
        }
    }

    pub(crate) fn first_message(&self) -> String {
        format!("{GS2_HEADER}{}", self.first_bare)
    }

    /// Answers the server's challenge; `None` when it is no challenge to our own nonce.
    pub(crate) fn answer(&self, server_first: &str) -> Option<Final> {
        let nonce = attribute(server_first, "r=").filter(|nonce| nonce.starts_with(&self.nonce))?;
        let salt = decode_base64(attribute(server_first, "s=")?)?;
        let iterations = attribute(server_first, "i=")?.parse().ok()?;
        let salted = stretch(self.password.as_bytes(), &salt, iterations)?;

        let without_proof = format!("c={},r={nonce}", encode_base64(GS2_HEADER.as_bytes()));
        let transcript = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(client_key), transcript.as_bytes());
        let proof = exclusive_or(client_key, signature);
        let server_signature = hmac(&hmac(&salted, b"Server Key"), transcript.as_bytes());

        Some(Final {
            message: format!("{without_proof},p={}", encode_base64(&proof)),
            expected_answer: format!("v={}", encode_base64(&server_signature)),
        })
    }
}

fn attribute<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.split(',').find_map(|part| part.strip_prefix(name))
}

/// `Hi` of RFC 5802: PBKDF2 with one block.
fn stretch(password: &[u8], salt: &[u8], iterations: u32) -> Option<[u8; 32]> {
    if iterations == 0 || iterations > MAX_ITERATIONS {
        return None;
    }
    let mut round = hmac(password, &[salt, &1_u32.to_be_bytes()].concat());
    let mut result = round;
    for _ in 1..iterations {
        round = hmac(password, &round);
        result = exclusive_or(result, round);
    }
    Some(result)
}

fn exclusive_or(mut left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    for (byte, other) in left.iter_mut().zip(right) {
        *byte ^= other;
    }
    left
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let digest;
    let key = if key.len() > 64 {
        digest = Sha256::digest(key);
        digest.as_slice()
    } else {
        key
    };
    let mut inner = [0x36_u8; 64];
    let mut outer = [0x5c_u8; 64];
    for ((byte, inner), outer) in key.iter().zip(&mut inner).zip(&mut outer) {
        *inner ^= byte;
        *outer ^= byte;
    }
    let hashed = Sha256::new().chain_update(inner).chain_update(message).finalize();
    Sha256::new().chain_update(outer).chain_update(hashed).finalize().into()
}

fn encode_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_usize, |group, place| {
            group << 8 | usize::from(chunk.get(place).copied().unwrap_or(0))
        });
        for place in 0..4_usize {
            let digit = group >> (18 - 6 * place) & 63;
            let sign = BASE64.get(digit).filter(|_| place <= chunk.len());
            text.push(char::from(sign.copied().unwrap_or(b'=')));
        }
    }
    text
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut group, mut bits) = (0_u32, 0_u32);
    for sign in text.trim_end_matches('=').bytes() {
        let digit = BASE64.iter().position(|known| *known == sign)?;
        group = group << 6 | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(group >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Scram, decode_base64, encode_base64};

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_exchange_of_the_rfc_comes_out_to_the_letter() {
        let scram = Scram::new("user", "pencil", "rOprNGfwEbeRWgbNEkqO");

        let last = scram
            .answer(
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            )
            .unwrap();

        assert_eq!(scram.first_message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            last.message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(last.expected_answer, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_challenge_to_another_nonce_or_without_end_is_not_answered() {
        let scram = Scram::new("", "pencil", "mine");

        for challenge in ["r=yours,s=AAAA,i=4096", "r=mine1,s=AAAA,i=0", "r=mine1,s=AAAA,i=9999999"]
        {
            assert_eq!(scram.answer(challenge), None, "{challenge}");
        }
    }

    #[test]
    fn base64_keeps_every_length() {
        for text in ["", "f", "fo", "foo", "foob", "fooba", "foobar"] {
            assert_eq!(decode_base64(&encode_base64(text.as_bytes())).unwrap(), text.as_bytes());
        }
        assert_eq!(encode_base64(b"fooba"), "Zm9vYmE=");
    }
}
