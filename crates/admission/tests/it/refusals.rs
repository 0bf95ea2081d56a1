//! Every refusal that a caller gets is counted once with its reason.

use std::{collections::BTreeMap, time::Duration};

use holdfast_admission::{
    AdmissionSettings, CancelOrder, HoldStock, PlaceOrder, Refusal, ReleaseHold,
};
use holdfast_domain::{
    CustomerRef, HoldId, Money, OrderId, OrderStatus, ProductId, Sale, SaleName,
};
use holdfast_store::IdempotencyKey;
use jiff::{SignedDuration, Timestamp};

use crate::fixture::{
    ForeignSession, Replica, cancellation, database, from_hold, hold, holding, one, place,
    replica_on,
};

/// The count of each reason.
fn counted(replica: &Replica) -> BTreeMap<String, u64> {
    let page = replica.registry.page().unwrap();
    let series = page.lines().filter_map(|line| {
        let labels = line.strip_prefix("holdfast_orders_refused_total{reason=\"")?;
        let (reason, count) = labels.split_once("\"} ")?;
        Some((reason.to_owned(), count.parse().unwrap()))
    });
    series.filter(|(_, count)| *count > 0).collect()
}

struct Table {
    replica: Replica,
    expected: BTreeMap<String, u64>,
    left: Vec<&'static str>,
}

impl Table {
    fn new(replica: Replica) -> Self {
        Self { replica, expected: BTreeMap::new(), left: Refusal::REASONS.to_vec() }
    }

    /// Places an order that must be refused for this reason.
    async fn refused(&mut self, reason: &'static str, order: PlaceOrder) {
        let refusal = place(&self.replica.admission, order).await.unwrap_err();
        self.counted(reason, refusal);
    }

    /// Cancels an order, which must be refused for this reason.
    async fn not_cancelled(&mut self, reason: &'static str, order: CancelOrder) {
        let refusal = self.replica.admission.cancel(order).await.unwrap_err();
        self.counted(reason, refusal);
    }

    fn counted(&mut self, reason: &'static str, refusal: Refusal) {
        assert_eq!(refusal.reason(), reason);
        *self.expected.entry(reason.to_owned()).or_default() += 1;
        assert_eq!(counted(&self.replica), self.expected, "after {reason}");
        self.left.retain(|left| *left != reason);
    }

    async fn sale(&self, product: ProductId, from: i64, to: i64, per_customer: Option<u32>) {
        let at = |seconds| Timestamp::now() + SignedDuration::from_secs(seconds);
        let sale = Sale {
            name: SaleName::new(format!("sale-{product}")).unwrap(),
            products: [product].into(),
            starts_at: at(from),
            ends_at: at(to),
            per_customer,
            held_back: false,
        };
        self.replica.store.put_sale(&sale).await.unwrap();
    }

    async fn hold(&self, stock: HoldStock) -> HoldId {
        hold(&self.replica, stock).await.id
    }
}

fn customer(name: &str) -> CustomerRef {
    CustomerRef::new(name.to_owned()).unwrap()
}

fn keyed(order: PlaceOrder, request: &[u8]) -> PlaceOrder {
    PlaceOrder { key: Some(IdempotencyKey::new("", "k", request)), ..order }
}

