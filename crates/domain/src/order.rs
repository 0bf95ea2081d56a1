//! Orders and their status.

use crate::{
    CustomerRef, Lines, Metadata, Money, OrderId, ProductId, Quantity, RequestedLine, named,
};

named! {
    /// The status of an order.
    ///
    /// ```text
    ///    ┌────────replay─────────┐
    ///    ▼                       │
    /// pending ──▶ processing ──▶ failed ──discard──┐
    ///    │  ▲          │ │                         │
    ///    │  └──retry───┘ └─────▶ completed         │
    ///    └──▶ cancelled ◀──────────────────────────┘
    /// ```
    ///
    /// The units of an order return to stock if and only if it is cancelled. A pending order can be
    /// cancelled on request only if the receiver cannot have accepted any attempt
    /// ([`Order::may_be_fulfilled`]). Otherwise an operator decides: this is the arrow `discard` from
    /// `failed` or from `pending`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum OrderStatus {
        /// Accepted and committed; no worker has claimed it.
        Pending = "pending",
        /// A worker holds a lease on it.
        Processing = "processing",
        /// Fulfilled. Final.
        Completed = "completed",
        /// Could not be fulfilled. This state lasts until an operator replays or discards the order.
        Failed = "failed",
        /// Cancelled before it may have been fulfilled, or discarded by an operator; its units have
        /// returned to stock. Final.
        Cancelled = "cancelled",
    }
}

impl OrderStatus {
    /// Whether the status can never change again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }

    /// Whether the status may change to `next`. No other code decides this.
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Processing | Self::Cancelled)
                | (Self::Processing, Self::Completed | Self::Failed | Self::Pending)
                | (Self::Failed, Self::Pending | Self::Cancelled)
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderLine {
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The price of one unit when the order was accepted.
    pub unit_price: Money,
}

/// A change of an order's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The new status.
    pub status: OrderStatus,
    /// The time.
    pub at: jiff::Timestamp,
    /// The reason, if one was given.
    pub detail: Option<String>,
    /// The operator who requested it, if there was one.
    pub by: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    /// Its lines, in the order of the request; at least one.
    pub lines: Vec<OrderLine>,
    pub status: OrderStatus,
    /// The shop's reference to the customer.
    pub customer_ref: Option<CustomerRef>,
    /// Data of the shop that is kept with the order.
    pub metadata: Option<Metadata>,
    /// How often a worker has claimed it.
    pub attempt: i32,
    /// Whether the receiver may have accepted one of these attempts: its outcome is unknown, or it is in
    /// progress.
    pub may_be_fulfilled: bool,
    /// Why it failed, or why its last attempt failed.
    pub failure: Option<String>,
    /// When it was accepted.
    pub created_at: jiff::Timestamp,
    /// When a worker last claimed it.
    pub processing_at: Option<jiff::Timestamp>,
    /// When it reached its current status, if that is completed, failed or cancelled.
    pub finished_at: Option<jiff::Timestamp>,
    /// Changes of its status that the times above do not show, oldest first.
    pub earlier: Vec<Transition>,
}

impl Order {
    /// Its lines, without their prices.
    pub fn requested_lines(&self) -> Lines {
        self.lines
            .iter()
            .map(|line| RequestedLine::from_stock(line.product_id, line.quantity))
            .collect()
    }

