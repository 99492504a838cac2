//! One connection from its first byte until it is a session or none: what is known of it, and how it
//! is turned away.

use crate::audit::event::{Decision, Entry, Kind, Ledger, Receipt, SessionFacts};
use crate::listen::Peer;
use crate::listen::stream::Stream;
use crate::postgres::dismissal::Dismissal;
use crate::postgres::startup::StartupMessage;
use crate::postgres::wire::Wire;

/// One connection, from its first byte to its last.
pub(super) struct Visit {
    pub(super) client: Wire<Stream>,
    pub(super) peer: Peer,
    pub(super) facts: SessionFacts,
    pub(super) ledger: Box<dyn Ledger + Send>,
    pub(super) opened: Opened,
}

/// Whether `session.open` is in the log, so that `session.close` must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    No,
    Yes,
}

/// Takes what a start-up packet says, whether or not it will be refused.
pub(super) fn learn(facts: &mut SessionFacts, message: &StartupMessage) {
    let said = |name| message.parameter(name).map(str::to_owned);
    facts.principal = said("user");
    facts.user.clone_from(&facts.principal);
    facts.database = said("database").or_else(|| facts.user.clone());
    facts.application = said("application_name");
}

/// Writes down why there will be no session, and says so.
pub(super) async fn dismiss(mut visit: Visit, dismissal: &Dismissal) {
    let message = dismissal.to_string();
    let receipt: Option<Receipt> =
        dismissal.entry(&message).and_then(|entry| visit.ledger.record(&entry).ok());
    if let Some(reason) = dismissal.reason() {
        let SessionFacts { session, client, .. } = &visit.facts;
        let peer = client.map_or_else(|| "[local]".to_owned(), |client| client.to_string());
        tracing::info!(%session, peer, reason = reason.code(), why = message, "turned away");
    }
    visit.client.dismiss(dismissal.complaint(receipt.as_ref()).as_ref()).await;
    if visit.opened == Opened::Yes {
        let entry = Entry::plain(Kind::SessionClose, Decision::None, "no session came of it");
        visit.ledger.follow_up(&entry);
    }
}