#[tokio::test]
async fn every_refusal_is_counted_once_under_its_reason() {
    let url = database().await;
    let settings = AdmissionSettings {
        lane_depth: 1,
        lock_wait_max: Duration::from_millis(200),
        ..AdmissionSettings::default()
    };
    let mut table = Table::new(replica_on(&url, settings).await);
    let lamp = table.replica.product(10).await;
    table.refused("unknown_product", one(ProductId(999), 1)).await;
    // From the lane, and from memory.
    for _ in 0..3 {
        table.refused("not_enough", one(lamp, 11)).await;
    }
    let mut at_another_price = one(lamp, 1);
    at_another_price.lines[0].expected_price = Some(Money::from_minor(7).unwrap());
    table.refused("price_changed", at_another_price).await;
    let later = table.replica.product(10).await;
    table.sale(later, 60, 120, None).await;
    table.refused("sale_not_open", one(later, 1)).await;
    let over = table.replica.product(10).await;
    table.sale(over, -120, -60, None).await;
    table.refused("sale_over", one(over, 1)).await;
    let limited = table.replica.product(10).await;
    table.sale(limited, -60, 60, Some(1)).await;
    let for_ada = PlaceOrder { customer_ref: Some(customer("ada")), ..one(limited, 2) };
    table.refused("over_limit", for_ada).await;
    table.refused("customer_needed", one(limited, 1)).await;

    table.refused("unknown_hold", from_hold(lamp, HoldId(999), 1)).await;
    let expired = table.hold(HoldStock { lasts: Duration::ZERO, ..holding(lamp, 1) }).await;
    table.refused("hold_expired", from_hold(lamp, expired, 1)).await;
    let released = table.hold(holding(lamp, 1)).await;
    table.refused("hold_differs", from_hold(lamp, released, 2)).await;
    let for_bob = HoldStock { customer_ref: Some(customer("bob")), ..holding(lamp, 1) };
    let of_bob = table.hold(for_bob).await;
    let for_ada = PlaceOrder { customer_ref: Some(customer("ada")), ..from_hold(lamp, of_bob, 1) };
    table.refused("customer_differs", for_ada).await;
    let release = ReleaseHold { hold_id: released, product_id: lamp };
    table.replica.admission.release(release).await.unwrap();
    let refusal = table.replica.admission.release(release).await.unwrap_err();
    table.counted("hold_ended", refusal);

    let unknown = cancellation(OrderId(999), OrderStatus::Pending, lamp);
    table.not_cancelled("unknown_order", unknown).await;
    let order = table.replica.place(lamp, 1).await.unwrap();
    let moved = cancellation(order.id, OrderStatus::Failed, lamp);
    table.not_cancelled("order_moved", moved).await;
    let mut plain = ForeignSession::begin(&url, "").await;
    let tried = format!("UPDATE orders SET attempt = 1, not_taken = 0 WHERE id = {}", order.id);
    plain.commit(&tried).await;
    let tried = cancellation(order.id, OrderStatus::Pending, lamp);
    table.not_cancelled("order_may_be_fulfilled", tried).await;
    let full = table.replica.product(1).await;
    let of_full = table.replica.place(full, 1).await.unwrap();
    plain.commit(&format!("UPDATE products SET stock = 1000000000 WHERE id = {full}")).await;
    let of_full = cancellation(of_full.id, OrderStatus::Pending, full);
    table.not_cancelled("stock_full", of_full).await;

    place(&table.replica.admission, keyed(one(lamp, 1), b"1")).await.unwrap();
    table.refused("key_reused", keyed(one(lamp, 1), b"2")).await;

    let locked = table.replica.product(10).await;
    let lock = format!("SELECT FROM products WHERE id = {locked} FOR UPDATE");
    let holder = ForeignSession::begin(&url, &lock).await;
    let waiting = table.replica.begin(locked, 1).await;
    table.replica.apart(1).await;
    table.refused("full", one(locked, 1)).await;
    let refusal = waiting.await.unwrap().unwrap_err();
    table.counted("lock_timeout", refusal);
    holder.rollback().await;

    plain.commit("ALTER TABLE orders ADD CONSTRAINT unlucky CHECK (quantity <> 7)").await;
    table.refused("internal", one(lamp, 7)).await;

    table.replica.admission.close().await;
    table.refused("shutting_down", one(lamp, 1)).await;
    // The cases of an unavailable database and of a commit with an unknown outcome need a failing server.
    assert_eq!(table.left, ["unavailable", "outcome_unknown"]);
}
