//! The users file: whom the gate itself lets in, and by what proof.
//!
//! One user a line, `#` begins a comment:
//!
//! ```text
//! ann:SCRAM-SHA-256$4096:SALT$STOREDKEY:SERVERKEY
//! reports:certificate:reports.example
//! *:seed:BASE64
//! ```
//!
//! The verifier is PostgreSQL's own form, so one can be copied from `pg_authid`. The second user
//! logs in by a certificate with that common name and no password. The line `*:seed` holds the
//! salts of users that are not in the file where they are, so that nobody learns from a change of
//! salt who is.

use std::collections::HashMap;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::postgres::scram::{ITERATIONS, Verifier};

/// How a user proves who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Proof {
    /// By a certificate with this common name.
    Certificate(String),
    /// By a password.
    Password(Verifier),
}

/// The users.
#[derive(Clone, Debug)]
pub struct Users {
    proofs: HashMap<String, Proof>,
    seed: [u8; 32],
    /// Rounds of the first verifier in the file: what the exchange of nobody asks for.
    iterations: NonZeroU32,
}

/// What is wrong with a line. The line itself may hold a secret and is not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct UsersMistake {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl Users {
    /// Reads the text of a users file. `seed` takes the place of a missing `*:seed` line.
    ///
    /// # Errors
    /// All mistakes.
    pub fn parse(text: &str, seed: [u8; 32]) -> Result<Self, Vec<UsersMistake>> {
        let mut users = Self { proofs: HashMap::new(), seed, iterations: ITERATIONS };
        let mut first_verifier = None;
        let mut mistakes = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match users.take(line) {
                Ok(Some(iterations)) => first_verifier = first_verifier.or(Some(iterations)),
                Ok(None) => {}
                Err(what) => mistakes.push(UsersMistake { line: index + 1, what }),
            }
        }
        users.iterations = first_verifier.unwrap_or(ITERATIONS);
        if mistakes.is_empty() { Ok(users) } else { Err(mistakes) }
    }

    /// Takes one line; returns the rounds of its verifier, if it has one.
    fn take(&mut self, line: &str) -> Result<Option<NonZeroU32>, &'static str> {
        let (name, proof) = line.split_once(':').ok_or("not of the form `NAME:VERIFIER`")?;
        if name == "*" {
            let seed = proof.strip_prefix("seed:").and_then(|text| BASE64.decode(text).ok());
            let seed = seed.and_then(|seed| <[u8; 32]>::try_from(seed).ok());
            self.seed = seed.ok_or("`*` is followed by `seed:` and 32 bytes in base64")?;
            return Ok(None);
        }
        check_name(name)?;
        let (proof, iterations) = match proof.strip_prefix("certificate:") {
            Some("") => return Err("the certificate's common name is missing"),
            Some(common_name) => (Proof::Certificate(common_name.to_owned()), None),
            None => {
                let verifier = Verifier::parse(proof)
                    .ok_or("no SCRAM-SHA-256 verifier: make one with `rowarden user add`")?;
                let iterations = verifier.iterations();
                (Proof::Password(verifier), Some(iterations))
            }
        };
        match self.proofs.insert(name.to_owned(), proof) {
            None => Ok(iterations),
            Some(_) => Err("this user is in the file twice"),
        }
    }

    /// The verifier for whoever says that this is their name; for a name without a password one
    /// that no password fits.
    #[must_use]
    pub fn verifier(&self, name: &str) -> Verifier {
        match self.proofs.get(name) {
            Some(Proof::Password(verifier)) => verifier.clone(),
            Some(Proof::Certificate(_)) | None => {
                Verifier::of_nobody(&self.seed, name, self.iterations)
            }
        }
    }

    /// Whether a certificate with this common name is the proof of this user.
    #[must_use]
    pub fn is_proven_by(&self, name: &str, common_name: &str) -> bool {
        matches!(self.proofs.get(name), Some(Proof::Certificate(own)) if own == common_name)
    }

    /// Whether somebody logs in by certificate alone.
    #[must_use]
    pub fn know_certificates(&self) -> bool {
        self.proofs.values().any(|proof| matches!(proof, Proof::Certificate(_)))
    }

    /// Whether this user is in the file.
    #[must_use]
    pub fn contain(&self, name: &str) -> bool {
        self.proofs.contains_key(name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.proofs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.proofs.is_empty()
    }
}

/// What a name in the file must be.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    // 63 bytes is what PostgreSQL keeps of a role's name.
    if name.is_empty() || name.len() > 63 {
        Err("a user's name has 1 to 63 bytes")
    } else if name == "*" || name.starts_with('#') || name.contains(':') {
        Err("a user's name is not `*`, does not begin with `#` and holds no colon")
    } else if name.trim() != name || name.chars().any(char::is_control) {
        Err("a user's name holds no control characters and no space at its ends")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Users, check_name};
    use crate::postgres::scram::{ITERATIONS, Verifier};

    const SEED: [u8; 32] = [1; 32];

    fn verifier() -> Verifier {
        Verifier::of("secret", b"salt", ITERATIONS)
    }

    #[test]
    fn users_are_known_by_their_own_proof_only() {
        let text =
            format!("# people\n\nann:{}\nrep:certificate:reports.example\n", verifier().to_text());
        let users = Users::parse(&text, SEED).unwrap();

        assert_eq!(users.len(), 2);
        assert_eq!(users.verifier("ann"), verifier());
        assert!(users.is_proven_by("rep", "reports.example"));
        for (name, common_name) in
            [("rep", "other"), ("ann", "ann"), ("nobody", "reports.example"), ("ann", "")]
        {
            assert!(!users.is_proven_by(name, common_name), "{name} {common_name}");
        }
        assert_eq!(users.verifier("rep"), Verifier::of_nobody(&SEED, "rep", ITERATIONS));
        assert_eq!(users.verifier("bob"), Verifier::of_nobody(&SEED, "bob", ITERATIONS));
    }

    #[test]
    fn every_mistake_is_named_by_its_line_and_no_line_is_repeated() {
        let good = verifier().to_text();
        let text = format!(
            "ann\n:{good}\nann:secret\nbob:{good}\nbob:{good}\n*:seed:AAAA\neve:certificate:\n a:{good}\n"
        );

        let mistakes = Users::parse(&text, SEED).unwrap_err();

        let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [1, 2, 3, 5, 6, 7, 8]);
        assert!(mistakes.iter().all(|mistake| !mistake.to_string().contains("secret")));
    }

    #[test]
    fn the_seed_of_the_file_keeps_the_salts_of_nobody() {
        let text = "*:seed:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
        let salts = |seed| Users::parse(text, seed).unwrap().verifier("bob");
        assert_eq!(salts([1; 32]), salts([2; 32]));
    }

    #[test]
    fn names_that_two_readers_could_split_differently_are_no_names() {
        for name in ["", "*", "#a", "a:b", " a", "a\n", &"x".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["ann", "Änne Müller", "x@example.org"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
