//! Every refusal that a caller hears of is counted once, under its reason.

use std::{collections::BTreeMap, time::Duration};

use holdfast_admission::{Accepted, AdmissionSettings, Details, Refusal};
use holdfast_domain::{
    CustomerRef, Demand, HoldId, Line, Money, OrderId, OrderStatus, ProductId, Quantity, Sale,
    SaleName,
};
use holdfast_store::IdempotencyKey;
use jiff::{SignedDuration, Timestamp};

use crate::lanes::{Lanes, Session, database, lanes_on, one};

/// How often each reason has been counted.
fn counted(lanes: &Lanes) -> BTreeMap<String, u64> {
    let page = lanes.registry.page().unwrap();
    let series = page.lines().filter_map(|line| {
        let labels = line.strip_prefix("holdfast_orders_refused_total{reason=\"")?;
        let (reason, count) = labels.split_once("\"} ")?;
        Some((reason.to_owned(), count.parse().unwrap()))
    });
    series.filter(|(_, count)| *count > 0).collect()
}

struct Table {
    lanes: Lanes,
    expected: BTreeMap<String, u64>,
    left: Vec<&'static str>,
}

impl Table {
    fn new(lanes: Lanes) -> Self {
        Self { lanes, expected: BTreeMap::new(), left: Refusal::REASONS.to_vec() }
    }

    /// Places a demand that must be refused for this reason.
    async fn refused(&mut self, reason: &'static str, demand: Demand, details: Details) {
        let refusal = self.lanes.admission.place(demand, details).await.unwrap_err();
        self.counted(reason, refusal);
    }

    fn counted(&mut self, reason: &'static str, refusal: Refusal) {
        assert_eq!(refusal.reason(), reason);
        *self.expected.entry(reason.to_owned()).or_default() += 1;
        assert_eq!(counted(&self.lanes), self.expected, "after {reason}");
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
        self.lanes.store.put_sale(&sale).await.unwrap();
    }

    async fn hold(&self, product_id: ProductId, lasts: Duration) -> HoldId {
        self.hold_for(product_id, lasts, Details::default()).await
    }

    async fn hold_for(&self, product_id: ProductId, lasts: Duration, details: Details) -> HoldId {
        let details = Details { lasts, ..details };
        match self.lanes.admission.place(holding(product_id), details).await.unwrap() {
            Accepted::Hold(hold) => hold.id,
            other => panic!("{other:?}"),
        }
    }
}

fn holding(product_id: ProductId) -> Demand {
    Demand::Hold { product_id, quantity: Quantity::ONE, expected_price: None }
}

fn from_hold(product_id: ProductId, hold: HoldId, units: i64) -> Demand {
    let quantity = Quantity::new(units, 1000).unwrap();
    let line = Line { hold: Some(hold), ..Line::from_stock(product_id, quantity) };
    Demand::Order([line].into_iter().collect())
}

fn cancel(order_id: OrderId, from: OrderStatus, product_id: ProductId) -> Demand {
    let Demand::Order(lines) = one(product_id, 1) else { panic!("no order") };
    Demand::Cancel { order_id, from, settled: false, lines }
}

fn customer(name: &str) -> Details {
    Details { customer_ref: Some(CustomerRef::new(name.to_owned()).unwrap()), ..Details::default() }
}

fn keyed(request: &[u8]) -> Details {
    Details { key: Some(IdempotencyKey::new("", "k", request)), ..Details::default() }
}

#[tokio::test]
async fn every_refusal_is_counted_once_under_its_reason() {
    let url = database().await;
    let settings = AdmissionSettings {
        lane_depth: 1,
        lock_wait_max: Duration::from_millis(200),
        ..AdmissionSettings::default()
    };
    let mut table = Table::new(lanes_on(&url, settings).await);
    let none = Details::default;
    let lamp = table.lanes.product(10).await;
    table.refused("unknown_product", one(ProductId(999), 1), none()).await;
    // From the lane, and from memory.
    for _ in 0..3 {
        table.refused("not_enough", one(lamp, 11), none()).await;
    }
    let told = Line {
        expected_price: Some(Money::from_minor(7).unwrap()),
        ..Line::from_stock(lamp, Quantity::ONE)
    };
    let at_another_price = Demand::Order([told].into_iter().collect());
    table.refused("price_changed", at_another_price, none()).await;
    let later = table.lanes.product(10).await;
    table.sale(later, 60, 120, None).await;
    table.refused("sale_not_open", one(later, 1), none()).await;
    let over = table.lanes.product(10).await;
    table.sale(over, -120, -60, None).await;
    table.refused("sale_over", one(over, 1), none()).await;
    let limited = table.lanes.product(10).await;
    table.sale(limited, -60, 60, Some(1)).await;
    table.refused("over_limit", one(limited, 2), customer("ada")).await;
    table.refused("customer_needed", one(limited, 1), none()).await;

    table.refused("unknown_hold", from_hold(lamp, HoldId(999), 1), none()).await;
    let expired = table.hold(lamp, Duration::ZERO).await;
    table.refused("hold_expired", from_hold(lamp, expired, 1), none()).await;
    let released = table.hold(lamp, Duration::from_mins(1)).await;
    table.refused("hold_differs", from_hold(lamp, released, 2), none()).await;
    let of_bob = table.hold_for(lamp, Duration::from_mins(1), customer("bob")).await;
    table.refused("customer_differs", from_hold(lamp, of_bob, 1), customer("ada")).await;
    let release = Demand::Release { hold_id: released, product_id: lamp };
    table.lanes.admission.place(release.clone(), none()).await.unwrap();
    table.refused("hold_ended", release, none()).await;

    table.refused("unknown_order", cancel(OrderId(999), OrderStatus::Pending, lamp), none()).await;
    let order = table.lanes.place(lamp, 1).await.unwrap();
    table.refused("order_moved", cancel(order.id, OrderStatus::Failed, lamp), none()).await;
    let mut plain = Session::begin(&url, "").await;
    let tried = format!("UPDATE orders SET attempt = 1, not_taken = 0 WHERE id = {}", order.id);
    plain.commit(&tried).await;
    let cancel_tried = cancel(order.id, OrderStatus::Pending, lamp);
    table.refused("order_may_be_fulfilled", cancel_tried, none()).await;
    let full = table.lanes.product(1).await;
    let of_full = table.lanes.place(full, 1).await.unwrap();
    plain.commit(&format!("UPDATE products SET stock = 1000000000 WHERE id = {full}")).await;
    table.refused("stock_full", cancel(of_full.id, OrderStatus::Pending, full), none()).await;

    table.lanes.admission.place(one(lamp, 1), keyed(b"1")).await.unwrap();
    table.refused("key_reused", one(lamp, 1), keyed(b"2")).await;

    let locked = table.lanes.product(10).await;
    let lock = format!("SELECT FROM products WHERE id = {locked} FOR UPDATE");
    let holder = Session::begin(&url, &lock).await;
    let waiting = table.lanes.begin(locked, 1).await;
    table.lanes.apart(1).await;
    table.refused("full", one(locked, 1), none()).await;
    let refusal = waiting.await.unwrap().unwrap_err();
    table.counted("lock_timeout", refusal);
    holder.rollback().await;

    plain.commit("ALTER TABLE orders ADD CONSTRAINT unlucky CHECK (quantity <> 7)").await;
    table.refused("internal", one(lamp, 7), none()).await;

    table.lanes.admission.close().await;
    table.refused("shutting_down", one(lamp, 1), none()).await;
    // A database that is away, and a commit whose fate stays unknown: these need a server that fails.
    assert_eq!(table.left, ["unavailable", "outcome_unknown"]);
}
