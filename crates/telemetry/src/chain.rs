//! An error with its causes.

use std::{error::Error, fmt};

/// Shows an error and its causes on one line: `error: cause: cause`. A cause with which the text before it already ends
/// is not repeated: our own error types do not repeat their sources, but those of libraries do.
///
/// ```
/// # use holdfast_telemetry::Chain;
/// # let error = std::fmt::Error;
/// tracing::warn!(error = %Chain(&error), "the page could not be written");
/// ```
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = without_source_line(&self.0.to_string());
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = without_source_line(&without_repetition(error.to_string()));
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

/// sqlx repeats in a cause what the error above it says.
fn without_repetition(text: String) -> String {
    const SAID_ABOVE: [&str; 2] =
        ["error communicating with database: ", "error returned from database: "];
    SAID_ABOVE.iter().fold(text, |text, said| text.replace(said, ""))
}

/// sqlx ends a message of PostgreSQL with a line number of PostgreSQL's source, which looks like a line of the user's
/// text.
fn without_source_line(text: &str) -> String {
    match text.rsplit_once(" at line ") {
        Some((message, line)) if line.bytes().all(|byte| byte.is_ascii_digit()) => {
            message.to_owned()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the order was not written")]
    struct Outer(#[source] std::num::ParseIntError);

    #[derive(Debug, thiserror::Error)]
    #[error("the server said: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[test]
    fn a_cause_is_printed_once() {
        let server = std::io::Error::other("no such table at line 948");
        let repeated = Repeating(server);
        assert_eq!(Chain(&repeated).to_string(), "the server said: no such table");
        let json = serde_json::from_str::<i32>("x").unwrap_err();
        assert!(Chain(&json).to_string().ends_with("at line 1 column 1"));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the database is not available")]
    struct Away(#[source] Repeated);

    #[derive(Debug, thiserror::Error)]
    #[error("error communicating with database: {0}")]
    struct Repeated(#[source] std::io::Error);

    #[test]
    fn a_cause_does_not_repeat_what_the_error_says() {
        let error = Away(Repeated(std::io::Error::other("no route")));
        assert_eq!(Chain(&error).to_string(), "the database is not available: no route");
    }

    #[test]
    fn causes_follow_the_error_on_the_same_line() {
        let error = Outer("x".parse::<i32>().unwrap_err());
        assert_eq!(
            Chain(&error).to_string(),
            "the order was not written: invalid digit found in string"
        );
    }
}
