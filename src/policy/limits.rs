//! How much one client may use: `[limits]` of a policy, as written and as meant.
//!
//! A limit is no rule about what is a read. Whoever meets one hears which one it was, and what they
//! may still do is untouched.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::policy::document::Section;
use crate::policy::reason::Reason;

/// Bounds of `statement_bytes`: at most what a client frame may hold.
const STATEMENT_BYTES: RangeInclusive<usize> = 1_024..=16_777_216;

/// Bounds of `message_bytes`: at most what the frame reader takes, at least what drivers need to
/// log in and to name things.
const MESSAGE_BYTES: RangeInclusive<usize> = 65_536..=16_777_216;

/// The longest time that can be written: 30 days. PostgreSQL's own bounds end at 24.8 days.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// What one client may use. `None` is no bound, and so is the greatest number of rows or bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest text of a statement, in bytes.
    pub statement_bytes: usize,
    /// Longest message of a client, in bytes, with its length field and without its type byte.
    pub message_bytes: usize,
    /// Most rows that one statement may answer with; rows of COPY count.
    pub result_rows: u64,
    /// Most bytes of rows that one statement may answer with.
    pub result_bytes: u64,
    /// How long one statement may run.
    pub statement_time: Option<Duration>,
    /// How long a session may do nothing inside a transaction.
    pub idle_in_transaction_time: Option<Duration>,
    /// How long a session may do nothing outside of one.
    pub idle_time: Option<Duration>,
    /// How long a peer may take nothing of what waits for it.
    pub stall_time: Option<Duration>,
    /// How long a login may take in all.
    pub login_time: Duration,
    /// How long what is known of a database's catalog is taken for its present state without a look.
    pub catalog_age: Duration,
    /// What all sessions of one principal may use together.
    pub principal: Share,
    /// How many cancel requests of one address are heard in a minute.
    pub cancel_requests_per_minute: Option<NonZeroU32>,
}

/// What all sessions of one principal may use together. `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Sessions at once.
    pub connections: Option<NonZeroU32>,
    /// Statements that run at once.
    pub concurrent_statements: Option<NonZeroU32>,
    /// Statements that begin in one second.
    pub statements_per_second: Option<NonZeroU32>,
    /// Refusals that are answered at once, in one minute.
    pub refusals_per_minute: Option<NonZeroU32>,
}

/// What a session may still use of its principal's share.
pub trait Budget: Send {
    /// So many statements are about to begin.
    ///
    /// # Errors
    /// The limit that they would go beyond.
    fn begin(&mut self, statements: usize) -> Result<(), Reason>;

    /// No statement of the session runs any more.
    fn end(&mut self);

    /// The session has been refused something.
    fn refuse(&mut self) -> Haste;
}

/// How soon a refusal is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Haste {
    /// At once.
    #[default]
    AtOnce,
    /// After a pause: there have been too many.
    Later,
    /// At once, and it is the last one: the connection ends.
    Never,
}

impl Default for Limits {
    /// What holds where a policy says nothing: the same as in the shipped one.
    fn default() -> Self {
        Self {
            statement_bytes: 1_048_576,
            message_bytes: 16_777_216,
            result_rows: u64::MAX,
            result_bytes: u64::MAX,
            statement_time: Some(Duration::from_hours(4)),
            idle_in_transaction_time: Some(Duration::from_hours(24)),
            idle_time: None,
            stall_time: Some(Duration::from_mins(15)),
            login_time: Duration::from_mins(1),
            catalog_age: Duration::from_secs(30),
            principal: Share { refusals_per_minute: NonZeroU32::new(60_000), ..Share::default() },
            cancel_requests_per_minute: NonZeroU32::new(1_200),
        }
    }
}

impl Limits {
    /// Reads `[limits]`. What is not written is as by default.
    pub(super) fn read(section: &mut Section<'_, '_>) -> Self {
        let default = Self::default();
        let size = |section: &mut Section<'_, '_>, key, range, usual| {
            section.integer(key, range).map_or(usual, |placed| placed.value)
        };
        Self {
            statement_bytes: size(
                section,
                "statement_bytes",
                STATEMENT_BYTES,
                default.statement_bytes,
            ),
            message_bytes: size(section, "message_bytes", MESSAGE_BYTES, default.message_bytes),
            result_rows: amount(section, "result_rows"),
            result_bytes: amount(section, "result_bytes"),
            statement_time: time(section, "statement_time", default.statement_time),
            idle_in_transaction_time: time(
                section,
                "idle_in_transaction_time",
                default.idle_in_transaction_time,
            ),
            idle_time: time(section, "idle_time", default.idle_time),
            stall_time: time(section, "stall_time", default.stall_time),
            login_time: bounded_time(section, "login_time", default.login_time),
            catalog_age: bounded_time(section, "catalog_age", default.catalog_age),
            principal: Share::read(section, default.principal),
            cancel_requests_per_minute: count(
                section,
                "cancel_requests_per_minute",
                default.cancel_requests_per_minute,
            ),
        }
    }
}

