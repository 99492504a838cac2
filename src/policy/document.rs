//! A strict reader of TOML documents that finds all mistakes in one go, each with its place.
//!
//! Whoever writes a configuration or a policy wants to hear of every mistake at once, and a misspelt
//! protection must never be silently off. So a [`Section`] hands out each key once, by the type that
//! it must have, and when its reader is done whatever nobody asked for is a mistake. That happens
//! inside [`read`] and [`Section::section`], so it cannot be forgotten. A document with any mistake
//! yields nothing.

use std::fmt;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One mistake in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands, in bytes of the text.
    pub place: Range<usize>,
    /// What is wrong; lower case, no full stop, names in backticks.
    pub message: String,
    /// What would be right, if that can be told.
    pub help: Option<String>,
}

impl Mistake {
    /// Line and column, both counted from 1, the column in characters. `text` is the document that
    /// was read.
    #[must_use]
    pub fn line_and_column(&self, text: &str) -> (usize, usize) {
        let mut end = self.place.start.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = text.get(..end).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        (before.matches('\n').count() + 1, column + 1)
    }
}

/// All mistakes of a document, in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// The mistakes, first place first.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.0.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, place: Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.0.push(Mistake { place, message: message.into(), help });
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = std::slice::Iter<'a, Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{}", mistake.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// A value and where it was written, for mistakes that show only when values are seen together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// What was written.
    pub value: T,
    /// Where, in bytes of the text.
    pub place: Range<usize>,
}

impl<T> Placed<T> {
    /// The value turned into another one that stands in the same place.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Placed<U> {
        Placed { value: turn(self.value), place: self.place }
    }
}

/// Reads a whole document. `read_root` gets its top level and says what it means, or `None` when it
/// has reported a mistake that leaves nothing to say.
///
/// # Errors
/// All mistakes, those of the syntax and those that `read_root` found.
pub fn read<T>(
    text: &str,
    read_root: impl FnOnce(&mut Section<'_, '_>) -> Option<T>,
) -> Result<T, Mistakes> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut mistakes = Mistakes::default();
    for error in &errors {
        mistakes.add(error.span().unwrap_or(0..0), error.message(), None);
    }
    let broken: Vec<Range<usize>> =
        mistakes.iter().map(|mistake| line_around(text, mistake.place.start)).collect();
    // Below a broken heading every key would seem to stand in the wrong section.
    if broken
        .iter()
        .any(|line| text.get(line.clone()).unwrap_or_default().trim_start().starts_with('['))
    {
        return Err(mistakes);
    }
    let mut found = Mistakes::default();
    let meant = Section::read(String::new(), root, &mut found, read_root);
    // What a broken line would have said is a guess.
    found.0.retain(|mistake| !broken.iter().any(|line| line.contains(&mistake.place.start)));
    mistakes.0.append(&mut found.0);
    mistakes.0.sort_by_key(|mistake| (mistake.place.start, mistake.place.end));
    match meant {
        Some(meant) if mistakes.is_empty() => Ok(meant),
        None if mistakes.is_empty() => {
            mistakes.add(0..0, "this document says nothing that can be used", None);
            Err(mistakes)
        }
        Some(_) | None => Err(mistakes),
    }
}

/// A table that is being read. Each key is handed out once.
#[derive(Debug)]
pub struct Section<'i, 'm> {
    name: String,
    place: Range<usize>,
    unread: DeTable<'i>,
    known: Vec<String>,
    mistakes: &'m mut Mistakes,
}

