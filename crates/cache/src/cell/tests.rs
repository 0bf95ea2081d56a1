use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Begin, CacheMoment, Cell, KeepCondition, RenderedEntry};
use crate::entry::{Entry, StockChange};
use crate::flight::Flight;

const TTL: Duration = Duration::from_mins(5);

#[derive(Clone)]
pub(crate) struct CellItem(i64, i64);

impl Entry for CellItem {
    fn version(&self) -> i64 {
        self.0
    }
    fn stock(&self) -> i64 {
        self.1
    }
    fn set_stock(&mut self, version: i64, stock: i64) {
        *self = Self(version, stock);
    }
    fn encode(&self) -> Bytes {
        format!("{}:{}", self.0, self.1).into()
    }
    fn decode(_: i64, _: &Bytes) -> Option<Self> {
        None
    }
}

fn moment() -> CacheMoment {
    CacheMoment { now: Instant::now(), generation: 1 }
}

fn later(after: Duration) -> CacheMoment {
    CacheMoment { now: Instant::now() + after, generation: 1 }
}

fn lead(cell: &Cell<CellItem>) -> Arc<Flight<CellItem>> {
    match cell.begin(moment(), true) {
        Begin::Lead(flight) => flight,
        Begin::Hit(_) | Begin::Follow(..) => panic!("nothing to load"),
    }
}

/// Finishes a load. Returns whether its value was kept.
fn land(cell: &Cell<CellItem>, flight: &Arc<Flight<CellItem>>, version: i64, floor: i64) -> bool {
    let keep = KeepCondition { since: moment(), floor, until: Instant::now() + TTL };
    cell.finish(flight, RenderedEntry::new(CellItem(version, 10), None), Some(keep)).1
}

fn holding(version: i64) -> Cell<CellItem> {
    let cell = Cell::new(1);
    assert!(land(&cell, &lead(&cell), version, 0));
    cell
}

fn restock(cell: &Cell<CellItem>, from: i64, to: i64, stock: i64) -> bool {
    let change = StockChange { id: 1, previous_version: from, version: to, stock };
    cell.restock(&change, moment(), TTL, TTL)
}

fn body(cell: &Cell<CellItem>) -> Option<Bytes> {
    cell.read(moment()).map(|hit| hit.body)
}

fn soon() -> Instant {
    Instant::now() + TTL
}

#[test]
fn a_fence_suspends_older_values_and_a_stock_message_restores_them() {
    let cell = holding(5);
    assert_eq!(body(&cell).unwrap(), "5:10");
    cell.raise(5, soon());
    assert!(body(&cell).is_some(), "not older");
    cell.raise(6, soon());
    assert!(body(&cell).is_none() && cell.stock(moment()).is_none());
    assert!(restock(&cell, 5, 6, 9));
    assert_eq!(body(&cell).unwrap(), "6:9");
    assert_eq!(cell.stock(moment()), Some((6, 9)));
}

#[test]
fn a_gap_in_the_versions_is_not_patched_over() {
    let cell = holding(5);
    assert!(!restock(&cell, 6, 7, 8), "6 may have been a change of the name");
    assert!(body(&cell).is_none());
    assert_eq!(cell.stock(moment()), Some((7, 8)), "but the stock is known");
    assert!(restock(&cell, 5, 6, 9), "6 changed the stock: the late message closes the gap");
    assert_eq!(body(&cell).unwrap(), "7:8");
}

#[test]
fn changes_from_before_another_change_do_not_patch_later_values() {
    let cell = holding(5);
    assert!(restock(&cell, 5, 6, 9));
    cell.change(7, soon());
    assert!(body(&cell).is_none());
    assert!(!restock(&cell, 7, 8, 8));
    assert!(!land(&cell, &lead(&cell), 6, 0), "a value from before the change");
    assert!(land(&cell, &lead(&cell), 7, 0));
    assert_eq!(body(&cell).unwrap(), "8:8");
}

#[test]
fn repeated_or_late_messages_change_nothing() {
    let cell = holding(5);
    assert!(restock(&cell, 5, 8, 7));
    assert!(!restock(&cell, 5, 6, 9) && !restock(&cell, 5, 8, 7));
    cell.change(4, soon());
    cell.raise(3, soon());
    assert_eq!(body(&cell).unwrap(), "8:7");
}

#[test]
fn a_load_is_patched_with_changes_committed_in_the_meantime() {
    let cell = Cell::new(1);
    let flight = lead(&cell);
    restock(&cell, 5, 6, 9);
    restock(&cell, 6, 7, 8);
    assert!(land(&cell, &flight, 5, 7), "kept only because it is patched");
    assert_eq!(body(&cell).unwrap(), "7:8");
}