impl Share {
    fn read(section: &mut Section<'_, '_>, default: Self) -> Self {
        let share = section.section("principal", |share| {
            Some(Self {
                connections: count(share, "connections", default.connections),
                concurrent_statements: count(
                    share,
                    "concurrent_statements",
                    default.concurrent_statements,
                ),
                statements_per_second: count(
                    share,
                    "statements_per_second",
                    default.statements_per_second,
                ),
                refusals_per_minute: count(
                    share,
                    "refusals_per_minute",
                    default.refusals_per_minute,
                ),
            })
        });
        share.unwrap_or(default)
    }
}

/// A number of rows or bytes; 0 is no bound, and so is nothing.
fn amount(section: &mut Section<'_, '_>, key: &str) -> u64 {
    let written = section.integer(key, 0..=i64::MAX).map_or(0, |placed| placed.value);
    u64::try_from(written).ok().filter(|&amount| amount > 0).unwrap_or(u64::MAX)
}

/// A number of things at once or in a time; 0 is no bound.
fn count(
    section: &mut Section<'_, '_>,
    key: &str,
    default: Option<NonZeroU32>,
) -> Option<NonZeroU32> {
    section.integer(key, 0..=1_000_000_u32).map_or(default, |placed| NonZeroU32::new(placed.value))
}

/// A length of time; `off` is no bound.
fn time(section: &mut Section<'_, '_>, key: &str, default: Option<Duration>) -> Option<Duration> {
    let Some(written) = section.string(key) else { return default };
    if written.value == "off" {
        return None;
    }
    let time = read_time(&written.value).filter(is_possible);
    if time.is_none() {
        let message = format!("`{key}` is no length of time");
        let help = "write `500ms`, `30s`, `10min`, `4h` or `2d` (at most `30d`), or `off`";
        section.mistake_with_help(written.place, message, help);
    }
    time
}

/// A length of time that cannot be off: peers that say nothing would take all places.
fn bounded_time(section: &mut Section<'_, '_>, key: &str, default: Duration) -> Duration {
    let Some(written) = section.string(key) else { return default };
    let time = read_time(&written.value).filter(is_possible);
    if time.is_none() {
        let message = format!("`{key}` is no length of time");
        section.mistake_with_help(written.place, message, "write `30s` or `1min`");
    }
    time.unwrap_or(default)
}

fn is_possible(time: &Duration) -> bool {
    (Duration::from_millis(1)..=LONGEST).contains(time)
}

/// A whole number and its unit, as PostgreSQL writes them.
fn read_time(written: &str) -> Option<Duration> {
    let digits = written.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = written.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit_ms: u64 = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Limits;
    use crate::policy::document;
    use crate::policy::file::Policy;

    fn read(text: &str) -> Result<Limits, Vec<String>> {
        let read = document::read(text, |root| Some(Limits::read(root)));
        read.map_err(|mistakes| mistakes.iter().map(|mistake| mistake.message.clone()).collect())
    }

    #[test]
    fn the_shipped_policy_says_what_holds_where_a_policy_says_nothing() {
        assert_eq!(Policy::shipped().unwrap().limits, Limits::default());
        assert_eq!(read(""), Ok(Limits::default()));
    }

    #[test]
    fn times_have_units_and_off_is_no_bound() {
        let limits = read("statement_time = \"250ms\"\nidle_time = \"2 d\"\nstall_time = \"off\"");

        let limits = limits.unwrap();
        assert_eq!(limits.statement_time, Some(Duration::from_millis(250)));
        assert_eq!(limits.idle_time, Some(Duration::from_hours(48)));
        assert_eq!(limits.stall_time, None);
    }

    #[test]
    fn what_is_no_length_of_time_is_a_mistake_and_not_no_bound() {
        for written in ["", "0s", "5", "5 weeks", "-1s", "31d", "99999999999999999999h", "1.5s"] {
            let mistakes = read(&format!("statement_time = \"{written}\"")).unwrap_err();
            assert_eq!(mistakes, ["`statement_time` is no length of time"], "{written}");
        }
        assert_eq!(
            read("login_time = \"off\"").unwrap_err(),
            ["`login_time` is no length of time"]
        );
    }

    #[test]
    fn zero_rows_or_statements_are_no_bound() {
        let limits = read("result_rows = 0\nresult_bytes = 5\n[principal]\nconnections = 0\n");

        let limits = limits.unwrap();
        assert_eq!((limits.result_rows, limits.result_bytes), (u64::MAX, 5));
        assert_eq!(limits.principal.connections, None);
        assert_eq!(limits.principal.refusals_per_minute.map(u32::from), Some(60_000));
    }
}
