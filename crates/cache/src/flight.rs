//! One load for all that miss the same product at the same time.
//!
//! The leader runs its own loader in its own task, so a loader may borrow and a cancelled request
//! cancels its query. A leader that goes away before it has an answer says so (by the drop of its
//! [`Lease`]), and the first of its followers to wake becomes the next leader.

use std::sync::Arc;

use tokio::sync::watch;

use crate::cell::{Cell, Keep, Value};
use crate::entry::{Entry, LoadError, Tier};

/// How a load ended.
pub(crate) enum Outcome<E> {
    Found(Arc<Value<E>>, Tier),
    Missing,
    Failed(LoadError),
    /// The leader was cancelled or panicked.
    Abandoned,
}

impl<E> Clone for Outcome<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(value, tier) => Self::Found(value.clone(), *tier),
            Self::Missing => Self::Missing,
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Abandoned => Self::Abandoned,
        }
    }
}

/// A load under way.
pub(crate) struct Flight<E>(watch::Sender<Option<Outcome<E>>>);

impl<E> Flight<E> {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Waits for the end. Cancellation safe.
    pub(crate) async fn outcome(&self) -> Outcome<E> {
        match self.0.subscribe().wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // Not reachable while `self` holds the sender.
            _ => Outcome::Abandoned,
        }
    }
}

/// The leader's duty to end its flight: dropped without an end, it tells the followers.
pub(crate) struct Lease<E: Entry> {
    cell: Arc<Cell<E>>,
    flight: Arc<Flight<E>>,
    ended: bool,
}

impl<E: Entry> Lease<E> {
    pub(crate) fn new(cell: Arc<Cell<E>>, flight: Arc<Flight<E>>) -> Self {
        Self { cell, flight, ended: false }
    }

    /// Ends the flight with a value; see [`Cell::finish`].
    pub(crate) fn found(
        mut self,
        value: Value<E>,
        tier: Tier,
        keep: Option<Keep>,
    ) -> (Arc<Value<E>>, bool) {
        let (value, kept) = self.cell.finish(&self.flight, value, keep);
        self.tell(Outcome::Found(value.clone(), tier));
        (value, kept)
    }

    /// Ends the flight without a value. True if the cell is of no further use.
    pub(crate) fn without(mut self, outcome: Outcome<E>) -> bool {
        let vacant = self.cell.abandon(&self.flight);
        self.tell(outcome);
        vacant
    }

    fn tell(&mut self, outcome: Outcome<E>) {
        self.ended = true;
        self.flight.0.send_replace(Some(outcome));
    }
}

impl<E: Entry> Drop for Lease<E> {
    fn drop(&mut self) {
        if !self.ended {
            self.cell.abandon(&self.flight);
            self.tell(Outcome::Abandoned);
        }
    }
}