impl<'i> Section<'i, '_> {
    fn read<T>(
        name: String,
        table: Spanned<DeTable<'i>>,
        mistakes: &mut Mistakes,
        read: impl FnOnce(&mut Section<'i, '_>) -> Option<T>,
    ) -> Option<T> {
        let place = table.span();
        let unread = table.into_inner();
        let mut section = Section { name, place, unread, known: Vec::new(), mistakes };
        let meant = read(&mut section);
        section.refuse_unread();
        meant
    }

    /// Where the section's heading stands.
    #[must_use]
    pub fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// The keys that have not been read yet, for sections whose keys are names of the operator's
    /// choice. In alphabetic order.
    #[must_use]
    pub fn keys(&self) -> Vec<Placed<String>> {
        let keys = self.unread.keys();
        keys.map(|key| Placed { value: key.get_ref().to_string(), place: key.span() }).collect()
    }

    /// Leaves every other key to somebody else: a reader who wants one part of a document.
    pub fn skip_all_but(&mut self, key: &str) {
        for other in self.keys().into_iter().filter(|other| other.value != key) {
            self.unread.remove(other.value.as_str());
        }
    }

    /// Whether a key is there and has not been read yet.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.unread.contains_key(key)
    }

    /// Takes a key that is known but has no place here, and reports it if it is there.
    pub fn refuse(&mut self, key: &str, message: impl Into<String>) {
        if let Some(value) = self.take(key) {
            self.mistake(value.span(), message);
        }
    }

    /// Reports a mistake that the caller has found.
    pub fn mistake(&mut self, place: Range<usize>, message: impl Into<String>) {
        self.mistakes.add(place, message, None);
    }

    /// Reports a mistake together with what would be right.
    pub fn mistake_with_help(
        &mut self,
        place: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.mistakes.add(place, message, Some(help.into()));
    }

    /// Reads a key that must be there: `section.required("dir", Section::string)`.
    pub fn required<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self, &str) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            let missing = if self.name.is_empty() {
                format!("`{key}` is missing")
            } else {
                format!("`{key}` is missing in `{}`", self.name)
            };
            self.mistake(self.place(), missing);
        }
        read(self, key)
    }

    /// A string.
    pub fn string(&mut self, key: &str) -> Option<Placed<String>> {
        let value = self.take(key)?;
        self.string_from(key, "be a string", value)
    }

    /// A list of strings.
    pub fn strings(&mut self, key: &str) -> Option<Placed<Vec<Placed<String>>>> {
        let value = self.take(key)?;
        let place = value.span();
        match value.into_inner() {
            DeValue::Array(items) => {
                let items = items.into_iter();
                let value = items
                    .filter_map(|item| self.string_from(key, "hold strings only", item))
                    .collect();
                Some(Placed { value, place })
            }
            other => self.wrong_type(key, "be a list of strings", place, &other),
        }
    }

    /// A list of strings, or one string that stands for a list of one.
    pub fn one_or_more(&mut self, key: &str) -> Option<Placed<Vec<Placed<String>>>> {
        if self.unread.get(key).is_some_and(|value| value.get_ref().is_array()) {
            return self.strings(key);
        }
        let only = self.string(key)?;
        let place = only.place.clone();
        Some(Placed { value: vec![only], place })
    }

    /// A whole number inside `range`.
    pub fn integer<N>(&mut self, key: &str, range: RangeInclusive<N>) -> Option<Placed<N>>
    where
        N: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        let value = self.take(key)?;
        let place = value.span();
        let written = match value.get_ref() {
            DeValue::Integer(written) => i64::from_str_radix(written.as_str(), written.radix()),
            other => return self.wrong_type(key, "be a whole number", place, other),
        };
        let number = written.ok().and_then(|number| N::try_from(number).ok());
        if let Some(value) = number.filter(|number| range.contains(number)) {
            return Some(Placed { value, place });
        }
        let (least, most) = range.into_inner();
        self.mistake(place, format!("`{key}` must be between {least} and {most}"));
        None
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str) -> Option<Placed<bool>> {
        let value = self.take(key)?;
        let place = value.span();
        match value.into_inner() {
            DeValue::Boolean(value) => Some(Placed { value, place }),
            other => self.wrong_type(key, "be `true` or `false`", place, &other),
        }
    }

    /// One word of a closed list, each with what it means.
    pub fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<Placed<T>> {
        let written = self.string(key)?;
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == written.value) {
            return Some(Placed { value: *meant, place: written.place });
        }
        let allowed: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let names = words.iter().map(|(word, _)| *word);
        let help = nearest(&written.value, names).map(|word| format!("did you mean \"{word}\"?"));
        let message = format!("`{key}` must be one of {}", allowed.join(", "));
        self.mistakes.add(written.place, message, help);
        None
    }

    /// A table inside this one; `read` says what it means.
    pub fn section<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Section<'i, '_>) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        self.section_from(key, value, read)
    }

    /// An array of tables (`[[key]]`); `read` says what each of them means. Empty if there is none.
    pub fn sections<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut Section<'i, '_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let place = value.span();
        match value.into_inner() {
            DeValue::Array(items) => {
                let items = items.into_iter();
                items.filter_map(|item| self.section_from(key, item, &mut read)).collect()
            }
            other => self.wrong_type(key, "be a list of tables", place, &other).unwrap_or_default(),
        }
    }

    fn take(&mut self, key: &str) -> Option<Spanned<DeValue<'i>>> {
        self.known.push(key.to_owned());
        self.unread.remove(key)
    }

    fn string_from(
        &mut self,
        key: &str,
        expected: &str,
        value: Spanned<DeValue<'i>>,
    ) -> Option<Placed<String>> {
        let place = value.span();
        match value.into_inner() {
            DeValue::String(text) => Some(Placed { value: text.into_owned(), place }),
            other => self.wrong_type(key, expected, place, &other),
        }
    }

    fn section_from<T>(
        &mut self,
        key: &str,
        value: Spanned<DeValue<'i>>,
        read: impl FnOnce(&mut Section<'i, '_>) -> Option<T>,
    ) -> Option<T> {
        let place = value.span();
        match value.into_inner() {
            DeValue::Table(table) => {
                let table = Spanned::new(place, table);
                Section::read(key.to_owned(), table, self.mistakes, read)
            }
            other => self.wrong_type(key, "be a table", place, &other),
        }
    }

    fn wrong_type<T>(
        &mut self,
        key: &str,
        expected: &str,
        place: Range<usize>,
        found: &DeValue<'_>,
    ) -> Option<T> {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.mistake(place, format!("`{key}` must {expected}, not {found}"));
        None
    }

    fn refuse_unread(self) {
        for key in self.unread.keys() {
            let message = if self.name.is_empty() {
                format!("unknown key `{}`", key.get_ref())
            } else {
                format!("unknown key `{}` in `{}`", key.get_ref(), self.name)
            };
            let known = self.known.iter().map(String::as_str);
            let help = nearest(key.get_ref(), known).map(|name| format!("did you mean `{name}`?"));
            self.mistakes.add(key.span(), message, help);
        }
    }
}

