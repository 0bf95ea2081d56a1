//! The process's memory: a bounded map of cells, and whether it may answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::{Cache as Map, EntryAction};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::cell::{CacheMoment, Cell};
use crate::entry::{Entry, Hit, StockChange};
use crate::metrics::CacheMetrics;
use crate::settings::CacheSettings;

/// The size of a cell without its body: the map's entry, the cell and the fields of the value. The texts in the value are
/// counted as a second body.
const CELL_BYTES: u64 = 512;

/// A cell in the map, with its weight.
struct Slot<E> {
    cell: Arc<Cell<E>>,
    bytes: u64,
}

impl<E> Clone for Slot<E> {
    fn clone(&self) -> Self {
        Self { cell: self.cell.clone(), bytes: self.bytes }
    }
}

#[derive(Clone)]
struct ByBytes;

impl<E> Weighter<i64, Slot<E>> for ByBytes {
    fn weight(&self, _id: &i64, slot: &Slot<E>) -> u64 {
        slot.bytes
    }
}

/// The map's policy (similar to S3-FIFO) keeps a scan of cold products from evicting the hot ones.
pub(crate) struct L1<E> {
    map: Map<i64, Slot<E>, ByBytes>,
    ttl: Duration,
    max_age: Duration,
    /// Products that were read since they were last confirmed.
    read: Mutex<Vec<i64>>,
    origin: Instant,
    /// Until when the values are trusted, in milliseconds after `origin`.
    armed_until: AtomicU64,
    /// The number of interruptions of the subscription. Values from before the last one are void.
    generation: AtomicU64,
    metrics: Arc<CacheMetrics>,
}

impl<E: Entry> L1<E> {
    pub(crate) fn new(settings: &CacheSettings, metrics: Arc<CacheMetrics>) -> Self {
        let bytes = settings.l1_bytes;
        let items = usize::try_from(bytes / (2 * CELL_BYTES)).unwrap_or(usize::MAX).max(1);
        let map = match OptionsBuilder::new()
            .estimated_items_capacity(items)
            .weight_capacity(bytes)
            .build()
        {
            Ok(options) => {
                Map::with_options(options, ByBytes, DefaultHashBuilder::default(), <_>::default())
            }
            // Does not happen, because both numbers are set.
            Err(_) => Map::with_weighter(items, bytes, ByBytes),
        };
        Self {
            map,
            ttl: settings.ttl,
            max_age: settings.max_age,
            read: Mutex::default(),
            origin: Instant::now(),
            armed_until: AtomicU64::new(0),
            generation: AtomicU64::new(1),
            metrics,
        }
    }

    pub(crate) fn moment(&self) -> CacheMoment {
        CacheMoment { now: Instant::now(), generation: self.generation.load(Ordering::Acquire) }
    }

    /// Milliseconds since this was created: the clock of [`arm`](Self::arm).
    pub(crate) fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn is_armed(&self, now: Instant) -> bool {
        self.millis(now) < self.armed_until.load(Ordering::Acquire)
    }

    /// The subscription was alive at `sent` (in [`millis`](Self::millis)): all messages from before that have been applied. The
    /// time of sending counts, not the arrival, so that a delayed tick proves no more than it should.
    pub(crate) fn arm(&self, sent: u64, armed_for: Duration) {
        let now = self.millis(Instant::now());
        let until = sent.saturating_add(u64::try_from(armed_for.as_millis()).unwrap_or(u64::MAX));
        if until <= now {
            return;
        }
        if self.armed_until.load(Ordering::Acquire) <= now {
            // The proof had expired in the meantime: writers may have committed without reaching this replica.
            self.reset();
        }
        self.armed_until.store(until, Ordering::Release);
    }

    /// The values are no longer trusted.
    pub(crate) fn disarm(&self) {
        self.armed_until.store(0, Ordering::Release);
        self.reset();
    }

    /// Forgets all values.
    pub(crate) fn reset(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        // The new generation voids the values; this frees their memory. Loads in progress keep their cells, which no
        // other reader finds.
        self.map.clear();
        self.metrics.resets.inc();
    }

    pub(crate) fn read(&self, id: i64) -> Option<Hit> {
        let moment = self.moment();
        if !self.is_armed(moment.now) {
            return None;
        }
        let cell = self.map.get(&id)?.cell;
        let hit = cell.read(moment);
        self.note(id, &cell, hit.is_some());
        hit
    }

    /// Remembers that a product is being read, so that it is confirmed.
    fn note(&self, id: i64, cell: &Cell<E>, read: bool) {
        if read && cell.note_read() {
            self.read.lock().push(id);
        }
    }

