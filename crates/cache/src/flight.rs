//! One load for all readers that miss the same product at the same time.
//!
//! The leader runs its own loader in its own task, so a loader may borrow, and a cancelled request cancels its query. If a
//! leader is cancelled, dropping its [`Lease`](crate::lease::Lease) tells the followers, and the first of them to wake becomes
//! the next leader.

use std::sync::Arc;

use tokio::sync::watch;

use crate::entry::{LoadError, Tier};
use crate::value::RenderedEntry;

/// How a load ended.
pub(crate) enum LoadEnd<E> {
    Found(Arc<RenderedEntry<E>>, Tier),
    Missing,
    Failed(LoadError),
    /// The leader was cancelled or panicked.
    Abandoned,
}

impl<E> Clone for LoadEnd<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(value, tier) => Self::Found(value.clone(), *tier),
            Self::Missing => Self::Missing,
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Abandoned => Self::Abandoned,
        }
    }
}

/// A load in progress.
pub(crate) struct Flight<E>(watch::Sender<Option<LoadEnd<E>>>);

impl<E> Flight<E> {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Waits for the end. Cancellation safe.
    pub(crate) async fn end(&self) -> LoadEnd<E> {
        match self.0.subscribe().wait_for(Option::is_some).await.as_deref() {
            Ok(Some(end)) => end.clone(),
            // Not reachable while `self` holds the sender.
            _ => LoadEnd::Abandoned,
        }
    }

    pub(crate) fn tell(&self, end: LoadEnd<E>) {
        self.0.send_replace(Some(end));
    }
}
