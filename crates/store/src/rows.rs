//! Converts columns to the types of the domain. A value that the schema's constraints forbid is an error, because
//! the schema may have been changed by hand.

use holdfast_domain::Invalid;

use crate::error::StoreError;

pub(crate) fn corrupt(what: &'static str) -> impl FnOnce(Invalid) -> StoreError {
    move |invalid| StoreError::Corrupt { what, reason: invalid.to_string() }
}

/// One of the words that a column may contain.
pub(crate) fn word<T>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T: std::str::FromStr<Err = Invalid>,
{
    text.parse().map_err(|Invalid(must)| StoreError::Corrupt {
        what,
        reason: format!("{must}, and is {text:?}"),
    })
}

pub(crate) fn timestamp(microseconds: i64) -> Result<jiff::Timestamp, StoreError> {
    jiff::Timestamp::from_microsecond(microseconds)
        .map_err(|error| StoreError::Corrupt { what: "time", reason: error.to_string() })
}
