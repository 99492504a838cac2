//! What the gate itself says to a client: errors, ReadyForQuery and a few more.
//!
//! `pgwire` encodes it. This is one of the two files that name it (the other is the oracle in
//! `tests/oracle.rs`).

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::response::{
    CommandComplete, EmptyQueryResponse, ErrorResponse, NoticeResponse, ReadyForQuery,
    TransactionStatus,
};

use crate::audit::event::{Receipt, TxState};
use crate::policy::reason::Reason;
use crate::policy::verdict::{Denial, SqlFault};

/// An error or notice of the gate's own, before it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    severity: &'static str,
    sqlstate: &'static str,
    message: String,
    detail: Option<String>,
    hint: Option<&'static str>,
    position: Option<usize>,
}

impl Complaint {
    /// A refusal: right SQLSTATE, the sentence, DETAIL with reason and event id, HINT
    /// (DESIGN section 4).
    #[must_use]
    pub fn refusal(denial: &Denial, receipt: &Receipt) -> Self {
        Self {
            severity: "ERROR",
            sqlstate: denial.reason.sqlstate(),
            message: denial.message(),
            detail: Some(violation_detail(denial.reason, receipt)),
            hint: Some(denial.reason.hint()),
            position: None,
        }
    }

    /// A fault that is not about a write: the reason speaks for itself.
    #[must_use]
    pub fn fault(reason: Reason, message: &str, receipt: Option<&Receipt>) -> Self {
        Self {
            severity: "ERROR",
            sqlstate: reason.sqlstate(),
            message: message.to_owned(),
            detail: receipt.map(|receipt| violation_detail(reason, receipt)),
            hint: Some(reason.hint()),
            position: None,
        }
    }

    /// An error in PostgreSQL's own words.
    #[must_use]
    pub fn of_postgres(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: "ERROR",
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
        }
    }

    /// The same, about a text.
    #[must_use]
    pub fn of_sql(fault: &SqlFault) -> Self {
        Self {
            position: fault.position,
            ..Self::of_postgres(fault.sqlstate, fault.message.clone())
        }
    }

    /// As a warning.
    #[must_use]
    pub fn as_warning(self) -> Self {
        Self { severity: "WARNING", ..self }
    }

    /// As an error that ends the connection.
    #[must_use]
    pub fn as_fatal(self) -> Self {
        Self { severity: "FATAL", ..self }
    }

    /// With another HINT.
    #[must_use]
    pub fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// With another SQLSTATE.
    #[must_use]
    pub fn with_sqlstate(self, sqlstate: &'static str) -> Self {
        Self { sqlstate, ..self }
    }

    /// The SQLSTATE.
    #[must_use]
    pub const fn sqlstate(&self) -> &'static str {
        self.sqlstate
    }

    fn fields(&self) -> Vec<(u8, String)> {
        let mut fields = vec![
            (b'S', self.severity.to_owned()),
            (b'V', self.severity.to_owned()),
            (b'C', self.sqlstate.to_owned()),
            (b'M', self.message.clone()),
        ];
        fields.extend(self.detail.clone().map(|detail| (b'D', detail)));
        fields.extend(self.hint.map(|hint| (b'H', hint.to_owned())));
        fields.extend(self.position.map(|position| (b'P', position.to_string())));
        // A zero byte would end the field early; control characters would reach a terminal.
        for (_, text) in &mut fields {
            text.retain(|character| character == '\n' || !character.is_control());
        }
        fields
    }

    /// Onto the wire.
    pub fn encode(&self, into: &mut Vec<u8>) {
        if self.severity == "WARNING" {
            push(&NoticeResponse::new(self.fields()), into);
        } else {
            push(&ErrorResponse::new(self.fields()), into);
        }
    }
}

fn violation_detail(reason: Reason, receipt: &Receipt) -> String {
    format!("SECURITY_VIOLATION reason={} event={}", reason.code(), receipt.event)
}

/// ReadyForQuery.
pub fn ready(tx: TxState, into: &mut Vec<u8>) {
    let status = match tx {
        TxState::Failed => TransactionStatus::Error,
        TxState::Idle => TransactionStatus::Idle,
        TxState::Read => TransactionStatus::Transaction,
    };
    push(&ReadyForQuery::new(status), into);
}

/// EmptyQueryResponse.
pub fn empty_query(into: &mut Vec<u8>) {
    push(&EmptyQueryResponse::new(), into);
}

/// CommandComplete with this tag.
pub fn command_complete(tag: &str, into: &mut Vec<u8>) {
    push(&CommandComplete::new(tag.to_owned()), into);
}

fn push(message: &impl Message, into: &mut Vec<u8>) {
    let mut bytes = BytesMut::new();
    // Encoding fails only on what pgwire cannot write, which none of these holds; nothing is sent
    // then, and the client meets a closed connection instead of half a message.
    if message.encode(&mut bytes).is_ok() {
        into.extend_from_slice(&bytes);
    }
}