/// The line that holds the byte at `place`.
fn line_around(text: &str, place: usize) -> Range<usize> {
    let before = text.get(..place).unwrap_or(text);
    let after = text.get(place..).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = after.find('\n').map_or(text.len(), |newline| place + newline);
    start..end
}

/// The name that was probably meant: at most a third of the letters differ.
fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let patience = written.chars().count().div_ceil(3);
    names
        .map(|name| (strsim::levenshtein(written, name), name))
        .filter(|(apart, _)| *apart <= patience)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::{Mistakes, Section, nearest, read};

    fn found(text: &str, mistakes: &Mistakes) -> Vec<(usize, usize, String, Option<String>)> {
        let place = |mistake: &super::Mistake| mistake.line_and_column(text);
        mistakes
            .iter()
            .map(|it| (place(it).0, place(it).1, it.message.clone(), it.help.clone()))
            .collect()
    }

    #[test]
    fn every_mistake_of_a_document_is_found_with_its_place() {
        let text =
            "unused = 'ü'\n[inner]\nlevel = 12\nmodus = 'x'\nnames = ['a', 2]\nflag = 'no'\n";

        let mistakes = read(text, |root| {
            root.section("inner", |inner| {
                inner.required("dir", Section::string);
                inner.integer("level", 1_u8..=9);
                inner.word("mode", &[("on", true), ("off", false)]);
                inner.strings("names");
                inner.boolean("flag")
            })
        })
        .unwrap_err();

        let expected = [
            (1, 1, "unknown key `unused`", None),
            (2, 1, "`dir` is missing in `inner`", None),
            (3, 9, "`level` must be between 1 and 9", None),
            (4, 1, "unknown key `modus` in `inner`", Some("did you mean `mode`?")),
            (5, 15, "`names` must hold strings only, not a whole number", None),
            (6, 8, "`flag` must be `true` or `false`, not a string", None),
        ];
        let found = found(text, &mistakes);
        let found: Vec<_> = found
            .iter()
            .map(|(line, column, message, help)| {
                (*line, *column, message.as_str(), help.as_deref())
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_broken_line_hides_no_mistake_on_another_line() {
        let text = "one = 127.0.0.1\ntwo = 'x'\nthreee = 3\n[inner]\nfour = yes\n";

        let mistakes = read(text, |root| {
            root.string("one");
            root.integer("two", 1..=2);
            root.boolean("three");
            root.section("inner", |inner| inner.boolean("four"))
        })
        .unwrap_err();

        let lines: Vec<_> = found(text, &mistakes).into_iter().map(|it| it.0).collect();
        assert_eq!(lines, [1, 2, 3, 5]);
    }

    #[test]
    fn below_a_broken_heading_nothing_is_guessed() {
        let text = "[inner\nfour = 4\n";

        let mistakes = read(text, |root| root.section("inner", |_| Some(()))).unwrap_err();

        assert_eq!(mistakes.len(), 1);
        assert_eq!(found(text, &mistakes)[0].0, 1);
    }

    #[test]
    fn a_well_formed_document_is_read_whole() {
        let text = "one = 'a'\nmore = ['b', 'c']\nhex = 0xff\n[[item]]\nname = 'x'\n[[item]]\nname = 'y'\n";

        let (one, more, hex, items) = read(text, |root| {
            Some((
                root.one_or_more("one")?.value.len(),
                root.one_or_more("more")?.value.len(),
                root.integer("hex", 0_usize..=300)?.value,
                root.sections("item", |item| item.required("name", Section::string)),
            ))
        })
        .unwrap();

        assert_eq!((one, more, hex), (1, 2, 255));
        let names: Vec<_> = items.into_iter().map(|name| name.value).collect();
        assert_eq!(names, ["x", "y"]);
    }

    #[test]
    fn a_reader_that_finds_nothing_without_a_mistake_fails() {
        assert_eq!(read("", |_| None::<()>).unwrap_err().len(), 1);
    }

    #[test]
    fn a_name_is_offered_only_if_a_third_of_its_letters_differ() {
        for (written, meant) in [("lisen", Some("listen")), ("lst", None), ("", None)] {
            assert_eq!(nearest(written, ["listen", "dir"].into_iter()), meant, "{written}");
        }
    }
}