    /// The products that were read since the last call.
    pub(crate) fn take_read(&self) -> Vec<i64> {
        let ids = std::mem::take(&mut *self.read.lock());
        for id in &ids {
            if let Some(slot) = self.map.peek(id) {
                slot.cell.forget_read();
            }
        }
        ids
    }

    /// The database had this version of a product, or no such product, when it was `asked` or later. Returns whether
    /// the value here is not older than that, and so is valid.
    pub(crate) fn confirm(&self, id: i64, version: Option<i64>, asked: Instant) -> bool {
        self.map
            .peek(&id)
            .is_some_and(|slot| slot.cell.confirm(version, asked + self.max_age, asked + self.ttl))
    }

    pub(crate) fn stock(&self, id: i64) -> Option<(i64, i64)> {
        let moment = self.moment();
        if !self.is_armed(moment.now) {
            return None;
        }
        let cell = self.map.peek(&id)?.cell;
        let stock = cell.stock(moment);
        self.note(id, &cell, stock.is_some());
        stock
    }

    /// The product's cell, created if necessary.
    pub(crate) fn cell(&self, id: i64, generation: u64) -> Arc<Cell<E>> {
        let made = self.map.get_or_insert_with(&id, || {
            let cell = Arc::new(Cell::new(generation));
            Ok::<_, std::convert::Infallible>(Slot { cell, bytes: CELL_BYTES })
        });
        match made {
            Ok(slot) => slot.cell,
            Err(never) => match never {},
        }
    }

    /// Updates the weight of a cell that now has this body.
    pub(crate) fn weigh(&self, id: i64, cell: &Arc<Cell<E>>, body_bytes: usize) {
        let bytes = CELL_BYTES + 2 * body_bytes as u64;
        // Neither waits nor adds an entry.
        let _ = self.map.entry(&id, Some(Duration::ZERO), |_, slot| {
            if Arc::ptr_eq(&slot.cell, cell) {
                slot.bytes = bytes;
            }
            EntryAction::Retain(())
        });
    }

    /// Removes the cell of a product that does not exist.
    pub(crate) fn forget(&self, id: i64, cell: &Arc<Cell<E>>) {
        self.map.remove_if(&id, |slot| Arc::ptr_eq(&slot.cell, cell));
    }

    /// Another replica is about to commit this version.
    pub(crate) fn raise(&self, id: i64, version: i64) {
        if let Some(slot) = self.map.peek(&id) {
            slot.cell.raise(version, Instant::now() + self.ttl);
        }
    }

    /// A replica committed this version.
    pub(crate) fn change(&self, id: i64, version: i64) {
        if let Some(slot) = self.map.peek(&id) {
            slot.cell.change(version, Instant::now() + self.ttl);
        }
    }

    /// This replica may have committed this version.
    pub(crate) fn suspend(&self, id: i64, version: i64) {
        if let Some(slot) = self.map.peek(&id) {
            slot.cell.suspend(version, Instant::now() + self.ttl);
        }
    }

    /// This replica committed a stock change. It is remembered even if the product has not been read, because the next orders
    /// need its stock.
    pub(crate) fn restock(&self, change: &StockChange) {
        let moment = self.moment();
        let cell = self.cell(change.id, moment.generation);
        if cell.restock(change, moment, self.ttl, self.max_age) {
            self.metrics.patches.inc();
        }
    }

    /// Another replica committed a stock change.
    pub(crate) fn restock_known(&self, change: &StockChange) {
        if let Some(slot) = self.map.peek(&change.id)
            && slot.cell.restock(change, self.moment(), self.ttl, self.max_age)
        {
            self.metrics.patches.inc();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.map.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::tests::CellItem;

    fn metrics() -> Arc<CacheMetrics> {
        Arc::new(CacheMetrics::new(&holdfast_telemetry::Registry::default()).unwrap())
    }

    #[test]
    fn an_interruption_of_the_subscription_invalidates_earlier_values() {
        let l1 = L1::<CellItem>::new(&CacheSettings::new(""), metrics());
        let arm = |long| l1.arm(l1.millis(Instant::now()), Duration::from_millis(long));
        arm(60_000);
        let generation = l1.moment().generation;
        arm(50);
        assert_eq!(l1.moment().generation, generation, "proved again in time");
        while l1.is_armed(Instant::now()) {
            std::thread::yield_now();
        }
        arm(60_000);
        assert!(l1.is_armed(Instant::now()));
        assert_eq!(l1.moment().generation, generation + 1);
    }

    #[test]
    fn a_slow_tick_does_not_extend_the_trust() {
        let l1 = L1::<CellItem>::new(&CacheSettings::new(""), metrics());
        l1.arm(0, Duration::ZERO);
        assert!(!l1.is_armed(Instant::now()));
    }
}
