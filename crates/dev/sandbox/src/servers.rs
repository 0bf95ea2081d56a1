//! `holdfast-sandbox servers`: PostgreSQL and Redis alone, for programs that are started by hand.

use std::process::ExitCode;

use anyhow::bail;
use holdfast_sandbox::{Postgres, PostgresOptions, Redis, RedisOptions};

use crate::signals::Signals;
use crate::terminal::say;

pub(crate) async fn run() -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let started = async {
        let options = PostgresOptions { durable: true, ..PostgresOptions::default() };
        tokio::try_join!(Postgres::start(options), Redis::start(RedisOptions::default()))
    };
    let (postgres, redis) = tokio::select! {
        started = started => started?,
        () = signals.asked_to_stop() => return Ok(ExitCode::SUCCESS),
    };
    say(&format!("DATABASE_URL={}", postgres.url()));
    say(&format!("REDIS_URL={}", redis.url()));
    tokio::select! {
        () = signals.asked_to_stop() => {}
        () = postgres.ended() => bail!("PostgreSQL ended unexpectedly:\n{}", postgres.log_tail(15)),
        () = redis.ended() => bail!("Redis ended unexpectedly:\n{}", redis.log_tail(15)),
    }
    Ok(ExitCode::SUCCESS)
}
