//! Asks a Sentinel which server is the primary.

use std::collections::HashMap;

use redis::{ErrorKind, RedisError, RedisResult, Value, aio::MultiplexedConnection};

use crate::{primary::PrimaryAnswer, url::HostPort};

/// Asks for the primary of a service.
pub(crate) async fn primary(
    connection: &mut MultiplexedConnection,
    service: &str,
) -> RedisResult<PrimaryAnswer> {
    let mut questions = redis::pipe();
    // During a failover, only this command names the new primary.
    questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    questions.cmd("SENTINEL").arg("MASTER").arg(service);
    questions.ignore_errors();
    let answers: Vec<RedisResult<Value>> = questions.query_async(connection).await?;
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
    let address = next().map_err(explained)?;
    let Some((host, port)) = redis::from_redis_value::<Option<(String, u16)>>(address)? else {
        return Err((ErrorKind::Client, "a Sentinel does not watch the service of the URL").into());
    };
    // Some users may not run this command. Then all answers have the same epoch.
    let state: HashMap<String, String> =
        next().ok().and_then(|state| redis::from_redis_value(state).ok()).unwrap_or_default();
    let epoch = state.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    Ok(PrimaryAnswer { address: HostPort { host, port }, epoch })
}

fn explained(error: RedisError) -> RedisError {
    match error.code() {
        Some("NOAUTH") => (
            ErrorKind::AuthenticationFailed,
            "a Sentinel requires a password: add ?sentinel_password=… to the URL",
        )
            .into(),
        Some("ERR") => (ErrorKind::Client, "a host of redis+sentinel:// is not a Sentinel").into(),
        _ => error,
    }
}
