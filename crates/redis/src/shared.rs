//! One connection for many callers.
//!
//! redis-rs has a `ConnectionManager` for this, but it keeps one address, stays connected to a server that has become a
//! replica, and returns the error of a refused connection (a wrong password, too many clients) for ever.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use redis::{
    Cmd, Pipeline, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};

use crate::{
    ConnectionLimits, RedisServers, ServerConnection,
    leave::{answers_say_leave, must_leave},
};

/// The shortest time between the end of a failed attempt to connect and the next one.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection that its clones share. It is opened at the first call, and again after a failure. A failed call is not
/// retried.
#[derive(Clone)]
pub struct SharedConnection(Arc<SharedState>);

struct SharedState {
    servers: RedisServers,
    limits: ConnectionLimits,
    attempt: Mutex<Attempt>,
}

/// The connection, or the attempt to open it.
#[derive(Default)]
struct Attempt {
    number: u64,
    connecting: Option<Shared<BoxFuture<'static, RedisResult<ServerConnection>>>>,
    failed: Option<Instant>,
}

impl SharedConnection {
    /// Does not connect yet.
    pub fn new(servers: RedisServers, limits: ConnectionLimits) -> Self {
        Self(Arc::new(SharedState { servers, limits, attempt: Mutex::default() }))
    }

    /// Returns the connection, and the number of the attempt that opened it.
    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        loop {
            let (number, connecting) = self.attempt();
            let known = connecting.peek().is_some();
            match connecting.await {
                // Another server has become the primary. It has just been found, so it is not looked up again.
                Ok(made) if known && !self.0.servers.is_current(&made) => {
                    self.forget(number, false);
                }
                Ok(made) => return Ok((number, made.connection)),
                Err(error) => {
                    self.forget(number, true);
                    return Err(error);
                }
            }
        }
    }

    fn attempt(&self) -> (u64, Shared<BoxFuture<'static, RedisResult<ServerConnection>>>) {
        let mut attempt = self.0.attempt.lock();
        if let Some(connecting) = &attempt.connecting {
            return (attempt.number, connecting.clone());
        }
        let (servers, limits) = (self.0.servers.clone(), self.0.limits);
        let pause = attempt.failed.and_then(|failed| PAUSE.checked_sub(failed.elapsed()));
        let connecting = async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            servers.connect(limits).await
        };
        let connecting = connecting.boxed().shared();
        // Callers may stop waiting earlier; the next caller then gets the connection.
        tokio::spawn(connecting.clone().map(drop));
        attempt.number += 1;
        attempt.connecting = Some(connecting.clone());
        (attempt.number, connecting)
    }

    /// Makes the next call connect again, unless another call already does.
    fn forget(&self, number: u64, failed: bool) {
        let mut attempt = self.0.attempt.lock();
        if attempt.number == number {
            attempt.connecting = None;
            attempt.failed = failed.then(Instant::now);
        }
    }
}

/// A call. If its caller stops waiting, the connection is dropped, because the server may hang, and TCP would notice that
/// only after a quarter of an hour.
struct Call<'a> {
    shared: &'a SharedConnection,
    number: u64,
    begun: Instant,
    answered: bool,
}

impl<'a> Call<'a> {
    fn begin(shared: &'a SharedConnection, number: u64) -> Self {
        Self { shared, number, begun: Instant::now(), answered: false }
    }

    fn end(mut self, leave: bool) {
        self.answered = true;
        if leave {
            self.shared.forget(self.number, false);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // The caller's time limit may include the time for connecting.
        if !self.answered && self.begun.elapsed() >= self.shared.0.limits.response / 2 {
            self.shared.forget(self.number, false);
        }
    }
}

impl ConnectionLike for SharedConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        async move {
            let (number, mut connection) = self.connection().await?;
            let call = Call::begin(self, number);
            let answer = connection.req_packed_command(cmd).await;
            call.end(match &answer {
                Ok(answer) => answers_say_leave(std::slice::from_ref(answer)),
                Err(error) => must_leave(error),
            });
            answer
        }
        .boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            let (number, mut connection) = self.connection().await?;
            let call = Call::begin(self, number);
            let answers = connection.req_packed_commands(pipeline, offset, count).await;
            call.end(match &answers {
                Ok(answers) => answers_say_leave(answers),
                Err(error) => must_leave(error),
            });
            answers
        }
        .boxed()
    }

    fn get_db(&self) -> i64 {
        // Only redis-rs's cluster client calls this.
        0
    }
}
