//! The orders that this process has answered lately. After a failover that lost commits they tell which are gone.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use holdfast_domain::OrderId;
use holdfast_store::{Store, StoreError};
use jiff::Timestamp;
use parking_lot::Mutex;

/// Longer than any standby that is promoted may be behind, and than a failover takes.
const KEPT: Duration = Duration::from_mins(5);
/// The most orders that are remembered, 48 bytes each. At a higher rate, they are remembered for a shorter time.
const KEPT_MAX: usize = 131_072;
/// The most orders in one question.
const ASKED_MAX: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct AnsweredOrder {
    id: OrderId,
    /// Distinguishes it from a later order with the same id; `None` if it was answered to a repeated request.
    created_at: Option<Timestamp>,
    answered: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct AnsweredOrders(Mutex<VecDeque<AnsweredOrder>>);

impl AnsweredOrders {
    /// Remembers an order. To be called before its client is answered.
    pub fn remember(&self, id: OrderId, created_at: Option<Timestamp>) {
        let mut orders = self.0.lock();
        while orders.len() >= KEPT_MAX
            || orders.front().is_some_and(|oldest| oldest.answered.elapsed() > KEPT)
        {
            orders.pop_front();
        }
        orders.push_back(AnsweredOrder { id, created_at, answered: Instant::now() });
    }

    /// Forgets the orders that the database does not have, and returns them. Safe to cancel; then the rest is found by the
    /// next call.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn take_missing(&self, store: &Store) -> Result<Vec<OrderId>, StoreError> {
        let orders: Vec<_> =
            self.0.lock().iter().map(|order| (order.id, order.created_at)).collect();
        let mut missing = Vec::new();
        for orders in orders.chunks(ASKED_MAX) {
            missing.extend(store.missing_orders(orders).await?);
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            self.0.lock().retain(|order| missing.binary_search(&order.id).is_err());
        }
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_fixed_number_of_orders_is_remembered() {
        let answered = AnsweredOrders::default();
        for id in 0..=i64::try_from(KEPT_MAX).unwrap() {
            answered.remember(OrderId(id), None);
        }
        assert_eq!(answered.0.lock().len(), KEPT_MAX);
        assert_eq!(answered.0.lock().front().unwrap().id, OrderId(1));
    }
}
