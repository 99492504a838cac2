//! What a server says, taken apart: rows, errors with their fields, the state it ends in.

/// A message as it arrived: type byte and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The type byte.
    pub tag: u8,
    /// What stands behind the length.
    pub body: Vec<u8>,
}

/// The rows of one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResultSet {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The values as text; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// The command tag, `SELECT 3`; empty if the statement failed.
    pub tag: String,
}

/// An error, or a notice.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{severity} {sqlstate}: {message}")]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `WARNING`; never translated.
    pub severity: String,
    /// The five characters of the error's class and kind.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// DETAIL.
    pub detail: Option<String>,
    /// HINT.
    pub hint: Option<String>,
}

/// Everything between a request and the server's readiness for the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// One for each statement that began to answer.
    pub results: Vec<ResultSet>,
    /// The first error.
    pub error: Option<ServerError>,
    /// Notices and warnings.
    pub notices: Vec<ServerError>,
    /// What came out of `COPY … TO STDOUT`.
    pub copied: Vec<u8>,
    /// What `ReadyForQuery` said: `I`, `T` or `E`; `None` when the connection ended instead.
    pub status: Option<char>,
}

impl Reply {
    /// The first value of the first row: what a query for one value is about.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.results.first()?.rows.first()?.first()?.as_deref()
    }

    /// The rows, or the error.
    ///
    /// # Errors
    /// The server's own error, if it sent one.
    pub fn into_result(self) -> Result<Self, ServerError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// Takes one message in.
    pub(super) fn take(&mut self, message: &Message) {
        let body = message.body.as_slice();
        match message.tag {
            b'T' => self.results.push(ResultSet { columns: columns(body), ..ResultSet::default() }),
            b'D' => self.in_open_result(|result| result.rows.push(values(body))),
            b'C' => self.in_open_result(|result| result.tag = text(body)),
            b'd' => self.copied.extend(body),
            b'E' => self.error = self.error.take().or_else(|| Some(ServerError::decode(body))),
            b'N' => self.notices.push(ServerError::decode(body)),
            b'Z' => self.status = body.first().copied().map(char::from),
            _ => {}
        }
    }

    /// Changes the result that is still coming in. A statement without columns, or one that nobody
    /// described, begins its result with its first row or its tag.
    fn in_open_result(&mut self, change: impl FnOnce(&mut ResultSet)) {
        if self.results.last().is_none_or(|result| !result.tag.is_empty()) {
            self.results.push(ResultSet::default());
        }
        if let Some(result) = self.results.last_mut() {
            change(result);
        }
    }
}

impl ServerError {
    pub(crate) fn decode(body: &[u8]) -> Self {
        let mut error = Self::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, value)) = field.split_first() else { continue };
            let value = String::from_utf8_lossy(value).into_owned();
            match kind {
                b'V' => error.severity = value,
                b'C' => error.sqlstate = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                _ => {}
            }
        }
        error
    }
}

/// Text up to its zero byte.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// The names out of a `RowDescription`: after each stand 18 bytes on type and table.
fn columns(body: &[u8]) -> Vec<String> {
    const FIELD_BYTES: usize = 18;
    let mut rest = body.get(2..).unwrap_or_default();
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(text(rest));
        rest = rest.get(end + 1 + FIELD_BYTES..).unwrap_or_default();
    }
    names
}

fn values(body: &[u8]) -> Vec<Option<String>> {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut values = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        rest = after;
        // A negative length is NULL.
        values.push(usize::try_from(i32::from_be_bytes(*length)).ok().map(|length| {
            let (value, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = after;
            String::from_utf8_lossy(value).into_owned()
        }));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::{Message, Reply};

    fn reply(messages: &[(u8, &[u8])]) -> Reply {
        let mut reply = Reply::default();
        for (tag, body) in messages {
            reply.take(&Message { tag: *tag, body: body.to_vec() });
        }
        reply
    }

    #[test]
    fn rows_keep_null_apart_from_the_empty_string() {
        let reply = reply(&[
            (b'T', b"\0\x01n\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"),
            (b'D', b"\0\x02\0\0\0\0\xff\xff\xff\xff"),
            (b'C', b"SELECT 1\0"),
            (b'Z', b"I"),
        ]);

        let result = reply.results.first().unwrap();
        assert_eq!(result.columns, ["n"]);
        assert_eq!(result.rows, [[Some(String::new()), None]]);
        assert_eq!((result.tag.as_str(), reply.status), ("SELECT 1", Some('I')));
    }

    #[test]
    fn the_first_of_two_errors_is_the_one_that_counts() {
        let reply = reply(&[
            (b'E', b"VERROR\0C25006\0Mno\0DSECURITY_VIOLATION\0\0"),
            (b'E', b"VERROR\0C08P01\0Mlater\0\0"),
        ]);

        let error = reply.into_result().unwrap_err();
        assert_eq!(
            (error.sqlstate.as_str(), error.detail.as_deref()),
            ("25006", Some("SECURITY_VIOLATION"))
        );
    }
}
