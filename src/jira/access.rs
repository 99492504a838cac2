//! Who asks, and by whose authority JIRA is asked.
//!
//! Either the gate holds the site's credential and lends it to clients that show a token of the
//! gate, which is worth nothing at the site; or each client brings the site's credential itself. In
//! the second case a client that is led around the gate can write there, which only the rewriting of
//! URLs and the network can prevent.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};

use crate::audit::event::AuthMethod;

/// Why a file of tokens or a credential cannot be used. The text of neither is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessMistake {
    /// The credential is empty, or no header field can hold it.
    #[error("the credential must be one line: `Bearer …`, `Basic …` or `email:token`")]
    Credential,
    /// A line of the clients' file is not `name:token`.
    #[error("line {0} of the clients' file is not `name:token`")]
    Line(usize),
    /// Two lines have the same token.
    #[error("line {0} of the clients' file repeats the token of another line")]
    SameToken(usize),
    /// There is no client.
    #[error("the clients' file names no client")]
    Nobody,
}

/// Who may ask, and as whom.
#[derive(Debug)]
pub enum Access {
    /// The gate holds the credential.
    Held {
        /// The whole Authorization value for the site.
        credential: HeaderValue,
        /// Who may borrow it.
        clients: Clients,
    },
    /// The client's own credential goes on to the site. Without one nobody is let in: who asks must
    /// stand in the log.
    Passthrough,
}

/// The tokens that the gate accepts. Only their hashes are kept.
#[derive(Debug)]
pub struct Clients(Vec<Client>);

#[derive(Debug)]
struct Client {
    name: Arc<str>,
    token: [u8; 32],
}

/// A client that may ask.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Its name, as far as it is known.
    pub name: Option<Arc<str>>,
    /// How it proved it.
    pub method: AuthMethod,
    /// What the site is told.
    pub authorization: Option<HeaderValue>,
}

impl Access {
    /// A gate that holds the credential: `credential` is the text of its file, `clients` that of
    /// theirs.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn held(credential: &str, clients: &str) -> Result<Self, AccessMistake> {
        let credential = read_credential(credential)?;
        Ok(Self::Held { credential, clients: Clients::parse(clients)? })
    }

    /// Lets a client in, or not.
    #[must_use]
    pub fn admit(&self, authorization: Option<&HeaderValue>) -> Option<Admitted> {
        match self {
            Self::Held { credential, clients } => {
                let name = clients.find(authorization?)?;
                Some(Admitted {
                    name: Some(name),
                    method: AuthMethod::Token,
                    authorization: Some(credential.clone()),
                })
            }
            Self::Passthrough => {
                let mut authorization = authorization?.clone();
                authorization.set_sensitive(true);
                Some(Admitted {
                    name: user_of(&authorization).map(Arc::from),
                    method: AuthMethod::Passthrough,
                    authorization: Some(authorization),
                })
            }
        }
    }
}

/// A whole Authorization value, or `email:token` for Basic.
fn read_credential(text: &str) -> Result<HeaderValue, AccessMistake> {
    let text = text.trim();
    let value = match text.split_once(' ') {
        Some((scheme, secret)) if is_known_scheme(scheme) && !secret.trim().is_empty() => {
            text.to_owned()
        }
        None if text.contains(':') => format!("Basic {}", STANDARD.encode(text)),
        _ => return Err(AccessMistake::Credential),
    };
    let mut value = HeaderValue::from_str(&value).map_err(|_| AccessMistake::Credential)?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_known_scheme(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("basic") || scheme.eq_ignore_ascii_case("bearer")
}

impl Clients {
    /// Reads `name:token` lines; empty lines and lines that begin with `#` say nothing.
    ///
    /// # Errors
    /// The first line that is something else.
    pub fn parse(text: &str) -> Result<Self, AccessMistake> {
        let mut clients: Vec<Client> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, token) = line
                .split_once(':')
                .filter(|(name, token)| !name.is_empty() && !token.is_empty())
                .ok_or(AccessMistake::Line(index + 1))?;
            let token = Sha256::digest(token).into();
            if clients.iter().any(|client| client.token == token) {
                return Err(AccessMistake::SameToken(index + 1));
            }
            clients.push(Client { name: name.into(), token });
        }
        if clients.is_empty() { Err(AccessMistake::Nobody) } else { Ok(Self(clients)) }
    }

    /// The client whose token this is: a Bearer token, or the password of Basic with any user.
    fn find(&self, authorization: &HeaderValue) -> Option<Arc<str>> {
        let (scheme, value) = authorization.to_str().ok()?.split_once(' ')?;
        let shown: [u8; 32] = if scheme.eq_ignore_ascii_case("bearer") {
            Sha256::digest(value.trim()).into()
        } else if scheme.eq_ignore_ascii_case("basic") {
            let pair = STANDARD.decode(value.trim()).ok()?;
            let colon = pair.iter().position(|byte| *byte == b':')?;
            Sha256::digest(pair.get(colon + 1..)?).into()
        } else {
            return None;
        };
        // Every token is compared, and each to its end: how long it takes says nothing about them.
        let mut found = None;
        for client in &self.0 {
            if is_same(&client.token, &shown) {
                found = Some(Arc::clone(&client.name));
            }
        }
        found
    }
}

fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let differences = one.iter().zip(other).fold(0, |sum, (one, other)| sum | (one ^ other));
    std::hint::black_box(differences) == 0
}

/// The user of Basic; the password is not looked at.
fn user_of(authorization: &HeaderValue) -> Option<String> {
    let (scheme, value) = authorization.to_str().ok()?.split_once(' ')?;
    let pair =
        STANDARD.decode(value.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let user = pair.split(|byte| *byte == b':').next()?;
    std::str::from_utf8(user).ok().filter(|user| !user.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hyper::header::HeaderValue;

    use super::{Access, AccessMistake, Clients};
    use crate::audit::event::AuthMethod;

    fn basic(pair: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).unwrap()
    }

    fn bearer(token: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Bearer {token}")).unwrap()
    }

    #[test]
    fn a_client_with_a_token_borrows_the_credential_under_its_own_name() {
        let access = Access::held("ann@example.org:secret\n", "# who\nci:t:1\n\nbob:t2\n").unwrap();

        for (shown, name) in [
            (bearer("t:1"), Some("ci")),
            (basic("whoever:t2"), Some("bob")),
            (basic(":t2"), Some("bob")),
            (bearer("t3"), None),
            (bearer(""), None),
            (basic("t2"), None),
            (HeaderValue::from_static("Digest t2"), None),
            (HeaderValue::from_static("Basic !"), None),
        ] {
            let admitted = access.admit(Some(&shown));
            assert_eq!(admitted.as_ref().and_then(|a| a.name.as_deref()), name, "{shown:?}");
            if let Some(admitted) = admitted {
                assert_eq!(admitted.authorization, Some(basic("ann@example.org:secret")));
                assert_eq!(admitted.method, AuthMethod::Token);
            }
        }
        assert!(access.admit(None).is_none());
    }

    #[test]
    fn what_a_client_brings_itself_is_passed_on() {
        let admitted = Access::Passthrough.admit(Some(&basic("ann:secret"))).unwrap();

        assert_eq!(admitted.name.as_deref(), Some("ann"));
        assert_eq!(admitted.authorization, Some(basic("ann:secret")));
        assert!(Access::Passthrough.admit(None).is_none());
        assert!(!format!("{admitted:?}").contains("Basic"));
    }

    #[test]
    fn a_credential_is_a_whole_value_or_a_pair() {
        let held = |credential: &str| match Access::held(credential, "a:b") {
            Ok(Access::Held { credential, .. }) => Some(credential.to_str().unwrap().to_owned()),
            _ => None,
        };

        assert_eq!(held("Bearer pat\n").as_deref(), Some("Bearer pat"));
        assert_eq!(held("Basic YTpi").as_deref(), Some("Basic YTpi"));
        assert_eq!(held("a:b").as_deref(), Some("Basic YTpi"));
        for wrong in ["", "pat", "Bearer ", "Bearer a\nb:c", "Digest x"] {
            assert_eq!(held(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn mistakes_in_the_clients_file_are_told_by_line_and_without_the_token() {
        let mistake = |text: &str| Clients::parse(text).unwrap_err();

        assert_eq!(mistake("a:b\nc"), AccessMistake::Line(2));
        assert_eq!(mistake("a:b\nc:b"), AccessMistake::SameToken(2));
        assert_eq!(mistake("# nobody\n"), AccessMistake::Nobody);
    }
}
