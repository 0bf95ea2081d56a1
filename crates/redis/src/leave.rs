//! The errors after which a connection must be replaced, although its server may still answer.

use redis::{RedisError, Value};

/// Error codes of a server that does not accept writes, or no longer does. Another server may accept them.
const CODES: [&str; 5] = ["READONLY", "MASTERDOWN", "NOREPLICAS", "MOVED", "CLUSTERDOWN"];

/// Whether this error requires a new connection: the connection is broken, or its server does not accept writes.
pub fn must_leave(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.code().is_some_and(|code| CODES.contains(&code))
}

/// The same for the answers of a pipeline.
pub(crate) fn answers_say_leave(answers: &[Value]) -> bool {
    answers.iter().any(|answer| match answer {
        Value::ServerError(error) => CODES.contains(&error.code()),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use redis::ServerErrorKind;

    use super::*;

    #[test]
    fn a_read_only_server_is_left_and_one_that_refuses_a_command_is_not() {
        let read_only = RedisError::from((ServerErrorKind::ReadOnly.into(), "replica"));
        assert!(must_leave(&read_only));
        let wrong = RedisError::from((ServerErrorKind::ResponseError.into(), "wrong type"));
        assert!(!must_leave(&wrong));
    }
}
