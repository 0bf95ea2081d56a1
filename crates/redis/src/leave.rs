//! After which errors a connection is useless, although it may still answer.

use redis::{RedisError, Value};

/// Codes of a server that does not, or does no longer, take writes. Another server may take them.
const CODES: [&str; 5] = ["READONLY", "MASTERDOWN", "NOREPLICAS", "MOVED", "CLUSTERDOWN"];

/// Whether a new connection has to be made after this error: the connection is broken, or its server is not the one
/// that takes writes.
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
    fn a_server_that_takes_no_writes_is_left_and_one_that_refuses_a_command_is_not() {
        let read_only = RedisError::from((ServerErrorKind::ReadOnly.into(), "replica"));
        assert!(must_leave(&read_only));
        let wrong = RedisError::from((ServerErrorKind::ResponseError.into(), "wrong type"));
        assert!(!must_leave(&wrong));
    }
}
