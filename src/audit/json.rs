//! JSON, written by hand at the end of a buffer.
//!
//! A line is what an auditor's terminal shows. So nothing that a client sends can end a line, move
//! a cursor or turn text round: such characters are written as `\u` escapes. And no client can make
//! a line long: every text has a bound.

use std::io::Write as _;

use uuid::Uuid;

/// Most bytes of a name: 256, four times what the server takes.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Most names in a list; how many more there are is said beside it.
const MAX_NAMES: usize = 64;

/// Writes JSON at the end of a line.
pub(super) struct Json<'a>(pub(super) &'a mut Vec<u8>);

impl Json<'_> {
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn raw(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// A string of at most `most` bytes before escaping.
    pub(super) fn text(&mut self, text: &str, most: usize) -> &mut Self {
        let cut = text.get(..text.floor_char_boundary(most)).unwrap_or(text);
        self.0.push(b'"');
        push_escaped(cut, self.0);
        self.0.push(b'"');
        self
    }

    /// A key with its colon and a name, if there is one.
    pub(super) fn name(&mut self, key: &str, name: Option<&str>) -> &mut Self {
        match name {
            Some(name) => self.raw(key).text(name, MAX_NAME_BYTES),
            None => self,
        }
    }

    /// A list under `key`, and `key_more` if it had to be cut; nothing if it is empty.
    pub(super) fn names(&mut self, key: &str, names: &[String]) {
        let Some((first, others)) = names.split_first() else {
            return;
        };
        self.raw(",\"").raw(key).raw("\":[").text(first, MAX_NAME_BYTES);
        for name in others.iter().take(MAX_NAMES - 1) {
            self.raw(",").text(name, MAX_NAME_BYTES);
        }
        self.raw("]");
        if names.len() > MAX_NAMES {
            self.raw(",\"").raw(key).raw("_more\":").count(names.len() - MAX_NAMES);
        }
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.digits(number, 1)
    }

    pub(super) fn count(&mut self, count: usize) -> &mut Self {
        self.number(count as u64)
    }

    /// The six digits behind the point of a second.
    pub(super) fn micros(&mut self, micros: u32) -> &mut Self {
        self.digits(micros.into(), 6)
    }

    /// By hand: a line has a dozen numbers, and the formatter takes 250 instructions for each.
    fn digits(&mut self, number: u64, at_least: usize) -> &mut Self {
        let mut digits = [b'0'; 20];
        let mut rest = number;
        let mut length = 0;
        for digit in digits.iter_mut().rev() {
            if rest == 0 && length >= at_least {
                break;
            }
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            length += 1;
        }
        self.bytes(digits.get(20 - length..).unwrap_or_default())
    }

    pub(super) fn uuid(&mut self, id: Uuid) -> &mut Self {
        self.raw("\"").raw(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())).raw("\"")
    }
}

fn push_escaped(text: &str, into: &mut Vec<u8>) {
    // Looks at every byte without a branch, which compilers turn into a few vector instructions.
    if !text.bytes().fold(false, |found, byte| found | may_need_escape(byte)) {
        return into.extend_from_slice(text.as_bytes());
    }
    let mut rest = text;
    while let Some(at) = rest.bytes().position(may_need_escape) {
        // Never at an inner byte of a character.
        let (plain, behind) = rest.split_at_checked(at).unwrap_or((rest, ""));
        into.extend_from_slice(plain.as_bytes());
        let mut characters = behind.chars();
        if let Some(character) = characters.next() {
            push_character(character, into);
        }
        rest = characters.as_str();
    }
    into.extend_from_slice(rest.as_bytes());
}

/// The first bytes of all characters that [`push_character`] may escape, and a few others.
const fn may_need_escape(byte: u8) -> bool {
    matches!(byte, 0x00..=0x1f | 0x7f | b'"' | b'\\' | 0xc2 | 0xe2)
}

fn push_character(character: char, into: &mut Vec<u8>) {
    match character {
        '"' | '\\' => into.extend_from_slice(&[b'\\', character as u8]),
        // Control characters, line ends, and what turns the direction of text.
        '\0'..='\x1f'
        | '\x7f'..='\u{9f}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => {
            let _ = write!(into, "\\u{:04x}", u32::from(character));
        }
        _ => into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}