#[test]
fn a_load_below_a_fence_is_not_kept() {
    let cell = Cell::new(1);
    let flight = lead(&cell);
    assert!(!land(&cell, &flight, 5, 6), "the fence in Redis");
    let flight = lead(&cell);
    cell.raise(6, soon());
    assert!(!land(&cell, &flight, 5, 0), "a fence that was raised in the meantime");
    let flight = lead(&cell);
    assert!(land(&cell, &flight, 6, 6));
}

#[test]
fn a_load_is_not_kept_across_a_break_in_the_subscription() {
    let cell = Cell::new(1);
    let flight = lead(&cell);
    let next = CacheMoment { generation: 2, ..moment() };
    assert!(matches!(cell.begin(next, true), Begin::Follow(_, 0)));
    assert!(!land(&cell, &flight, 5, 0));
    assert!(cell.read(next).is_none());
    // A value that was kept before the break is invalid, too.
    let cell = holding(5);
    assert!(cell.read(next).is_none() && cell.stock(next).is_none());
    assert!(matches!(cell.begin(next, true), Begin::Lead(_)));
}

#[test]
fn a_newer_value_is_not_replaced_by_an_older_one() {
    let cell = holding(5);
    cell.raise(6, soon());
    let flight = lead(&cell);
    assert!(land(&cell, &flight, 6, 0));
    assert!(!land(&cell, &flight, 5, 0));
    assert_eq!(body(&cell).unwrap(), "6:10");
}

#[test]
fn a_read_after_a_commit_gets_at_least_its_version() {
    let cell = holding(5);
    cell.raise(6, soon());
    let _flight = lead(&cell);
    assert!(matches!(cell.begin(moment(), true), Begin::Follow(_, 0)), "not committed yet");
    cell.change(6, soon());
    assert!(matches!(cell.begin(moment(), true), Begin::Follow(_, 6)));
}

#[test]
fn an_unknown_outcome_is_not_a_commit() {
    let cell = Cell::new(1);
    let before = lead(&cell);
    cell.suspend(6, soon());
    let after = lead(&cell);
    assert!(!Arc::ptr_eq(&before, &after), "a later reader loads again");
    assert!(!land(&cell, &before, 5, 0));
    assert!(
        matches!(cell.begin(moment(), true), Begin::Follow(_, 0)),
        "either version is accepted"
    );
    assert!(!land(&cell, &after, 5, 0), "but the old value is not kept");
    assert_eq!(cell.floor(Instant::now()), 6);
    assert_eq!(cell.floor(later(TTL + TTL).now), 0, "a fence of a failed transaction expires");
}

#[test]
fn a_value_expires_although_it_is_patched_continuously() {
    let cell = holding(5);
    assert!(restock(&cell, 5, 6, 9));
    assert!(cell.read(later(Duration::from_secs(299))).is_some());
    assert!(cell.read(later(TTL + Duration::from_secs(1))).is_none());
}

#[test]
fn an_abandoned_load_allows_the_next_one_and_an_empty_cell_is_removed() {
    let cell = Cell::new(1);
    let flight = lead(&cell);
    assert!(matches!(cell.begin(moment(), true), Begin::Follow(..)));
    assert!(cell.abandon(&flight));
    let next = lead(&cell);
    assert!(!Arc::ptr_eq(&flight, &next));
    cell.abandon(&flight);
    assert!(
        matches!(cell.begin(moment(), true), Begin::Follow(..)),
        "an old flight does not end the new one"
    );
    cell.raise(2, soon());
    assert!(!cell.abandon(&next), "a fence is worth remembering");
}

#[test]
fn confirmed_values_are_still_served_and_outdated_ones_are_not() {
    let cell = Cell::new(1);
    let keep = KeepCondition { since: moment(), floor: 0, until: Instant::now() };
    cell.finish(&lead(&cell), RenderedEntry::new(CellItem(5, 10), None), Some(keep));
    assert!(body(&cell).is_none(), "too old");
    cell.confirm(Some(5), soon(), soon());
    assert!(body(&cell).is_some());
    cell.confirm(Some(4), Instant::now(), soon());
    assert!(body(&cell).is_some(), "the question was older than the value");
    cell.confirm(Some(6), soon(), soon());
    assert!(body(&cell).is_none() && cell.stock(moment()).is_none());
    restock(&cell, 5, 6, 9);
    assert_eq!(body(&cell).unwrap(), "6:9", "the message about the change came after all");
    cell.confirm(None, soon(), soon());
    assert!(body(&cell).is_none(), "the product is no longer sold");
}

#[test]
fn a_read_is_recorded_once_until_the_database_has_been_asked() {
    let cell = holding(5);
    assert!(cell.note_read() && !cell.note_read());
    cell.forget_read();
    assert!(cell.note_read());
}
