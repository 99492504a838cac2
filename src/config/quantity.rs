//! Amounts as operators write them: `30d`, `50GiB`.

use std::time::Duration;

/// What is wrong with an amount, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QuantityMistake {
    pub(super) message: String,
    pub(super) help: String,
}

const DURATIONS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];

const SIZES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Reads a duration: a whole number of seconds, minutes, hours or days.
pub(super) fn duration(written: &str) -> Result<Duration, QuantityMistake> {
    let help = "write a whole number and one of s, m, h, d, such as \"30d\"";
    let seconds =
        quantity(written, &DURATIONS).ok_or_else(|| mistake(written, "duration", help))?;
    Ok(Duration::from_secs(seconds))
}

/// Reads an amount of bytes.
pub(super) fn bytes(written: &str) -> Result<u64, QuantityMistake> {
    let help = "write a whole number and one of B, KiB, MiB, GiB, TiB, such as \"50GiB\"";
    quantity(written, &SIZES).ok_or_else(|| mistake(written, "size", help))
}

fn mistake(written: &str, what: &str, help: &str) -> QuantityMistake {
    QuantityMistake { message: format!("`{written}` is not a {what}"), help: help.to_owned() }
}

/// Nothing at all is no quantity: a log that is kept for no time is not kept.
fn quantity(written: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = written.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = written.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor).filter(|amount| *amount > 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{bytes, duration};

    #[test]
    fn amounts_are_a_number_and_a_unit() {
        assert_eq!(duration("30d"), Ok(Duration::from_hours(720)));
        assert_eq!(duration("90 s"), Ok(Duration::from_secs(90)));
        assert_eq!(bytes("50GiB"), Ok(50 << 30));
        assert_eq!(bytes("1B"), Ok(1));
    }

    #[test]
    fn what_could_mean_two_things_or_nothing_is_refused() {
        for wrong in ["", "30", "d", "0d", "-1d", "1.5d", "1w", "1D", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "5", "5GB", "5gib", "0B", "99999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
