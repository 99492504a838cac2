//! A small blocking PostgreSQL client for the demo and the tests.
//!
//! It exists beside the real drivers because it does what they do not: it sends single messages,
//! also wrong ones, and shows every field of the answer and the state behind it. It shares no code
//! with the gate. Every wait ends: a server that says nothing for half a minute is an error.

pub mod message;
pub mod reply;
mod scram;

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use uuid::Uuid;

use crate::demo::client::reply::{Message, Reply, ServerError, text};
use crate::demo::client::scram::Scram;
use crate::listen::Address;

/// How long a silent server is waited for: half a minute is far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest message taken in: 64 MiB, so that a broken length cannot eat the memory.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server asks for a kind of login that this client does not speak.
    #[error("the server asks for authentication of kind {0}, which this client does not speak")]
    Authentication(u32),
    /// The connection broke, or never was.
    #[error("the connection failed: {0}")]
    Io(io::Error),
    /// The server does not know the password that it should know.
    #[error("the server could not show that it knows the password")]
    NotTheServer,
    /// Bytes that are no message.
    #[error("the server sent something that is no message")]
    Protocol,
    /// The server said no.
    #[error(transparent)]
    Refused(#[from] ServerError),
    /// The server says nothing.
    #[error("the server was silent for {} s", PATIENCE.as_secs())]
    Silent,
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // What a socket's timeout is called differs between systems.
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Silent,
            _ => Self::Io(error),
        }
    }
}

/// Who logs in, to what, with which start-up parameters.
#[derive(Clone)]
pub struct Login {
    user: String,
    password: String,
    database: String,
    settings: Vec<(String, String)>,
}

impl Login {
    /// A login without further start-up parameters.
    #[must_use]
    pub fn new(user: &str, password: &str, database: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            database: database.to_owned(),
            settings: Vec::new(),
        }
    }

    /// The same login with one more start-up parameter, such as `options`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A session with a server, or with a gate in front of one.
pub struct Client {
    stream: BufReader<Box<dyn Duplex>>,
    parameters: Vec<(String, String)>,
}

impl Client {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the other side says no, another when it says nothing useful.
    pub fn connect(address: &Address, login: &Login) -> Result<Self, ClientError> {
        Self::open(address)?.enter(login)
    }

