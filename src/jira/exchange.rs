//! One request on its road, and its answer on the way back.
//!
//! The order is the one that safety asks for: whose request it is and that it has one reading, who
//! asks, what is asked, the body, the line in the log; only then the site. Nothing is decided here:
//! each step is a call of the half that decides, and the first refusal ends the road.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
    USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use uuid::Uuid;

use crate::audit::event::{
    AuditUnavailable, AuthMethod, Decision, Entry, Http, Kind, Ledger, Protocol, Receipt,
    SessionFacts, TlsFacts,
};
use crate::jira::access::{Access, Admitted};
use crate::jira::body::{AtEnd, Content, Ending, Reply, Source};
use crate::jira::doorway::Told;
use crate::jira::gate::Parts as GateParts;
use crate::jira::limits::{ClientKey, Running};
use crate::jira::outbox::SiteBound;
use crate::jira::refusal::{Connection, Refusal};
use crate::jira::reply::{self, Question, Treatment};
use crate::jira::request::{self, Announced, Asked};
use crate::listen::Peer;
use crate::policy::jira::judge::{BodyRule, JiraRead, ReadMethod, Routed, route};
use crate::policy::reason::Reason;
use crate::policy::verdict::Cleared;

/// How long a client that is refused too often waits for each further refusal: 1 s.
const REFUSAL_DELAY: Duration = Duration::from_secs(1);

/// Whether a connection found a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It did.
    Seated,
    /// It did not: it is told so.
    Standing,
}

/// One connection of a client.
pub(super) struct Visit {
    gate: Arc<GateParts>,
    told: Arc<Told>,
    peer: Peer,
    tls: Option<TlsFacts>,
    place: Place,
    session: Uuid,
    known: Mutex<Known>,
}

/// What changes from request to request.
struct Known {
    ordinal: u64,
    /// What was last shown, and who that was.
    shown: Option<(Option<HeaderValue>, Admitted)>,
    ledger: Box<dyn Ledger + Send>,
}

/// What the log says about a request.
struct Subject {
    ordinal: u64,
    method: String,
    target: String,
    operation: String,
    body_bytes: u64,
}

/// A request that may go to the site.
struct Allowed {
    subject: Subject,
    bound: SiteBound,
    running: Running,
}

impl Visit {
    pub(super) fn new(
        gate: Arc<GateParts>,
        told: Arc<Told>,
        (peer, tls): (Peer, Option<TlsFacts>),
        place: Place,
    ) -> Self {
        let session = Uuid::now_v7();
        let ledger = gate.auditor.open(facts(&gate, (&peer, tls.as_ref()), session, None, None));
        let known = Mutex::new(Known { ordinal: 0, shown: None, ledger });
        Self { gate, told, peer, tls, place, session, known }
    }

