//! The queues whose depth is served, and their connections to Redis.
//!
//! A cluster can have only one external metrics API, so one operator may serve the queues of several releases. They are
//! listed in a file ([`mod@file`]). Without a file there is one queue.

pub mod file;
mod served_queue;

use std::{path::PathBuf, sync::Arc};

use holdfast_redis::RedisUrl;
use holdfast_store::Store;
use parking_lot::RwLock;

pub use file::{FileError, QueueEntry};
pub use served_queue::{QueueUnavailable, RedisAccess, ServedQueue};

use crate::selector::Selector;

/// The label `queue` of the queue of orders.
const ORDERS: &str = "orders";

#[derive(Clone, Debug)]
pub enum QueueListSettings {
    One {
        /// The namespace of its HPA.
        namespace: String,
        /// The value of its label `release`.
        release: String,
        redis_url: RedisUrl,
    },
    /// The queues in this file, which is read again when it changes.
    File(PathBuf),
}

/// The unfinished orders of the operator's own release, which are counted in its database.
#[derive(Clone)]
pub struct OwnOrders {
    pub namespace: String,
    pub release: String,
    pub store: Store,
}

impl OwnOrders {
    fn store_of(&self, queue: &QueueEntry) -> Option<Store> {
        let label = |key: &str| queue.labels.get(key).map_or("", String::as_str);
        let own = queue.namespace == self.namespace
            && label("release") == self.release
            && label("queue") == ORDERS;
        own.then(|| self.store.clone())
    }
}

/// The queues. Cheap to clone; all clones share the list.
#[derive(Clone)]
pub struct Queues(Arc<QueueListState>);

struct QueueListState {
    settings: QueueListSettings,
    reach: RedisAccess,
    own: Option<OwnOrders>,
    sources: RwLock<Arc<[Arc<ServedQueue>]>>,
}

impl Queues {
    /// Reads the list. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The file cannot be read, or is invalid.
    pub async fn load(
        settings: QueueListSettings,
        reach: RedisAccess,
        own: Option<OwnOrders>,
    ) -> Result<Self, FileError> {
        let sources = RwLock::new(Arc::default());
        let queues = Self(Arc::new(QueueListState { settings, reach, own, sources }));
        queues.reload().await?;
        Ok(queues)
    }

    /// Reads the list again. Queues that have not changed keep their connections. Returns whether any has changed.
    ///
    /// # Errors
    /// The file cannot be read, or is invalid. The list stays as it was.
    pub async fn reload(&self) -> Result<bool, FileError> {
        let listed = match &self.0.settings {
            QueueListSettings::One { namespace, release, redis_url } => {
                vec![QueueEntry::one(namespace, release, redis_url.clone())]
            }
            QueueListSettings::File(path) => file::read(path).await?,
        };
        let before = self.all();
        let sources: Arc<[Arc<ServedQueue>]> = listed
            .into_iter()
            .map(|listed| {
                let same = before.iter().find(|source| source.is(&listed));
                same.map_or_else(
                    || {
                        let store = self.0.own.as_ref().and_then(|own| own.store_of(&listed));
                        Arc::new(ServedQueue::new(listed, self.0.reach.clone(), store))
                    },
                    Arc::clone,
                )
            })
            .collect();
        let same = before.len() == sources.len()
            && before.iter().zip(&*sources).all(|(before, now)| Arc::ptr_eq(before, now));
        *self.0.sources.write() = sources;
        Ok(!same)
    }

    pub fn all(&self) -> Arc<[Arc<ServedQueue>]> {
        Arc::clone(&self.0.sources.read())
    }

    /// The selected queues of a namespace.
    pub fn picked(&self, namespace: &str, selector: &Selector) -> Vec<Arc<ServedQueue>> {
        self.all()
            .iter()
            .filter(|source| source.namespace() == namespace && selector.matches(source.labels()))
            .cloned()
            .collect()
    }
}