    /// All changes of its status, oldest first.
    ///
    /// A change that is both in [`Self::earlier`] and in a time of the row appears once.
    pub fn history(&self) -> Vec<Transition> {
        let plain = |status, at| Transition { status, at, detail: None, by: None };
        let mut history = vec![plain(OrderStatus::Pending, self.created_at)];
        history.extend(self.earlier.iter().cloned());
        history.extend(self.processing_at.map(|at| plain(OrderStatus::Processing, at)));
        let ended = !matches!(self.status, OrderStatus::Pending | OrderStatus::Processing);
        if let Some(at) = self.finished_at.filter(|_| ended) {
            let failed = self.status == OrderStatus::Failed;
            let detail = self.failure.clone().filter(|_| failed);
            history.push(Transition { detail, ..plain(self.status, at) });
        }
        // The sort is stable: the entries of `earlier`, which have reasons, stay before the row's times.
        history.sort_by_key(|step| step.at);
        history.dedup_by(|next, kept| (next.status, next.at) == (kept.status, kept.at));
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_read_back_from_its_word() {
        for status in OrderStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("PENDING".parse::<OrderStatus>().is_err());
    }

    #[test]
    fn a_final_status_does_not_change() {
        for from in OrderStatus::ALL.into_iter().filter(|status| status.is_final()) {
            for to in OrderStatus::ALL {
                assert!(!from.may_become(to), "{from} to {to}");
            }
        }
    }

    #[test]
    fn only_the_documented_transitions_exist() {
        let arrows = OrderStatus::ALL
            .into_iter()
            .flat_map(|from| OrderStatus::ALL.map(|to| (from, to)))
            .filter(|(from, to)| from.may_become(*to))
            .map(|(from, to)| format!("{from}>{to}"))
            .collect::<Vec<_>>();
        assert_eq!(
            arrows,
            [
                "pending>processing",
                "pending>cancelled",
                "processing>pending",
                "processing>completed",
                "processing>failed",
                "failed>pending",
                "failed>cancelled"
            ]
        );
    }

    fn order(status: OrderStatus) -> Order {
        Order {
            id: OrderId(7),
            lines: Vec::new(),
            status,
            customer_ref: None,
            metadata: None,
            attempt: 1,
            may_be_fulfilled: false,
            failure: None,
            created_at: at(0),
            processing_at: None,
            finished_at: None,
            earlier: Vec::new(),
        }
    }

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    fn step(status: OrderStatus, second: i64) -> Transition {
        Transition { status, at: at(second), detail: None, by: None }
    }

    fn told(order: &Order) -> Vec<(OrderStatus, i64)> {
        order.history().iter().map(|step| (step.status, step.at.as_second())).collect()
    }

    #[test]
    fn the_history_of_a_simple_order_follows_from_its_times() {
        use OrderStatus::{Cancelled, Completed, Pending, Processing};

        assert_eq!(told(&order(Pending)), [(Pending, 0)]);
        let done =
            Order { processing_at: Some(at(3)), finished_at: Some(at(5)), ..order(Completed) };
        assert_eq!(told(&done), [(Pending, 0), (Processing, 3), (Completed, 5)]);
        let back = Order { finished_at: Some(at(1)), ..order(Cancelled) };
        assert_eq!(told(&back), [(Pending, 0), (Cancelled, 1)]);
    }

    #[test]
    fn a_retry_and_a_replay_are_each_in_the_history_once_and_in_order() {
        use OrderStatus::{Failed, Pending, Processing};

        let why = Some("the receiver answered 500".to_owned());
        let mut retried = Order {
            // The failed attempt appears here and in the row's own time.
            earlier: vec![
                step(Processing, 2),
                Transition { detail: why.clone(), ..step(Pending, 3) },
            ],
            processing_at: Some(at(2)),
            failure: why.clone(),
            ..order(Pending)
        };
        assert_eq!(told(&retried), [(Pending, 0), (Processing, 2), (Pending, 3)]);
        assert_eq!(retried.history()[2].detail, why);

        retried.status = Failed;
        retried.processing_at = Some(at(6));
        retried.finished_at = Some(at(7));
        let all = [(Pending, 0), (Processing, 2), (Pending, 3), (Processing, 6), (Failed, 7)];
        assert_eq!(told(&retried), all);
        assert_eq!(retried.history()[4].detail, why);

        let by = Some("ada".to_owned());
        retried.earlier.extend([
            step(Processing, 6),
            Transition { detail: why.clone(), ..step(Failed, 7) },
            Transition { by: by.clone(), ..step(Pending, 9) },
        ]);
        retried.status = Pending;
        retried.finished_at = None;
        assert_eq!(told(&retried), [&all[..], &[(Pending, 9)]].concat());
        assert_eq!(retried.history()[5].by, by);
    }
}
