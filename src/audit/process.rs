//! What the process itself writes down.

use std::sync::Arc;

use crate::audit::desk::Desk;
use crate::audit::event::{AuditUnavailable, Entry, Receipt};
use crate::audit::line::{Facts, push_body};
use crate::audit::redact::SqlText;

/// Records what is no session's doing.
pub(super) struct Process {
    pub(super) desk: Arc<Desk>,
    pub(super) facts: Facts,
}

impl Process {
    pub(super) fn record(&self, entry: &Entry<'_>) -> Result<Receipt, AuditUnavailable> {
        let mut body = Vec::new();
        push_body(entry, SqlText::Off, &self.facts, None, &mut body);
        self.desk.record(&body)
    }
}
