//! The leader of a load, see [`crate::flight`].

use std::sync::Arc;

use crate::cell::{Cell, KeepCondition};
use crate::entry::{Entry, Tier};
use crate::flight::{Flight, LoadEnd};
use crate::value::RenderedEntry;

/// The leader's obligation to end its flight. Dropping it without an end tells the followers.
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
        value: RenderedEntry<E>,
        tier: Tier,
        keep: Option<KeepCondition>,
    ) -> (Arc<RenderedEntry<E>>, bool) {
        let (value, kept) = self.cell.finish(&self.flight, value, keep);
        self.tell(LoadEnd::Found(value.clone(), tier));
        (value, kept)
    }

    /// Ends the flight without a value. Returns whether the cell knows nothing and can be removed.
    pub(crate) fn without(mut self, end: LoadEnd<E>) -> bool {
        let vacant = self.cell.abandon(&self.flight);
        self.tell(end);
        vacant
    }

    fn tell(&mut self, end: LoadEnd<E>) {
        self.ended = true;
        self.flight.tell(end);
    }
}

impl<E: Entry> Drop for Lease<E> {
    fn drop(&mut self) {
        if !self.ended {
            self.cell.abandon(&self.flight);
            self.tell(LoadEnd::Abandoned);
        }
    }
}
