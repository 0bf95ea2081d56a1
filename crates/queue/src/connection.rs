//! The connection that all calls except the blocking read share.
//!
//! redis-rs's manager connects again when a connection breaks. But if connecting fails for a reason other than the network (a wrong
//! password, too many clients), it returns that error for every later call. In this case the manager itself is replaced here, so
//! that Redis is used again when the cause has been fixed.

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

/// The least time between two replacements. An error may also come from a command, and then a new connection does not help.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct QueueConnection {
    client: Client,
    config: ConnectionManagerConfig,
    current: Arc<Mutex<Current>>,
}

struct Current {
    manager: ConnectionManager,
    made: Instant,
}

impl QueueConnection {
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

    /// The current connection.
    pub fn get(&self) -> ConnectionManager {
        self.current.lock().manager.clone()
    }

    /// A call failed. The manager itself handles network errors.
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
