//! The site's own URLs in its answers become the gate's, or a client that follows one would carry
//! its credential around the gate.
//!
//! A scanner over the tokens of JSON, not a parser: it replaces the bytes of such URLs and copies
//! everything else, so key order, big numbers, duplicate keys, white space and text stay what they
//! were. It needs no memory but for one string at a time, so answers of any size stream through it.

use std::sync::Arc;

use crate::jira::site::SiteUrl;

/// The members that JIRA fills with URLs of its own and that clients follow. Text fields are not
/// among them: what users write stays as they wrote it.
const URL_MEMBERS: [&str; 24] = [
    "16x16",
    "24x24",
    "32x32",
    "48x48",
    "agent",
    "avatarUrl",
    "base",
    "baseUrl",
    "content",
    "first",
    "iconUrl",
    "jiraRest",
    "last",
    "next",
    "nextPage",
    "prev",
    "prevPage",
    "portal",
    "searchUrl",
    "self",
    "statusUrl",
    "thumbnail",
    "viewUrl",
    "web",
];

/// Longest name of a member that is looked at: the longest above, each letter as `\uXXXX`.
const MAX_WORD_BYTES: usize = 9 * 6;

/// How much longer than the site's own spelling a URL may write it, with a user in front of the host
/// or zeros in front of the port: 8 KiB, the longest URL that clients take.
const SPELLING_BYTES: usize = 8 * 1024;

/// Whether JIRA fills the member of this name with a URL of its own.
#[must_use]
pub fn holds_a_url(name: &str) -> bool {
    URL_MEMBERS.contains(&name)
}

/// By which names the site goes, and what they are replaced by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteNames {
    site: Vec<SiteUrl>,
    public: String,
    /// Most raw bytes of a string that decide whether it is a URL of the site.
    deciding_bytes: usize,
}

impl SiteNames {
    /// `site` are all names of the site, `public` is the gate's.
    #[must_use]
    pub fn new(site: Vec<SiteUrl>, public: &SiteUrl) -> Self {
        let longest = site.iter().map(|site| site.to_string().len()).max().unwrap_or(0);
        // Each byte may be written as `\uXXXX`.
        let deciding_bytes = longest * 6 + SPELLING_BYTES;
        Self { site, public: public.to_string(), deciding_bytes }
    }

    /// What stands behind the site's name in `url`; the longest name decides, for one may be the
    /// beginning of another.
    fn rest_of<'a>(&self, url: &'a str) -> Option<&'a str> {
        self.site.iter().filter_map(|site| site.rest_of(url)).min_by_key(|rest| rest.len())
    }

    /// The URL at the gate, if `url` is one of the site.
    #[must_use]
    pub fn at_the_gate(&self, url: &str) -> Option<String> {
        self.rest_of(url).map(|rest| format!("{}{rest}", self.public))
    }
}

/// Where in a document the scanner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between strings.
    Between,
    /// In a string that is copied.
    Copied,
    /// Behind a backslash in a string that is copied.
    CopiedEscape,
    /// In a string that is held back until it is known what it is.
    Held,
    /// Behind a backslash in a string that is held back.
    HeldEscape,
}

/// What the string or sign before this place says about the next string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It may be the name of a member.
    MayBeName,
    /// It is the value of a member that holds a URL.
    Url,
    /// It is the value of another member.
    Value,
}

/// Rewrites one document, piece by piece.
#[derive(Clone, Debug)]
pub struct Rewriter {
    names: Arc<SiteNames>,
    state: State,
    next: Next,
    /// The last string that may have been a name, as written; emptied when it is too long.
    word: Vec<u8>,
    held: Vec<u8>,
}

impl Rewriter {
    /// For a document that begins.
    #[must_use]
    pub const fn new(names: Arc<SiteNames>) -> Self {
        Self {
            names,
            state: State::Between,
            next: Next::MayBeName,
            word: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Rewrites a piece of the document into `out`. Bytes that cannot be decided yet wait for the
    /// next piece, or for [`Rewriter::finish`].
    pub fn feed(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while !piece.is_empty() {
            let taken = match self.state {
                State::Between => self.between(piece, out),
                State::Copied => self.copied(piece, out),
                State::CopiedEscape => {
                    self.state = State::Copied;
                    self.copy(piece, 1, out)
                }
                State::Held | State::HeldEscape => self.hold(piece, out),
            };
            piece = piece.get(taken..).unwrap_or_default();
        }
    }

    /// Ends the document: what waits is written as it is known so far.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if matches!(self.state, State::Held | State::HeldEscape) {
            self.decide(out);
        }
    }

    fn between(&mut self, piece: &[u8], out: &mut Vec<u8>) -> usize {
        for (at, byte) in piece.iter().enumerate() {
            match byte {
                b'"' => {
                    self.open_string();
                    return self.copy_sign(piece, at + 1, out);
                }
                b':' => self.next = if self.word_is_url_member() { Next::Url } else { Next::Value },
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => {
                    self.next = Next::MayBeName;
                    self.word.clear();
                }
            }
        }
        self.copy_sign(piece, piece.len(), out)
    }