    /// Logs in on a connection on which nothing has been said yet.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn enter(mut self, login: &Login) -> Result<Self, ClientError> {
        let mut parameters = vec![("user", login.user.as_str()), ("database", &login.database)];
        parameters.extend(login.settings.iter().map(|(name, value)| (&**name, &**value)));
        self.send(&message::start_up(&parameters))?;
        self.log_in(&login.password)?;
        Ok(self)
    }

    /// Connects and says nothing yet.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(address: &Address) -> Result<Self, ClientError> {
        let stream: Box<dyn Duplex> = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(Self { stream: BufReader::new(stream), parameters: Vec::new() })
    }

    /// Speaks over a stream of the caller's own, on which nothing has been said yet.
    #[must_use]
    pub fn over(stream: impl Read + Write + Send + 'static) -> Self {
        Self { stream: BufReader::new(Box::new(stream)), parameters: Vec::new() }
    }

    /// What the server has reported about a setting since the login began.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let reported = self.parameters.iter().rev().find(|(known, _)| known == name);
        reported.map(|(_, value)| value.as_str())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        Ok(stream.flush()?)
    }

    /// Reads one message.
    ///
    /// # Errors
    /// When the connection ends, stays silent, or carries no message.
    pub fn receive(&mut self) -> Result<Message, ClientError> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [tag, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).ok();
        let length = length.and_then(|length| length.checked_sub(4));
        let length = length.filter(|length| *length <= MAX_MESSAGE_BYTES);
        let mut body = vec![0; length.ok_or(ClientError::Protocol)?];
        self.stream.read_exact(&mut body)?;
        Ok(Message { tag, body })
    }

    /// Runs a string of statements by the simple protocol. An error of the server's is in the reply.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn query(&mut self, sql: &str) -> Result<Reply, ClientError> {
        self.ask(&message::query(sql))
    }

    /// As [`Self::query`], with rows for a `COPY … FROM STDIN` if the server asks for them.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn copy_in(&mut self, sql: &str, rows: &[u8]) -> Result<Reply, ClientError> {
        self.send(&message::query(sql))?;
        self.read_reply(Some(rows))
    }

    /// Runs one statement by the extended protocol, with parameters as text.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn extended(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Result<Reply, ClientError> {
        let series = [
            message::parse("", sql),
            message::bind("", "", parameters),
            message::describe_portal(""),
            message::execute(""),
            message::sync(),
        ];
        self.ask(&series.concat())
    }

    /// Sends bytes and reads until the server is ready for more.
    ///
    /// # Errors
    /// When the connection breaks without an error of the server's before.
    pub fn ask(&mut self, bytes: &[u8]) -> Result<Reply, ClientError> {
        self.send(bytes)?;
        self.read_reply(None)
    }

    fn read_reply(&mut self, rows: Option<&[u8]>) -> Result<Reply, ClientError> {
        const COPY_IN: u8 = b'G';
        let mut reply = Reply::default();
        while reply.status.is_none() {
            let message = match self.receive() {
                Ok(message) => message,
                // After a FATAL error the connection ends; the error is the answer.
                Err(ClientError::Io(_)) if reply.error.is_some() => break,
                Err(error) => return Err(error),
            };
            reply.take(&message);
            match message.tag {
                COPY_IN => self.send(&copy_answer(rows))?,
                b'S' => self.note_parameter(&message.body),
                _ => {}
            }
        }
        Ok(reply)
    }

    fn note_parameter(&mut self, body: &[u8]) {
        let name = text(body);
        let value = text(body.get(name.len() + 1..).unwrap_or_default());
        self.parameters.push((name, value));
    }

    /// Answers what the server asks for until it is ready.
    fn log_in(&mut self, password: &str) -> Result<(), ClientError> {
        loop {
            let message = self.receive()?;
            match message.tag {
                b'R' => self.authenticate(&message.body, password)?,
                b'S' => self.note_parameter(&message.body),
                b'E' => return Err(ServerError::decode(&message.body).into()),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    fn authenticate(&mut self, body: &[u8], password: &str) -> Result<(), ClientError> {
        const OK: u32 = 0;
        const CLEARTEXT_PASSWORD: u32 = 3;
        const SASL: u32 = 10;
        match split_code(body)?.0 {
            OK => Ok(()),
            CLEARTEXT_PASSWORD => self.send(&message::password(password)),
            SASL => self.authenticate_by_scram(password),
            other => Err(ClientError::Authentication(other)),
        }
    }

    fn authenticate_by_scram(&mut self, password: &str) -> Result<(), ClientError> {
        const SASL_CONTINUE: u32 = 11;
        const SASL_FINAL: u32 = 12;
        // The server takes the user's name from the start-up packet and ignores this one.
        let scram = Scram::new("", password, &Uuid::new_v4().simple().to_string());
        self.send(&message::sasl_initial("SCRAM-SHA-256", &scram.first_message()))?;
        let challenge = self.receive_sasl(SASL_CONTINUE)?;
        let last = scram.answer(&challenge).ok_or(ClientError::Protocol)?;
        self.send(&message::sasl_response(&last.message))?;
        if self.receive_sasl(SASL_FINAL)? != last.expected_answer {
            return Err(ClientError::NotTheServer);
        }
        Ok(())
    }

    fn receive_sasl(&mut self, expected: u32) -> Result<String, ClientError> {
        let message = self.receive()?;
        match (message.tag, split_code(&message.body)) {
            (b'R', Ok((code, rest))) if code == expected => {
                Ok(String::from_utf8_lossy(rest).into_owned())
            }
            (b'E', _) => Err(ServerError::decode(&message.body).into()),
            _ => Err(ClientError::Protocol),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A courtesy to the server; if the connection is broken it has noticed by itself.
        let _ = self.send(&message::terminate());
    }
}

fn split_code(body: &[u8]) -> Result<(u32, &[u8]), ClientError> {
    let (code, rest) = body.split_first_chunk().ok_or(ClientError::Protocol)?;
    Ok((u32::from_be_bytes(*code), rest))
}

fn copy_answer(rows: Option<&[u8]>) -> Vec<u8> {
    match rows {
        Some(rows) => [message::copy_data(rows), message::copy_done()].concat(),
        None => message::copy_fail("no rows to copy"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::{Client, ClientError, Login};
    use crate::listen::Address;

    /// What a client makes of a server that says these bytes and hangs up.
    fn connect_to(script: &'static [u8]) -> Result<Client, ClientError> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(script).unwrap();
            // Whoever closes before the other side has written makes its write fail.
            assert!(stream.read(&mut [0; 256]).unwrap() > 0);
        });

        let outcome = Client::connect(&Address::Unix(socket), &Login::new("ann", "secret", "db"));
        server.join().unwrap();
        outcome
    }

    #[test]
    fn a_refused_login_carries_the_servers_fields() {
        let Err(ClientError::Refused(error)) =
            connect_to(b"E\0\0\0\x1eVFATAL\0C28P01\0Mno\0Hask\0\0\0\0")
        else {
            panic!("the login must be refused")
        };

        assert_eq!((error.sqlstate.as_str(), error.hint.as_deref()), ("28P01", Some("ask")));
    }

    #[test]
    fn nonsense_from_a_server_is_an_error_and_never_a_session() {
        for script in [&b"R\0\0\0\x03"[..], b"R\xff\xff\xff\xff", b"R\0\0\0\x05\0", b"R\0", b""] {
            assert!(connect_to(script).is_err(), "{script:?}");
        }
    }

    #[test]
    fn a_login_that_this_client_does_not_speak_is_named() {
        let outcome = connect_to(b"R\0\0\0\x0c\0\0\0\x05salt");

        assert!(matches!(outcome, Err(ClientError::Authentication(5))));
    }
}
