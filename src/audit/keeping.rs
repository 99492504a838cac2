//! How long a log is kept, and in pieces of what size.

use std::time::Duration;

use crate::audit::segment::OnLoss;

/// A segment is closed at this size: 64 MiB, some 80,000 lines; it is read again on every start.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// And after a day, so that what is older than that is compressed and can be moved away.
pub const SEGMENT_AGE: Duration = Duration::from_hours(24);

/// What the operator wants kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Bytes at which a segment is closed.
    pub segment_bytes: u64,
    /// Age at which a segment is closed.
    pub segment_age: Duration,
    /// How long closed segments are kept; `None` is for ever.
    pub keep: Option<Duration>,
    /// Most bytes of the log, compressed segments as they are; `None` is without a bound.
    pub max_bytes: Option<u64>,
    /// What to do on start about a log that has lost lines.
    pub on_loss: OnLoss,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            segment_age: SEGMENT_AGE,
            keep: None,
            max_bytes: None,
            on_loss: OnLoss::Refuse,
        }
    }
}