    fn open_string(&mut self) {
        self.word.clear();
        self.state = if self.next == Next::Url { State::Held } else { State::Copied };
    }

    fn copied(&mut self, piece: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(at) = piece.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
            return self.copy(piece, piece.len(), out);
        };
        if piece.get(at) == Some(&b'\\') {
            self.state = State::CopiedEscape;
            return self.copy(piece, at + 1, out);
        }
        let taken = self.copy(piece, at, out);
        self.close_string();
        out.push(b'"');
        taken + 1
    }

    fn close_string(&mut self) {
        self.state = State::Between;
        self.next = Next::MayBeName;
    }

    /// Copies bytes of a string, and keeps them in case they are a name.
    fn copy(&mut self, piece: &[u8], bytes: usize, out: &mut Vec<u8>) -> usize {
        let copied = piece.get(..bytes).unwrap_or(piece);
        out.extend_from_slice(copied);
        if self.next == Next::MayBeName && self.word.len() <= MAX_WORD_BYTES {
            // One byte more than a name can have marks a word that is none.
            let room = MAX_WORD_BYTES + 1 - self.word.len();
            self.word.extend(copied.iter().take(room));
        }
        bytes
    }

    /// Copies bytes between strings.
    fn copy_sign(&self, piece: &[u8], bytes: usize, out: &mut Vec<u8>) -> usize {
        debug_assert!(self.held.is_empty());
        out.extend_from_slice(piece.get(..bytes).unwrap_or(piece));
        bytes
    }

    fn word_is_url_member(&self) -> bool {
        if self.word.is_empty() || self.word.len() > MAX_WORD_BYTES {
            return false;
        }
        holds_a_url(&Decoded::of(&self.word).text)
    }

    fn hold(&mut self, piece: &[u8], out: &mut Vec<u8>) -> usize {
        for (at, byte) in piece.iter().enumerate() {
            match (self.state, byte) {
                (State::HeldEscape, _) => self.state = State::Held,
                (_, b'\\') => self.state = State::HeldEscape,
                (_, b'"') => {
                    self.decide(out);
                    self.close_string();
                    out.push(b'"');
                    return at + 1;
                }
                _ => {}
            }
            self.held.push(*byte);
            if self.held.len() == self.names.deciding_bytes {
                let is_escape = self.state == State::HeldEscape;
                self.decide(out);
                self.next = Next::Value;
                self.state = if is_escape { State::CopiedEscape } else { State::Copied };
                return at + 1;
            }
        }
        piece.len()
    }

    /// Writes the string that was held back, as the gate's URL if it is one of the site.
    fn decide(&mut self, out: &mut Vec<u8>) {
        let decoded = Decoded::of(&self.held);
        let rest = self.names.rest_of(&decoded.text);
        let behind = rest.and_then(|rest| decoded.raw_offset(decoded.text.len() - rest.len()));
        match behind.and_then(|behind| self.held.split_at_checked(behind)) {
            Some((name, rest)) => {
                push_like(&self.names.public, name, out);
                out.extend_from_slice(rest);
            }
            None => out.extend_from_slice(&self.held),
        }
        self.held.clear();
    }
}

/// Writes a URL with its slashes escaped if those of `model` are.
fn push_like(url: &str, model: &[u8], out: &mut Vec<u8>) {
    if model.contains(&b'\\') {
        out.extend_from_slice(url.replace('/', "\\/").as_bytes());
    } else {
        out.extend_from_slice(url.as_bytes());
    }
}

/// The text that a JSON string stands for, and from where in it each byte comes.
struct Decoded {
    text: String,
    /// For each byte of the text the place in the raw string; `None` if they are the same.
    places: Option<Vec<usize>>,
    raw_len: usize,
}

impl Decoded {
    /// Decodes up to the first thing that is not JSON.
    fn of(raw: &[u8]) -> Self {
        let text = match std::str::from_utf8(raw) {
            Ok(text) => text,
            Err(error) => raw
                .get(..error.valid_up_to())
                .and_then(|valid| std::str::from_utf8(valid).ok())
                .unwrap_or_default(),
        };
        if !text.contains('\\') {
            return Self { text: text.to_owned(), places: None, raw_len: raw.len() };
        }
        let (mut decoded, mut places, mut at) = (String::new(), Vec::new(), 0);
        while let Some((letter, bytes)) = text.get(at..).and_then(first_letter) {
            decoded.push(letter);
            places.resize(decoded.len(), at);
            at += bytes;
        }
        places.push(at);
        Self { text: decoded, places: Some(places), raw_len: raw.len() }
    }

    fn raw_offset(&self, offset: usize) -> Option<usize> {
        match &self.places {
            None => Some(offset).filter(|offset| *offset <= self.raw_len),
            Some(places) => places.get(offset).copied(),
        }
    }
}

