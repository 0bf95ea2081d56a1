//! The orders that this process has answered lately. After a failover that lost commits, they show which orders are
//! lost.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use holdfast_domain::OrderId;
use holdfast_store::{Store, StoreError};
use jiff::Timestamp;
use parking_lot::Mutex;

/// Longer than a failover takes, and longer than a promoted standby may lag.
const KEPT: Duration = Duration::from_mins(5);
/// The most orders that are remembered, 48 bytes each. At a higher rate, they are remembered for a shorter time.
const KEPT_MAX: usize = 131_072;
/// The most orders in one query.
const ASKED_MAX: usize = 4_096;

/// An order, and the time that distinguishes it from another order with the same id.
type OrderKey = (OrderId, Timestamp);

#[derive(Clone, Copy, Debug)]
struct AnsweredOrder {
    key: OrderKey,
    answered: Instant,
    /// Whether the database did not have it at the last look.
    missing: bool,
}

/// What has changed since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OrderChanges {
    /// The database does not have these any more.
    pub lost: Vec<OrderId>,
    /// These were reported as lost, and the database has them.
    pub found: Vec<OrderId>,
}

#[derive(Debug, Default)]
pub(crate) struct AnsweredOrders(Mutex<VecDeque<AnsweredOrder>>);

impl AnsweredOrders {
    /// Remembers an order. Call this before its client is answered.
    pub fn remember(&self, id: OrderId, created_at: Timestamp) {
        let mut orders = self.0.lock();
        while orders.len() >= KEPT_MAX
            || orders.front().is_some_and(|oldest| oldest.answered.elapsed() > KEPT)
        {
            orders.pop_front();
        }
        let key = (id, created_at);
        orders.push_back(AnsweredOrder { key, answered: Instant::now(), missing: false });
    }

    /// Looks up which orders the database has. Safe to cancel: the next call reports what this one would have reported.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn look(&self, store: &Store) -> Result<OrderChanges, StoreError> {
        let keys: Vec<_> = self.0.lock().iter().map(|order| order.key).collect();
        let mut exists = HashMap::new();
        for keys in keys.chunks(ASKED_MAX) {
            exists.extend(keys.iter().copied().zip(store.orders_exist(keys).await?));
        }
        Ok(self.note(&exists))
    }

    fn note(&self, exists: &HashMap<OrderKey, bool>) -> OrderChanges {
        let (mut lost, mut found) = (BTreeSet::new(), BTreeSet::new());
        for order in self.0.lock().iter_mut() {
            let Some(exists) = exists.get(&order.key) else { continue };
            // An order that was answered twice is remembered twice.
            match (order.missing, *exists) {
                (false, false) => lost.insert(order.key),
                (true, true) => found.insert(order.key),
                _ => continue,
            };
            order.missing = !exists;
        }
        let ids = |keys: BTreeSet<OrderKey>| keys.into_iter().map(|(id, _)| id).collect();
        OrderChanges { lost: ids(lost), found: ids(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn no_more_than_a_fixed_number_of_orders_is_remembered() {
        let answered = AnsweredOrders::default();
        for id in 0..=i64::try_from(KEPT_MAX).unwrap() {
            answered.remember(OrderId(id), at(0));
        }
        assert_eq!(answered.0.lock().len(), KEPT_MAX);
        assert_eq!(answered.0.lock().front().unwrap().key, (OrderId(1), at(0)));
    }

    #[test]
    fn each_change_is_told_once_for_each_order_with_an_id() {
        let answered = AnsweredOrders::default();
        let (first, second) = ((OrderId(7), at(1)), (OrderId(7), at(2)));
        for (id, at) in [first, first, second] {
            answered.remember(id, at);
        }
        let only_second = HashMap::from([(first, false), (second, true)]);
        let only_first = HashMap::from([(first, true), (second, false)]);
        let nothing = OrderChanges::default();
        let lost = vec![OrderId(7)];
        let told = answered.note(&only_second);
        assert_eq!(told, OrderChanges { lost: lost.clone(), found: Vec::new() });
        assert_eq!(answered.note(&only_second), nothing);
        let told = answered.note(&only_first);
        assert_eq!(told, OrderChanges { lost: lost.clone(), found: lost.clone() });
        answered.remember(OrderId(8), at(3));
        assert_eq!(answered.note(&only_first), nothing, "it was not looked for");
    }
}
