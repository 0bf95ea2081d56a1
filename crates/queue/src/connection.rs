//! The connection that all calls share but the blocking read.
//!
//! redis-rs' manager makes a connection again when it breaks. But when the making fails for another reason than the
//! network (a wrong password, no room for one more client), it keeps that failure and gives it as the answer
//! to every call from then on. Here the manager itself is made anew then, so that a Redis that was mended is
//! used again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redis::{
    Client, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use crate::{QueueError, QueueSettings};

/// A refusal may be that of a command as well, for which a new connection is of no use: not at each.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Connection {
    client: Client,
    config: ConnectionManagerConfig,
    current: Arc<Mutex<Current>>,
}

struct Current {
    manager: ConnectionManager,
    made: Instant,
}

impl Connection {
    /// Does not connect yet. Must be called within a tokio runtime.
    pub fn new(settings: &QueueSettings) -> Result<Self, QueueError> {
        let client = settings.client().map_err(QueueError::Url)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(settings.op_timeout))
            .set_response_timeout(Some(settings.op_timeout))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(500));
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())
            .map_err(QueueError::Url)?;
        let current = Arc::new(Mutex::new(Current { manager, made: Instant::now() }));
        Ok(Self { client, config, current })
    }

    /// The one of now.
    pub fn get(&self) -> ConnectionManager {
        self.current.lock().manager.clone()
    }

    /// A call was refused. What the network did to it is the manager's own business.
    pub fn refused(&self, error: &RedisError) {
        if error.is_io_error() {
            return;
        }
        let mut current = self.current.lock();
        if current.made.elapsed() < RENEW_INTERVAL {
            return;
        }
        let renewed =
            ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone());
        if let Ok(manager) = renewed {
            *current = Current { manager, made: Instant::now() };
        }
    }
}
