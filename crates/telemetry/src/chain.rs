//! An error with its causes.

use std::{error::Error, fmt};

/// Shows an error and its causes on one line: `error: cause: cause`. Our error types do not repeat their sources in their
/// own texts, so nothing appears twice.
///
/// ```
/// # use holdfast_telemetry::Chain;
/// # let error = std::fmt::Error;
/// tracing::warn!(error = %Chain(&error), "the page could not be written");
/// ```
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the order was not written")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn causes_follow_the_error_on_the_same_line() {
        let error = Outer("x".parse::<i32>().unwrap_err());
        assert_eq!(
            Chain(&error).to_string(),
            "the order was not written: invalid digit found in string"
        );
    }
}