    /// Whoever panicked with it held a ledger that writes whole lines or none.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request, whatever becomes of it.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Infallible> {
        self.told.begin_answer();
        let (parts, body) = request.into_parts();
        let ordinal = self.next_ordinal();
        let mut subject = Subject {
            ordinal,
            method: parts.method.as_str().to_owned(),
            target: parts.uri.path_and_query().map_or("", |target| target.as_str()).to_owned(),
            operation: String::new(),
            body_bytes: body.size_hint().exact().unwrap_or(0),
        };
        let allowed = match self.told.head_fault(ordinal) {
            Some(fault) => {
                // What stands here is the gate's own.
                self.forget();
                "(unreadable)".clone_into(&mut subject.method);
                subject.target.clear();
                Err((Refusal::from(fault), subject))
            }
            None => self.judge(&parts, body, subject).await,
        };
        Ok(match allowed {
            Ok(allowed) => self.forward(allowed).await,
            Err((refusal, subject)) => self.refuse(refusal, &subject).await,
        })
    }

    fn next_ordinal(&self) -> u64 {
        let mut known = self.known();
        known.ordinal += 1;
        known.ordinal
    }

    async fn judge(
        &self,
        parts: &Parts,
        body: Incoming,
        mut subject: Subject,
    ) -> Result<Allowed, (Refusal, Subject)> {
        match self.clear(parts, body, &mut subject).await {
            Ok((bound, running)) => Ok(Allowed { subject, bound, running }),
            Err(refusal) => Err((refusal, subject)),
        }
    }

    /// The road up to the line in the log.
    async fn clear(
        &self,
        parts: &Parts,
        body: Incoming,
        subject: &mut Subject,
    ) -> Result<(SiteBound, Running), Refusal> {
        let gate = &self.gate;
        if self.place == Place::Standing {
            let note = "All places at this gate are taken.";
            let refusal = Refusal::new(Reason::LimitConnections, "max_connections", note);
            return Err(refusal.retry_after(1).closing());
        }
        let asked = request::read(parts, &gate.hosts).inspect_err(|_| self.forget())?;
        let admitted = self.admit(&parts.headers).inspect_err(|_| self.forget())?;
        let routed = route(&gate.policy, asked.method, asked.target.as_bytes())?;
        routed.operation().clone_into(&mut subject.operation);
        let running = gate.budgets.begin(&self.key()).ok_or_else(|| {
            let note = "You ask more often, or more at once, than this gate allows.";
            Refusal::new(Reason::LimitRate, "limits", note).of(routed.operation()).retry_after(1)
        })?;
        let cleared = self.clear_body(routed, &asked, body).await?;
        let JiraRead { target, body, .. } = cleared.request();
        subject.target.clone_from(target);
        subject.body_bytes = body.as_ref().map_or(0, |body| body.len() as u64);
        self.record_allowed(subject)?;
        let site = gate.upstream.site();
        let bound = SiteBound::new(cleared, site, &parts.headers, admitted.authorization);
        let bound = bound.ok_or_else(|| {
            Refusal::new(Reason::Internal, "outbox", "The request could not be written.")
        })?;
        Ok((bound, running))
    }

    /// Who asks. The log is told when it is somebody else than before.
    fn admit(&self, fields: &HeaderMap) -> Result<Admitted, Refusal> {
        let authorization = fields.get(AUTHORIZATION);
        let mut known = self.known();
        if let Some((shown, admitted)) = &known.shown
            && shown.as_ref() == authorization
        {
            return Ok(admitted.clone());
        }
        let admitted = self.gate.access.admit(authorization).ok_or_else(|| {
            let note = match self.gate.access {
                Access::Held { .. } => {
                    "Authorization must be a token of this gate: Bearer, or Basic with the token as password."
                }
                Access::Passthrough => "Authorization must be the one that JIRA asks for.",
            };
            Refusal::new(Reason::AuthFailed, "clients", note)
        })?;
        let agent = fields.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        let facts = facts(
            &self.gate,
            (&self.peer, self.tls.as_ref()),
            self.session,
            Some(&admitted),
            agent,
        );
        known.ledger = self.gate.auditor.open(facts);
        known.shown = Some((authorization.cloned(), admitted.clone()));
        Ok(admitted)
    }

    /// Who asked before says nothing about who asks now, if that could not be told.
    fn forget(&self) {
        let mut known = self.known();
        if known.shown.take().is_some() {
            let facts =
                facts(&self.gate, (&self.peer, self.tls.as_ref()), self.session, None, None);
            known.ledger = self.gate.auditor.open(facts);
        }
    }

    /// Whose share the present request uses up: a name counts only where the gate has proven it.
    fn key(&self) -> ClientKey {
        let known = self.known();
        let proven = known.shown.as_ref().map(|(_, admitted)| admitted);
        let name = proven.filter(|admitted| admitted.method == AuthMethod::Token);
        match name.and_then(|admitted| admitted.name.clone()) {
            Some(name) => ClientKey::Name(name),
            None => ClientKey::Address(self.peer.socket_address().map(|address| address.ip())),
        }
    }

    async fn clear_body(
        &self,
        routed: Routed<'_>,
        asked: &Asked<'_>,
        body: Incoming,
    ) -> Result<Cleared<JiraRead>, Refusal> {
        let bytes = match (routed.body_rule(), asked.body) {
            (_, Announced::Nothing) | (BodyRule::None, Announced::Body(Some(0))) => None,
            (BodyRule::None, Announced::Body(_)) => {
                // Not read: it is refused for being there.
                return routed
                    .clear(Some(Vec::new()), None)
                    .map_err(|denial| Refusal::from(denial).closing());
            }
            (BodyRule::Json { max_bytes }, Announced::Body(length)) => {
                let is_long = length.is_some_and(|length| length > max_bytes as u64);
                let read = if is_long { Ok(None) } else { read_body(body, max_bytes).await };
                match read {
                    Ok(Some(bytes)) => Some(bytes),
                    Ok(None) => return Err(Refusal::from(routed.refuse_long_body()).closing()),
                    Err(_) => {
                        let refusal = Refusal::from(self.told.body_fault());
                        return Err(refusal.of(routed.operation()));
                    }
                }
            }
        };
        routed.clear(bytes, asked.content_type).map_err(Refusal::from)
    }

    fn record_allowed(&self, subject: &Subject) -> Result<Receipt, Refusal> {
        let entry = Entry {
            statement: subject.ordinal,
            http: Some(subject.http(None, None)),
            ..Entry::plain(Kind::HttpRequest, Decision::Allow, "a read")
        };
        self.known().ledger.record(&entry).map_err(|AuditUnavailable| {
            let note = "The line about this request could not be written.";
            Refusal::new(Reason::AuditUnavailable, "audit", note)
                .of(&subject.operation)
                .retry_after(5)
        })
    }

    /// Asks the site and passes its answer on.
    async fn forward(self: &Arc<Self>, allowed: Allowed) -> Response<Reply> {
        let Allowed { subject, bound, running } = allowed;
        let gate = &self.gate;
        let (answer, lease) = match gate.upstream.send(&bound).await {
            Ok(answered) => answered,
            Err(error) => {
                tracing::warn!(%error, cause = ?std::error::Error::source(&error), "no answer");
                return self.fail(error.refusal(), &subject);
            }
        };
        let (head, incoming) = answer.into_parts();
        let question = Question {
            method: bound.method(),
            reply: bound.reply(),
            site: gate.upstream.site(),
            names: &gate.site_names,
        };
        let shown = match reply::read(&question, head.status, &head.headers) {
            Ok(shown) => shown,
            Err(refusal) => return self.fail(refusal, &subject),
        };
        let source = Source::new(incoming, Arc::clone(&gate.upstream), lease);
        let content = match shown.treatment {
            Treatment::Nothing => Content::Nothing,
            Treatment::Pass => Content::Passing(source),
            Treatment::Rewrite => {
                match Content::rewritten(source, Arc::clone(&gate.site_names)).await {
                    Ok(content) => content,
                    Err(error) => {
                        tracing::warn!(%error, "an answer was cut");
                        let note = "The answer of JIRA ends too early.";
                        let refusal = Refusal::new(Reason::UpstreamAnswer, "answer", note);
                        return self.fail(refusal, &subject);
                    }
                }
            }
        };
        let at_end = self.at_end(subject, head.status, running);
        let mut response = Response::new(Reply::new(content, at_end));
        *response.status_mut() = shown.status;
        *response.headers_mut() = shown.fields;
        let is_head = bound.method() == ReadMethod::Head;
        if let Some(length) = head.headers.get(CONTENT_LENGTH).filter(|_| is_head)
            && !reply::may_be_rewritten(bound.reply(), &head.headers)
        {
            response.headers_mut().insert(CONTENT_LENGTH, length.clone());
        }
        response
    }

    /// What is done when an answer has been sent, or not all of it.
    fn at_end(self: &Arc<Self>, subject: Subject, status: StatusCode, running: Running) -> AtEnd {
        let visit = Arc::clone(self);
        Box::new(move |sent, ending| {
            drop(running);
            visit.told.end_answer();
            let (decision, message) = match ending {
                Ending::Complete => (Decision::Allow, "answered"),
                Ending::Cut => (Decision::Error, "the answer was cut off"),
            };
            let entry = Entry {
                statement: subject.ordinal,
                http: Some(subject.http(Some(status), Some(sent))),
                upstream_contacted: Some(true),
                ..Entry::plain(Kind::HttpResponse, decision, message)
            };
            visit.known().ledger.follow_up(&entry);
        })
    }

    /// Answers in the place of the site.
    fn fail(self: &Arc<Self>, refusal: Refusal, subject: &Subject) -> Response<Reply> {
        let refusal = refusal.of(&subject.operation);
        let status = status_of(&refusal);
        let entry = Entry {
            reason: Some(refusal.reason),
            rule: Some(refusal.rule),
            statement: subject.ordinal,
            http: Some(subject.http(Some(status), None)),
            upstream_contacted: Some(refusal.reason != Reason::UpstreamDown),
            ..Entry::plain(Kind::HttpResponse, Decision::Error, &refusal.note)
        };
        let recorded = self.known().ledger.record(&entry);
        let event = recorded.ok().map(|receipt| receipt.event);
        self.respond(&refusal, event.as_deref())
    }

    /// Writes a refusal down, then answers it.
    async fn refuse(self: &Arc<Self>, refusal: Refusal, subject: &Subject) -> Response<Reply> {
        let mut refusal = refusal;
        if refusal.operation == "(unknown)" && !subject.operation.is_empty() {
            refusal = refusal.of(&subject.operation);
        }
        let is_within = self.gate.budgets.may_be_refused(&self.key());
        let entry = Entry {
            reason: Some(refusal.reason),
            rule: Some(refusal.rule),
            statement: subject.ordinal,
            http: Some(Http { operation: &refusal.operation, ..subject.http(None, None) }),
            upstream_contacted: Some(false),
            ..Entry::plain(Kind::HttpRequest, Decision::Deny, sentence_for_the_log(&refusal))
        };
        let recorded = match refusal.reason {
            // It has been tried just now.
            Reason::AuditUnavailable => Err(AuditUnavailable),
            _ => self.known().ledger.record(&entry),
        };
        let event = recorded.ok().map(|receipt| receipt.event);
        if !is_within {
            tokio::time::sleep(REFUSAL_DELAY).await;
            let note = "You are refused too often; reads are served all the same.";
            refusal = Refusal::new(Reason::LimitRefusals, "limits.refusals_per_minute", note)
                .of(&refusal.operation)
                .retry_after(60)
                .closing();
        }
        self.respond(&refusal, event.as_deref())
    }

    fn respond(self: &Arc<Self>, refusal: &Refusal, event: Option<&str>) -> Response<Reply> {
        let visit = Arc::clone(self);
        let at_end = Box::new(move |_, _| visit.told.end_answer());
        let mut response = Response::new(Reply::new(Content::whole(refusal.body(event)), at_end));
        *response.status_mut() = status_of(refusal);
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if refusal.connection == Connection::Close {
            fields.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = refusal.retry_after {
            fields.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if refusal.reason == Reason::AuthFailed {
            fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"JIRA\""));
        }
        response
    }
}