/// The letter that a JSON string begins with (RFC 8259 section 7), and its raw bytes. Half of a
/// surrogate pair is no letter, and stands for one that is in no URL.
fn first_letter(text: &str) -> Option<(char, usize)> {
    let Some(escape) = text.strip_prefix('\\') else {
        let letter = text.chars().next()?;
        return Some((letter, letter.len_utf8()));
    };
    let letter = match escape.chars().next()? {
        'u' => {
            let unit = hex_unit(text)?;
            let low = text.get(6..).and_then(hex_unit).filter(|low| (0xdc00..0xe000).contains(low));
            return Some(match (unit, low) {
                (0xd800..0xdc00, Some(low)) => {
                    let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
                }
                _ => (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
            });
        }
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        same @ ('"' | '/' | '\\') => same,
        _ => return None,
    };
    Some((letter, 2))
}

/// The number behind `\u`.
fn hex_unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let are_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| are_hex)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Rewriter, SiteNames};

    fn names() -> Arc<SiteNames> {
        let site = ["https://jira.internal", "https://jira.example/jira"];
        let site = site.map(|site| site.parse().unwrap()).to_vec();
        Arc::new(SiteNames::new(site, &"http://gate:8181".parse().unwrap()))
    }

    fn rewritten(document: &str) -> String {
        let mut out = Vec::new();
        let mut rewriter = Rewriter::new(names());
        rewriter.feed(document.as_bytes(), &mut out);
        rewriter.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn urls_of_the_site_in_known_members_lead_to_the_gate() {
        for (before, after) in [
            (r#"{"self":"https://jira.internal/a"}"#, r#"{"self":"http://gate:8181/a"}"#),
            (r#"{"self" :  "https://jira.internal"}"#, r#"{"self" :  "http://gate:8181"}"#),
            (r#"{"self":"https:\/\/jira.internal\/a"}"#, r#"{"self":"http:\/\/gate:8181\/a"}"#),
            (
                r#"{"s\u0065lf":"https:\u002f\u002Fjira\u002einternal\u002fa"}"#,
                r#"{"s\u0065lf":"http:\/\/gate:8181\u002fa"}"#,
            ),
            (r#"{"self":"HTTPS://Jira.Internal:443/a"}"#, r#"{"self":"http://gate:8181/a"}"#),
            (r#"{"self":"//jira.internal/a"}"#, r#"{"self":"http://gate:8181/a"}"#),
            (
                r#"[{"content":"https://jira.example/jira/secure/1"}]"#,
                r#"[{"content":"http://gate:8181/secure/1"}]"#,
            ),
            (
                r#"{"avatarUrls":{"48x48":"https://jira.internal/a"}}"#,
                r#"{"avatarUrls":{"48x48":"http://gate:8181/a"}}"#,
            ),
        ] {
            assert_eq!(rewritten(before), after);
        }
    }

    #[test]
    fn everything_else_stays_byte_for_byte() {
        for document in [
            r#"{"description":"https://jira.internal/a"}"#,
            r#"{"summary":"\"self\":\"https://jira.internal/a\""}"#,
            r#"{"self":"https://jira.internal.evil/a"}"#,
            r#"{"self":"https://jira.example/other"}"#,
            r#"{"self":"https://secure.gravatar.com/a"}"#,
            r#"{"self":"/rest","self":12345678901234567890.10,"self":null}"#,
            r#"["self","https://jira.internal/a"]"#,
            "{\"a\":1,\r\n\t\"a\" : 1e999 }\n",
            r#"{"self":"see https://jira.internal/a"}"#,
            r#"{"self":["https://jira.internal/a"]}"#,
            r#"{"self":"\ud800"#,
            r#"{"self":"https://jira.internal\ud83d\ude00"}"#,
            r#"{"self":"https://jira.inter"#,
            "not json \" at : all",
            "",
        ] {
            assert_eq!(rewritten(document), document);
        }
    }

    #[test]
    fn a_long_url_is_decided_by_its_beginning() {
        let tail = "\\/a".repeat(10_000);
        let before = format!(r#"{{"self":"https://jira.internal{tail}"}}"#);

        let after = rewritten(&before);

        assert_eq!(
            after.len(),
            before.len() - "https://jira.internal".len() + "http://gate:8181".len()
        );
        assert!(after.ends_with(r#"\/a"}"#));
    }

    #[test]
    fn a_url_of_the_site_in_a_header_leads_to_the_gate() {
        let url = "https://jira.example/jira/rest?a=b#c";

        assert_eq!(names().at_the_gate(url).as_deref(), Some("http://gate:8181/rest?a=b#c"));
        assert_eq!(names().at_the_gate("https://evil.example/"), None);
    }

    proptest::proptest! {
        #[test]
        fn pieces_make_no_difference(
            parts in proptest::collection::vec(
                "\"|\\\\|:|,|self|https:|/|\\\\/|\\\\u002f|jira\\.internal|\\{|[a-z]| ", 0..40,
            ),
            cut in 0_usize..200,
        ) {
            let document = parts.concat();
            let whole = rewritten(&document);

            let mut out = Vec::new();
            let mut rewriter = Rewriter::new(names());
            let (first, second) = document.as_bytes().split_at(cut.min(document.len()));
            rewriter.feed(first, &mut out);
            rewriter.feed(second, &mut out);
            rewriter.finish(&mut out);

            proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), whole);
        }
    }
}
