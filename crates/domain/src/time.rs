//! The format of times: RFC 3339 in UTC with six digits, so that all have the same width.

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde::Serializer;

const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

/// A time as text, such as `2026-01-31T12:00:00.500000Z`. Some older parsers accept only 0, 3 or 6 digits.
pub fn text(time: Timestamp) -> String {
    PRINTER.timestamp_to_string(&time)
}

/// For `#[serde(serialize_with)]`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_seconds_have_digits_too() {
        for (time, shown) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"),
            ("2026-01-31T12:00:00.5+01:00", "2026-01-31T11:00:00.500000Z"),
            ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456Z"),
        ] {
            assert_eq!(text(time.parse().unwrap()), shown);
        }
    }

    proptest! {
        #[test]
        fn each_microsecond_is_kept(time in 0..253_402_000_000_000_000_i64) {
            let time = Timestamp::from_microsecond(time).unwrap();
            prop_assert_eq!(text(time).len(), "2026-01-31T12:00:00.000000Z".len());
            prop_assert_eq!(text(time).parse::<Timestamp>().unwrap(), time);
        }
    }
}
