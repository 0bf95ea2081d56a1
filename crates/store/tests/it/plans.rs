//! The plans of lists on tables with many rows, from PostgreSQL's `auto_explain`, for the statements that the store
//! sends.

mod each_method;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, OnceLock},
};

use holdfast_domain::{
    CustomerLimit, CustomerRef, HoldStatus, OrderStatus, ProductId, Quantity, RequestedLine, Sale,
    SaleName,
};
use holdfast_store::{HoldPage, LockMode, OrderPage, ProductPage, Store};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tracing::{
    Dispatch, Event, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

use crate::fixture;

/// Collects the plans that the server sends as notices.
#[derive(Clone, Default)]
struct Plans(Arc<Mutex<Vec<Value>>>);

impl<S: Subscriber> Layer<S> for Plans {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::postgres::notice" {
            event.record(&mut self.clone());
        }
    }
}

impl Visit for Plans {
    fn record_str(&mut self, field: &Field, text: &str) {
        if field.name() == "message"
            && let Some((_, plan)) = text.split_once("plan:")
        {
            self.0.lock().unwrap().push(serde_json::from_str(plan).unwrap());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Plans {
    /// The notices on this thread, until the guard is dropped.
    fn heard() -> (Self, DefaultGuard) {
        // With a single subscriber, tracing would ask a thread without one whether anyone is interested in an event.
        static OTHER: OnceLock<Dispatch> = OnceLock::new();
        OTHER.get_or_init(|| tracing_subscriber::registry().with(Self::default()).into());
        let plans = Self::default();
        let subscriber = tracing_subscriber::registry().with(plans.clone());
        (plans, tracing::subscriber::set_default(subscriber))
    }

    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A store whose server explains each statement.
async fn explained() -> Store {
    let store = fixture::store().await;
    let mut settings = fixture::settings(&fixture::database_url(&store).await);
    settings.pool_size = 1;
    settings.admission_connections = 1;
    let load = "DO $$ BEGIN EXECUTE format( \
        'ALTER DATABASE %I SET session_preload_libraries = auto_explain', current_database()); END $$";
    sqlx::query(load).execute(store.pool()).await.unwrap();
    settings.connect = settings.connect.options(&[
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_level", "notice"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_buffers", "on"),
        ("auto_explain.log_format", "json"),
        ("client_min_messages", "notice"),
    ]);
    Store::connect(&settings)
}

/// Product 1 sells most, and is on the second line of every tenth order. Few products are in stock, and few orders have
/// failed.
const MANY_ROWS: &str = "\
    INSERT INTO products (name, price_minor, stock) \
        SELECT CASE WHEN i % 3 = 0 THEN 'Lamp' ELSE 'Vase ' || i END, 100, (i % 2000 = 0)::int \
        FROM generate_series(1, 40000) AS i; \
    INSERT INTO orders (product_id, quantity, unit_price_minor, status, customer_ref, line_count, \
            created_at) \
        SELECT CASE WHEN i % 2 = 0 THEN 1 ELSE i % 1000 + 2 END, 1, 100, \
            CASE i % 20000 WHEN 0 THEN 'failed' WHEN 1 THEN 'pending' ELSE 'completed' END, \
            'customer ' || i % 3000, 1 + (i % 10 = 1)::int, now() - (100001 - i) * interval '1 s' \
        FROM generate_series(1, 100000) AS i; \
    INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price_minor) \
        SELECT id, 2, 1, 1, 100 FROM orders WHERE line_count = 2; \
    INSERT INTO holds (product_id, quantity, unit_price_minor, status, customer_ref, expires_at) \
        SELECT i % 50 + 1, 1, 100, CASE i % 5 WHEN 0 THEN 'active' ELSE 'used' END, \
            'customer ' || i % 3000, now() + (i - 100) * interval '1 h' \
        FROM generate_series(1, 50000) AS i; \
    INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after) \
        SELECT i % 2 + 1, i, 'admission', 0, 0, 0 FROM generate_series(2, 50000) AS i";

fn nodes(plan: &Value) -> Vec<&Value> {
    let children = plan["Plans"].as_array().map(Vec::as_slice).unwrap_or_default();
    std::iter::once(plan).chain(children.iter().flat_map(nodes)).collect()
}

/// The plan, one line per node.
fn shown(plan: &Value, depth: usize) -> String {
    let fact = |name: &str| plan[name].as_str().map(|it| format!(" {it}")).unwrap_or_default();
    let mut text = format!(
        "{}{}{}{}: {} rows x {}, {} pages\n",
        "  ".repeat(depth),
        plan["Node Type"].as_str().unwrap(),
        fact("Index Name"),
        fact("Index Cond"),
        plan["Actual Rows"],
        plan["Actual Loops"],
        plan["Shared Hit Blocks"].as_u64().unwrap() + plan["Shared Read Blocks"].as_u64().unwrap()
    );
    for child in plan["Plans"].as_array().into_iter().flatten() {
        text += &shown(child, depth + 1);
    }
    text
}

/// Runs a list until the server would use a generic plan, and checks each plan: no table is read completely, and at
/// most `buffers` pages are touched.
async fn check(plans: &Plans, name: &str, buffers: u64, list: impl AsyncFn()) {
    for run in 0..8 {
        plans.take();
        list().await;
        let explained = plans.take();
        assert!(!explained.is_empty(), "{name}: not explained");
        for plan in explained.iter().map(|explained| &explained["Plan"]) {
            for node in nodes(plan) {
                let kind = node["Node Type"].as_str().unwrap();
                assert!(!kind.contains("Seq Scan"), "{name}, run {run}:\n{}", shown(plan, 0));
            }
            let touched = ["Shared Hit Blocks", "Shared Read Blocks"].map(|it| plan[it].as_u64());
            let touched: u64 = touched.into_iter().map(Option::unwrap).sum();
            assert!(touched <= buffers, "{name}, run {run}: {touched} pages\n{}", shown(plan, 0));
        }
    }
}

#[tokio::test]
async fn each_filter_has_an_index() {
    let store = explained().await;
    sqlx::raw_sql("SET statement_timeout = 0").execute(store.pool()).await.unwrap();
    sqlx::raw_sql(MANY_ROWS).execute(store.pool()).await.unwrap();
    // First in the state after a flash sale, then with statistics.
    for statistics in [false, true] {
        if statistics {
            sqlx::raw_sql("ANALYZE").execute(store.pool()).await.unwrap();
        }
        orders(&store).await;
        holds(&store).await;
        products(&store).await;
    }
}

/// The plan is made while the tables are empty, and kept.
#[tokio::test]
async fn the_rows_of_a_customer_are_found_among_those_of_others() {
    let store = explained().await;
    let lamp = fixture::product(&store, 100).await.id;
    let limit = CustomerLimit { units: 5, since: Timestamp::UNIX_EPOCH, after_order: 0 };
    let customers: BTreeSet<CustomerRef> =
        (0..50).map(|number| format!("customer {number}").parse().unwrap()).collect();
    let totals = async || {
        let mut batch = fixture::lock(&store, &[lamp], LockMode::Wait).await;
        batch.count_customer_totals(&[(lamp, limit)], &customers).await.unwrap();
        batch.allocator().clone()
    };
    for _ in 0..8 {
        totals().await;
    }
    sqlx::raw_sql(
        "INSERT INTO holds (product_id, quantity, unit_price_minor, customer_ref, expires_at) \
             SELECT 1, 1, 100, 'other ' || i, now() + interval '1 h' FROM generate_series(1, 30000) AS i; \
         INSERT INTO holds (product_id, quantity, unit_price_minor, customer_ref, expires_at) \
             SELECT 2, 1, 100, 'customer 1', now() + interval '1 h' FROM generate_series(1, 30000) AS i; \
         INSERT INTO orders (product_id, quantity, unit_price_minor, customer_ref) \
             SELECT 1, 1, 100, 'other ' || i FROM generate_series(1, 30000) AS i",
    )
    .execute(store.pool())
    .await
    .unwrap();
    let (plans, _guard) = Plans::heard();
    // A few pages for each customer.
    check(&plans, "totals of customers", 1000, async || drop(totals().await)).await;
}

/// The plan is made while the table is empty, and kept.
#[tokio::test]
async fn expired_holds_of_a_product_are_found_among_those_of_others() {
    let store = explained().await;
    let lamp = fixture::product(&store, 100).await.id;
    let expired = async || {
        let mut batch = fixture::lock(&store, &[lamp], LockMode::Wait).await;
        let found = batch.expired_holds(&[(lamp, 10)]).await.unwrap().len();
        batch.release().await.unwrap();
        found
    };
    for _ in 0..8 {
        assert_eq!(expired().await, 0);
    }
    sqlx::raw_sql(
        "INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at) \
             SELECT 2, 1, 100, now() - interval '2 h' FROM generate_series(1, 30000) AS i; \
         INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at) \
             SELECT 1, 1, 100, now() + interval '2 h' FROM generate_series(1, 30000) AS i; \
         INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at) \
             VALUES (1, 1, 100, now() - interval '1 h')",
    )
    .execute(store.pool())
    .await
    .unwrap();
    let (plans, _guard) = Plans::heard();
    check(&plans, "expired holds", 100, async || assert_eq!(expired().await, 1)).await;
}

#[tokio::test]
async fn a_customer_with_more_orders_than_are_counted_gets_no_more_units() {
    let store = fixture::store().await;
    let lamp = fixture::product(&store, 100).await.id;
    let eve: CustomerRef = "eve".parse().unwrap();
    let now = store.clock().await.unwrap();
    let sale = Sale {
        name: SaleName::new("sale".to_owned()).unwrap(),
        products: [lamp].into(),
        starts_at: now - SignedDuration::from_hours(1),
        ends_at: now + SignedDuration::from_hours(1),
        per_customer: Some(5),
        held_back: false,
    };
    store.put_sale(&sale).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO orders (product_id, quantity, unit_price_minor, customer_ref, status) \
             SELECT 1, 1, 100, 'eve', 'cancelled' FROM generate_series(1, 10001)",
    )
    .execute(store.pool())
    .await
    .unwrap();
    for (after_order, expected) in [(0, false), (1, true)] {
        let limit = CustomerLimit { units: 5, since: Timestamp::UNIX_EPOCH, after_order };
        let mut batch = fixture::lock(&store, &[lamp], LockMode::Wait).await;
        let customers = [eve.clone()].into();
        batch.count_customer_totals(&[(lamp, limit)], &customers).await.unwrap();
        let lines = [RequestedLine::from_stock(lamp, Quantity::ONE)];
        let order = batch.allocator().clone().order(&lines, Some(&eve));
        assert_eq!(order.is_ok(), expected, "{order:?}");
        batch.release().await.unwrap();
    }
}

/// For a page of 50 rows, each found by a separate lookup in an index.
const PLAIN: u64 = 600;
/// For a page that looks at 5,000 rows, some of them through two indexes.
const FILTERED: u64 = 25_000;

async fn orders(store: &Store) {
    let (plans, _guard) = Plans::heard();
    let any = OrderPage { limit: 50, ..OrderPage::default() };
    let product = OrderPage { product: Some(ProductId(1)), ..any.clone() };
    let customer = OrderPage { customer: Some("customer 7".parse().unwrap()), ..any.clone() };
    let status = OrderPage { status: Some(OrderStatus::Completed), ..any.clone() };
    let rare = OrderPage { status: Some(OrderStatus::Failed), ..any.clone() };
    for (name, page, buffers) in [
        ("all", any.clone(), PLAIN),
        ("product", product.clone(), PLAIN),
        ("customer", customer.clone(), PLAIN),
        ("status", status.clone(), PLAIN),
        ("rare status", rare.clone(), PLAIN),
        ("customer and status", OrderPage { status: rare.status, ..customer.clone() }, PLAIN),
        ("customer and product", OrderPage { product: product.product, ..customer }, PLAIN),
        ("product and status", OrderPage { status: status.status, ..product.clone() }, PLAIN * 2),
        ("product and rare status", OrderPage { status: rare.status, ..product }, FILTERED),
    ] {
        check(&plans, name, buffers, async || {
            let first = store.orders(&page).await.unwrap();
            let after = first.next;
            store.orders(&OrderPage { after, ..page.clone() }).await.unwrap();
        })
        .await;
    }
}

async fn holds(store: &Store) {
    let (plans, _guard) = Plans::heard();
    let any = HoldPage { limit: 50, ..HoldPage::default() };
    let product = HoldPage { product: Some(ProductId(1)), ..any.clone() };
    let status = |status| HoldPage { status: Some(status), ..any.clone() };
    for (name, page, buffers) in [
        ("all", any.clone(), PLAIN),
        ("product", product.clone(), PLAIN),
        (
            "customer",
            HoldPage { customer: Some("customer 7".parse().unwrap()), ..any.clone() },
            PLAIN,
        ),
        ("active", status(HoldStatus::Active), PLAIN),
        ("used", status(HoldStatus::Used), PLAIN),
        ("expired", status(HoldStatus::Expired), FILTERED),
        (
            "of a product, expired",
            HoldPage { status: Some(HoldStatus::Expired), ..product },
            FILTERED,
        ),
    ] {
        check(&plans, name, buffers, async || {
            let first = store.holds(&page).await.unwrap();
            store.holds(&HoldPage { after: first.next, ..page.clone() }).await.unwrap();
        })
        .await;
    }
}

async fn products(store: &Store) {
    let (plans, _guard) = Plans::heard();
    let any = ProductPage { limit: 50, ..ProductPage::default() };
    let lamps = ProductPage { name: Some("LAMP".parse().unwrap()), ..any.clone() };
    for (name, page, buffers) in [
        ("all", any.clone(), PLAIN),
        ("name", lamps.clone(), PLAIN),
        ("in stock", ProductPage { in_stock: Some(true), ..any.clone() }, FILTERED),
        ("name, in stock", ProductPage { in_stock: Some(true), ..lamps }, FILTERED),
    ] {
        check(&plans, name, buffers, async || {
            let first = store.products(&page).await.unwrap();
            let after = first.next;
            assert!(after.is_some(), "{name}");
            store.products(&ProductPage { after, ..page.clone() }).await.unwrap();
        })
        .await;
    }
    check(&plans, "stock levels", PLAIN, async || {
        let first = store.stock_levels(None, 50).await.unwrap();
        assert!(first.next.is_some());
        store.stock_levels(first.next, 50).await.unwrap();
    })
    .await;
    check(&plans, "ledger", PLAIN, async || {
        let first = store.stock_ledger(ProductId(1), None, 50).await.unwrap();
        assert!(first.next.is_some());
        store.stock_ledger(ProductId(1), first.next, 50).await.unwrap();
    })
    .await;
}
