//! What a session asks of the world: verdicts, and lines in the log.

use std::sync::Arc;

use crate::audit::event::Ledger;
use crate::policy::sql::JudgedSql;
use crate::policy::verdict::Denial;

/// Who answers whether a text is a read.
pub trait Judge {
    /// The verdict on a text that may not even be UTF-8.
    fn judge(&mut self, text: &[u8]) -> Arc<JudgedSql>;

    /// Which state of the database holds now: a verdict of another one must be given anew.
    fn stamp(&mut self) -> u64;

    /// The refusal of parameters of these types: numbers of four bytes each.
    fn judge_types(&mut self, types: &[u8]) -> Option<Denial>;

    /// How long the verdicts since the last call took, in nanoseconds; `None` if there was none, or
    /// the judge has no clock.
    fn took_ns(&mut self) -> Option<u64> {
        None
    }
}

/// What a session needs from the world for one step.
pub struct Ports<'a> {
    /// Answers whether a text is a read.
    pub judge: &'a mut dyn Judge,
    /// Takes the record before the act.
    pub ledger: &'a mut dyn Ledger,
}
