//! The charge of a connection to the budget of requests.

use crate::byte_budget::{BudgetSpent, ByteBudget, Charge};

/// The size up to which waiting bytes, or a request, are not charged.
const FREE_BYTES: usize = 4 * 1024;
/// The memory for each byte of a request until it is answered: hyper's buffer, and the parsed request.
const COPIES: usize = 2;
/// The most bytes of a body that are charged here. hyper passes on a longer body in parts, and its receiver charges it.
const BODY_BYTES: usize = 16 * 1024;

/// The charge of a connection: for the bytes that wait for hyper, and for the request that hyper has, until it is answered.
pub(super) struct RequestCharge {
    charge: Charge,
    waiting: usize,
    head: usize,
    body: usize,
}

impl RequestCharge {
    pub fn new(budget: &'static ByteBudget) -> Self {
        Self { charge: budget.charge(), waiting: 0, head: 0, body: 0 }
    }

    /// Charges this many bytes that wait for hyper.
    ///
    /// # Errors
    /// The budget has no room for them.
    pub fn wait(&mut self, bytes: usize) -> Result<(), BudgetSpent> {
        self.waiting = bytes;
        self.update()
    }

    /// Charges a request that hyper gets, with a head of this size and this many bytes of its body; `rest` bytes after
    /// it wait.
    ///
    /// # Errors
    /// The budget has no room for it.
    pub fn begin(&mut self, head: usize, body: usize, rest: usize) -> Result<(), BudgetSpent> {
        (self.waiting, self.head, self.body) = (rest, head, body.min(BODY_BYTES));
        self.update()
    }

    /// Charges this many bytes of the body that hyper gets.
    ///
    /// # Errors
    /// The budget has no room for them.
    pub fn add_body(&mut self, bytes: usize) -> Result<(), BudgetSpent> {
        self.body = self.body.saturating_add(bytes).min(BODY_BYTES);
        self.update()
    }

    /// Ends the charge of a request that is answered.
    pub fn end(&mut self) {
        (self.head, self.body) = (0, 0);
        // This cannot fail, because the charge does not grow.
        let _ = self.update();
    }

    fn update(&mut self) -> Result<(), BudgetSpent> {
        let waiting = self.waiting.saturating_sub(FREE_BYTES);
        let request = (self.head + self.body).saturating_sub(FREE_BYTES);
        self.charge.resize(waiting + COPIES * request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_charged_until_it_is_answered() {
        let budget = ByteBudget::leak(64 * 1024);
        let mut charge = RequestCharge::new(budget);
        charge.begin(2 * 1024, 1024, 0).unwrap();
        charge.add_body(1024).unwrap();
        assert_eq!(budget.used(), 0, "most requests are small");
        charge.end();
        charge.begin(8 * 1024, 0, 0).unwrap();
        assert_eq!(budget.used(), 8 * 1024);
        charge.add_body(1024).unwrap();
        assert_eq!(budget.used(), 10 * 1024);
        charge.add_body(1 << 20).unwrap();
        assert_eq!(budget.used(), 40 * 1024, "the rest is charged by its receiver");
        charge.wait(8 * 1024).unwrap();
        assert_eq!(budget.used(), 44 * 1024);
        let mut other = RequestCharge::new(budget);
        assert!(other.begin(16 * 1024, 0, 0).is_err());
        assert!(other.begin(2 * 1024, 2 * 1024, 0).is_ok(), "small requests are not affected");
        charge.end();
        assert_eq!(budget.used(), 4 * 1024, "the next request waits");
        drop(charge);
        assert_eq!(budget.used(), 0);
    }
}
