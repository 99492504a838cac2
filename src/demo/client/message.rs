//! The bytes that a client sends, one function a message.
//!
//! Written apart from the gate's own frames on purpose: the demo and the tests must not share a
//! mistake with what they examine, and an attacker needs to write what the gate's types forbid.
//! The names follow the chapter "Message Formats" of PostgreSQL's manual.

/// Protocol 3.0, as every driver of today speaks it.
const PROTOCOL_3_0: u32 = 3 << 16;

/// A message: its type byte, its length, its body.
#[must_use]
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(sized(body));
    bytes
}

/// A body behind its length, which counts itself.
fn sized(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body].concat()
}

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// A count in front of a list; lists here are short.
fn count(items: usize) -> [u8; 2] {
    u16::try_from(items).unwrap_or(u16::MAX).to_be_bytes()
}

/// `StartupMessage` with these parameters in this order.
#[must_use]
pub fn start_up(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(terminated(name));
        body.extend(terminated(value));
    }
    body.push(0);
    sized(&body)
}

/// `PasswordMessage`.
#[must_use]
pub fn password(password: &str) -> Vec<u8> {
    frame(b'p', &terminated(password))
}

/// `SASLInitialResponse`.
#[must_use]
pub fn sasl_initial(mechanism: &str, response: &str) -> Vec<u8> {
    let body = [terminated(mechanism), sized_value(response.as_bytes())].concat();
    frame(b'p', &body)
}

/// `SASLResponse`.
#[must_use]
pub fn sasl_response(response: &str) -> Vec<u8> {
    frame(b'p', response.as_bytes())
}

/// `Query`: the simple protocol.
#[must_use]
pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &terminated(sql))
}

/// `Parse` without parameter types; an empty name is the unnamed statement.
#[must_use]
pub fn parse(statement: &str, sql: &str) -> Vec<u8> {
    frame(b'P', &[terminated(statement), terminated(sql), count(0).to_vec()].concat())
}

/// `Bind` with parameters as text, results as text.
#[must_use]
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = [terminated(portal), terminated(statement)].concat();
    body.extend(count(0));
    body.extend(count(parameters.len()));
    for parameter in parameters {
        match parameter {
            Some(value) => body.extend(sized_value(value.as_bytes())),
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
    body.extend(count(0));
    frame(b'B', &body)
}

/// A value behind its length, which does not count itself.
fn sized_value(value: &[u8]) -> Vec<u8> {
    let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
    [&length.to_be_bytes(), value].concat()
}

/// `Describe` of a portal.
#[must_use]
pub fn describe_portal(portal: &str) -> Vec<u8> {
    frame(b'D', &[b"P".to_vec(), terminated(portal)].concat())
}

/// `Execute` without a limit on rows.
#[must_use]
pub fn execute(portal: &str) -> Vec<u8> {
    frame(b'E', &[terminated(portal), 0_u32.to_be_bytes().to_vec()].concat())
}

/// `Sync`.
#[must_use]
pub fn sync() -> Vec<u8> {
    frame(b'S', &[])
}

/// `FunctionCall`, the fast path: a function by its number, arguments in binary.
#[must_use]
pub fn function_call(function_oid: u32, arguments: &[&[u8]]) -> Vec<u8> {
    const BINARY: [u8; 2] = 1_u16.to_be_bytes();
    let mut body = function_oid.to_be_bytes().to_vec();
    body.extend(count(1));
    body.extend(BINARY);
    body.extend(count(arguments.len()));
    for argument in arguments {
        body.extend(sized_value(argument));
    }
    body.extend(BINARY);
    frame(b'F', &body)
}

/// `CopyData`.
#[must_use]
pub fn copy_data(rows: &[u8]) -> Vec<u8> {
    frame(b'd', rows)
}

/// `CopyDone`.
#[must_use]
pub fn copy_done() -> Vec<u8> {
    frame(b'c', &[])
}

/// `CopyFail`.
#[must_use]
pub fn copy_fail(why: &str) -> Vec<u8> {
    frame(b'f', &terminated(why))
}

/// `Terminate`.
#[must_use]
pub fn terminate() -> Vec<u8> {
    frame(b'X', &[])
}

#[cfg(test)]
mod tests {
    use super::{bind, query, start_up};

    #[test]
    fn lengths_count_themselves_but_not_the_type_byte() {
        assert_eq!(query("SELECT 1"), b"Q\0\0\0\x0dSELECT 1\0");
        assert_eq!(start_up(&[("user", "a")]), b"\0\0\0\x10\0\x03\0\0user\0a\0\0");
    }

    #[test]
    fn a_missing_parameter_is_null_and_not_the_empty_string() {
        let bytes = bind("", "s", &[None, Some("")]);

        assert_eq!(bytes, b"B\0\0\0\x15\0s\0\0\0\0\x02\xff\xff\xff\xff\0\0\0\0\0\0");
    }
}
