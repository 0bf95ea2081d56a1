//! Times and durations as parameters and columns of sqlx.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;

/// A `timestamptz`. In a checked statement a column of this type is named `"created_at: Time"`.
pub(crate) type Time = jiff_sqlx::Timestamp;

/// A duration as a parameter of type `interval`, limited to the longest one that PostgreSQL supports.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
