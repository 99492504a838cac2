//! A stand-in for a JIRA site: issues that can be read, searched and changed, on a loopback port.
//!
//! It remembers what it is told and counts every change, so that a proof can say "nothing arrived" and
//! not only "an error came back". Whoever holds its token may do everything, by Basic or Bearer: a
//! refusal can only come from the gate before it.

pub mod client;
mod jql;
mod read;
mod store;
mod view;
mod wire;
mod write;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::demo::jira::store::Store;
use crate::demo::jira::view::View;
use crate::demo::jira::wire::{Answer, Asked};

/// Longest body, in bytes: what a JIRA takes as an attachment by default.
const MAX_BODY_BYTES: usize = 10 << 20;

/// A running stand-in. It stops on drop.
#[derive(Debug)]
pub struct JiraSite {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Dropped to stop it.
    _stop: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    token: String,
    base: String,
}

impl JiraSite {
    /// Starts one on a port of 127.0.0.1 (0 for any) that takes this token.
    ///
    /// # Errors
    /// When the port cannot be had, or there is no thread.
    pub fn start(port: u16, token: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
        let address = listener.local_addr()?;
        let base = format!("http://{address}");
        let store = Mutex::new(Store::seeded());
        let shared = Arc::new(Shared { store, token: token.to_owned(), base });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        thread::Builder::new().name("jira".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, served) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { shared, address, _stop: stop })
    }

    /// Where it listens: `http://127.0.0.1:8080`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.base
    }

    /// The same as an address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often anything was changed since it began.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.shared.store().writes
    }

    /// Puts everything back as it was at the start, for the control: what one attack broke must not
    /// stop the next.
    pub fn restore(&self) {
        *self.shared.store() = Store::seeded();
    }
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, asked: &Asked) -> Answer {
        // For whoever tests from outside; no JIRA has it, and the gate does not know it.
        if let ["writes"] = asked.path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            return Answer::json(&json!({"writes": self.store().writes}));
        }
        if asked.token.as_deref() != Some(self.token.as_str()) {
            return Answer::error(401, "You do not have the permission to see this.");
        }
        let mut store = self.store();
        if asked.writes() {
            if ["GET", "HEAD"].contains(&asked.method.as_str()) {
                store.writes += 1;
            } else {
                return store.write(asked);
            }
        }
        let version =
            asked.path.get(2).filter(|_| asked.path.get(1).is_some_and(|api| api == "api"));
        let version = version.map_or("2", String::as_str);
        let view = View { store: &store, base: &self.base, version };
        view.read(asked).unwrap_or_else(|| Answer::error(404, "There is no such thing here."))
    }
}

/// Takes connections until the future is dropped. Each has a task of its own, which ends with the
/// runtime.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // What cannot be taken is another client's misfortune; the next one may be luckier.
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| respond(request, Arc::clone(&shared)));
    // A client that breaks off is no fault of ours.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await else {
        return Ok(Answer::error(413, "The body is too long or broke off.").into_response("GET"));
    };
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let method = head.method.as_str();
    let asked = Asked::of(method, target, &head.headers, body.to_bytes());
    Ok(shared.answer(&asked).into_response(method))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::JiraSite;

    fn ask(site: &JiraSite, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(site.address()).unwrap();
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    #[test]
    fn it_remembers_what_it_is_told_and_counts() {
        let site = JiraSite::start(0, "t").unwrap();
        assert_eq!(ask(&site, "GET /rest/api/2/issue/COMP-101", "").0, 200);
        assert_eq!(site.writes(), 0);

        let made = ask(
            &site,
            "POST /rest/api/2/issue",
            "{\"fields\":{\"project\":{\"key\":\"COMP\"},\"summary\":\"mine\"}}",
        );
        let noted = ask(&site, "POST /rest/api/2/issue/COMP-125/comment", "{\"body\":\"seen\"}");
        let found = ask(&site, "GET /rest/api/2/search?jql=comment+~+seen", "");

        assert_eq!((made.0, noted.0, site.writes()), (201, 201, 2));
        assert!(found.1.contains("COMP-125"), "{}", found.1);
        site.restore();
        assert_eq!(site.writes(), 0);
        assert_eq!(ask(&site, "GET /rest/api/2/issue/COMP-125", "").0, 404);
    }

    #[test]
    fn it_has_the_bad_habits_of_what_stands_before_a_real_site() {
        let site = JiraSite::start(0, "t").unwrap();
        for head in [
            "POST /rest/api/2/search/..;/issue/COMP-101/comment",
            "POST /rest/api/2/issue/COMP-98?_method=DELETE",
            "GET /rest/api/2/issue/COMP-101?updateHistory=true",
            "GET /browse/COMP-101",
        ] {
            let before = site.writes();
            let (status, _) = ask(&site, head, "{}");
            assert!(status < 300, "{head}: {status}");
            assert_eq!(site.writes(), before + 1, "{head}");
        }
    }

    #[test]
    fn without_its_token_it_shows_nothing() {
        let site = JiraSite::start(0, "other").unwrap();
        assert_eq!(ask(&site, "GET /rest/api/2/myself", "").0, 401);
    }
}
