//! A limit of the memory for requests and answers, over all connections.
//!
//! A limit for each connection does not bound ten thousand connections. Therefore everything that a client can make large
//! is charged to a budget before it is stored, and what does not fit is answered with 503. A small part of each connection
//! is not charged, so that slow clients that use up a budget cannot block small requests. The limit of connections bounds
//! that part.

use std::sync::OnceLock;

use bytes::Bytes;
use holdfast_telemetry::metrics::IntCounter;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A number of bytes for all connections together.
#[derive(Debug)]
pub struct ByteBudget {
    limit: usize,
    left: Semaphore,
    refused: OnceLock<IntCounter>,
}

impl ByteBudget {
    /// A budget that is never freed.
    pub fn leak(limit: usize) -> &'static Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Box::leak(Box::new(Self { limit, left: Semaphore::new(limit), refused: OnceLock::new() }))
    }

    /// Counts refusals in this counter. Only the first call has an effect.
    pub fn count_refusals(&self, refused: &IntCounter) {
        let _ = self.refused.set(refused.clone());
    }

    /// The number of bytes that are charged.
    pub fn used(&self) -> usize {
        self.limit.saturating_sub(self.left.available_permits())
    }

    /// An empty charge.
    pub fn charge(&'static self) -> Charge {
        Charge { budget: self, bytes: 0 }
    }

    /// Waits until this many bytes are available. Waiters are served in order, and before callers that do not wait. Safe to
    /// cancel.
    ///
    /// # Errors
    /// The budget is smaller than that.
    pub async fn wait_for(&'static self, bytes: usize) -> Result<Charge, BudgetSpent> {
        let asked = u32::try_from(bytes).ok().filter(|_| bytes <= self.limit);
        let permit = self.left.acquire_many(asked.ok_or(BudgetSpent)?).await;
        // The semaphore is never closed.
        permit.map_err(|_| BudgetSpent)?.forget();
        Ok(Charge { budget: self, bytes })
    }

    fn take(&self, bytes: usize) -> Result<(), BudgetSpent> {
        let permits = u32::try_from(bytes).ok();
        if let Some(permit) = permits.and_then(|it| self.left.try_acquire_many(it).ok()) {
            SemaphorePermit::forget(permit);
            return Ok(());
        }
        if let Some(refused) = self.refused.get() {
            refused.inc();
        }
        Err(BudgetSpent)
    }
}

/// The budget does not have this many bytes left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes of requests and answers are in memory")]
pub struct BudgetSpent;

/// Bytes of a budget, which are returned on drop.
#[derive(Debug)]
pub struct Charge {
    budget: &'static ByteBudget,
    bytes: usize,
}

impl Charge {
    /// Sets the charge to this many bytes.
    ///
    /// # Errors
    /// The budget does not have enough bytes; the charge does not change.
    pub fn resize(&mut self, bytes: usize) -> Result<(), BudgetSpent> {
        if bytes > self.bytes {
            self.budget.take(bytes - self.bytes)?;
        } else if bytes < self.bytes {
            self.budget.left.add_permits(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Keeps the charge until all parts of `bytes` are dropped.
    pub fn held_by(self, bytes: Bytes) -> Bytes {
        if self.bytes == 0 {
            bytes
        } else {
            Bytes::from_owner(ChargedBytes { bytes, _charge: self })
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.left.add_permits(self.bytes);
        }
    }
}

struct ChargedBytes {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for ChargedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_do_not_exceed_the_budget() {
        let budget = ByteBudget::leak(10);
        let (mut one, mut two) = (budget.charge(), budget.charge());
        assert_eq!(one.resize(6), Ok(()));
        assert_eq!(two.resize(5), Err(BudgetSpent));
        assert_eq!(two.resize(4), Ok(()));
        assert_eq!(budget.used(), 10);
        assert_eq!(one.resize(2), Ok(()));
        assert_eq!(two.resize(usize::MAX), Err(BudgetSpent));
        assert_eq!(budget.used(), 6);
        drop(two);
        assert_eq!(budget.used(), 2);
        drop(one);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_waiting_request_gets_bytes_that_others_return() {
        let budget = ByteBudget::leak(10);
        let mut first = budget.wait_for(8).await.unwrap();
        let mut second = std::pin::pin!(budget.wait_for(8));
        assert!(futures::poll!(second.as_mut()).is_pending());
        first.resize(2).unwrap();
        let second = second.await.unwrap();
        assert_eq!(budget.used(), 10);
        drop((first, second));
        assert_eq!(budget.used(), 0);
        assert!(budget.wait_for(11).await.is_err());
    }

    #[test]
    fn refusals_of_the_budget_are_counted() {
        let budget = ByteBudget::leak(10);
        let refused = IntCounter::new("refused", "test").unwrap();
        budget.count_refusals(&refused);
        let mut charge = budget.charge();
        charge.resize(10).unwrap();
        charge.resize(11).unwrap_err();
        budget.charge().resize(1).unwrap_err();
        assert_eq!(refused.get(), 2);
    }

    #[test]
    fn a_charge_lasts_as_long_as_the_bytes() {
        let budget = ByteBudget::leak(10);
        let mut charge = budget.charge();
        charge.resize(5).unwrap();
        let bytes = charge.held_by(Bytes::from_static(b"hello"));
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((&part[..], budget.used()), (&b"el"[..], 5));
        drop(part);
        assert_eq!(budget.used(), 0);
    }
}