impl Subject {
    fn http(&self, status: Option<StatusCode>, response_bytes: Option<u64>) -> Http<'_> {
        Http {
            method: &self.method,
            target: &self.target,
            operation: &self.operation,
            body_bytes: self.body_bytes,
            status: status.map(|status| status.as_u16()),
            response_bytes,
        }
    }
}

fn facts(
    gate: &GateParts,
    (peer, tls): (&Peer, Option<&TlsFacts>),
    session: Uuid,
    admitted: Option<&Admitted>,
    agent: Option<&str>,
) -> SessionFacts {
    let site = gate.upstream.site();
    SessionFacts {
        session,
        protocol: Protocol::Http,
        client: peer.socket_address(),
        server: format!("{}:{}", site.host(), site.port()),
        tls: tls.cloned(),
        principal: admitted.and_then(|admitted| admitted.name.as_deref().map(str::to_owned)),
        user: None,
        database: None,
        application: agent.map(str::to_owned),
        method: admitted.map_or(AuthMethod::None, |admitted| admitted.method),
    }
}

/// The client reads the name of the parameter that it sent; in the log it might be a secret.
fn sentence_for_the_log(refusal: &Refusal) -> &str {
    match refusal.reason {
        Reason::JiraQuery => "a parameter is not one that this operation takes",
        _ => &refusal.note,
    }
}

fn status_of(refusal: &Refusal) -> StatusCode {
    StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The whole body; `None` if it is longer than `most`.
async fn read_body(mut body: Incoming, most: usize) -> hyper::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    while let Some(frame) = next_frame(&mut body).await {
        if let Ok(piece) = frame?.into_data() {
            if bytes.len() + piece.len() > most {
                return Ok(None);
            }
            bytes.extend_from_slice(&piece);
        }
    }
    Ok(Some(bytes))
}

async fn next_frame(
    body: &mut Incoming,
) -> Option<hyper::Result<hyper::body::Frame<bytes::Bytes>>> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await
}
