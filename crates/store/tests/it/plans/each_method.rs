//! Every method of the store, on tables with many unrelated rows. The rows that its statements read depend only on its
//! arguments and not on other rows, whatever plan the server has kept.
//!
//! A new method of the store without a case in `dropped::cases` fails `each_method_has_a_case`.

use std::{fmt::Write as _, time::Duration};

use holdfast_domain::{HoldStatus, Quantity, RequestedLine};
use holdfast_sandbox::until;
use holdfast_store::{
    CancelledOrder, EndedHold, HoldRecord, IdempotencyKey, LockMode, OrderRecord, Records,
    WantedRows,
};
use serde_json::Value;
use sqlx::PgPool;

use super::{Plans, explained, nodes, shown};
use crate::{
    dropped::{
        cases::{MethodCase, cases},
        given::Given,
    },
    fixture::{self, database_url, plain_order, wanted, write_one_each},
};

/// After this many calls, the server may use a generic plan.
const WARM: usize = 8;

/// The maximum number of pages of tables and indexes that a statement may touch. Each table of orders has ten times as
/// many.
const PAGES: f64 = 100.0;

/// The maximum number of rows that a step of a plan may read.
const ROWS: f64 = 500.0;

/// Methods that return many rows, and the factor by which they may read more.
const READS_MORE: &[(&str, f64)] = &[
    // All remaining rows of the other cases, and their products.
    ("Store::sweep", 1000.0),
    ("Store::replay_page", 1000.0),
    // A page that looks at 5,000 rows.
    ("Store::holds", 10.0),
    // All pending orders that the previous version has accepted.
    ("Store::set_aside", 50.0),
    // All 30,000 unfinished orders, and none of the 60,000 completed ones.
    ("Store::count_unfinished", 100.0),
    ("Store::forget_sale_seconds", 1000.0),
];

/// Methods that need a separate store, or that do not use tables that grow.
const WITHOUT: &[&str] =
    &["Store::close", "Store::migrate", "Store::migrate_within", "Store::diagnose"];

/// Rows of all kinds that no case needs. Statistics are updated only where a test says so.
const KEEP_STATISTICS: &str = "DO $$ DECLARE name regclass; BEGIN \
    FOR name IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP \
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', name); \
    END LOOP; END $$";

const OTHERS: &str = "\
    INSERT INTO products (name, price_minor, stock, held, retired_at) \
        SELECT 'Vase ' || i, 100, i % 2, 3, CASE WHEN i % 2 = 0 THEN now() END \
        FROM generate_series(1, 30000) AS i; \
    INSERT INTO unfinished_orders (id, product_id, quantity, unit_price_minor, customer_ref, status, attempt, \
            batch_nonce, next_attempt_at, lease_until, processing_at, created_at) \
        SELECT nextval('orders_id_seq'), (SELECT max(id) FROM products) - i % 100, 1, 100, 'other ' || i % 3000, \
            CASE WHEN i % 2 = 0 THEN 'pending' ELSE 'processing' END, i % 2, i, \
            CASE WHEN i % 2 = 0 THEN now() + interval '1 h' END, \
            CASE WHEN i % 2 = 1 THEN now() + interval '1 h' END, \
            CASE WHEN i % 2 = 1 THEN now() END, now() - interval '1 h' \
        FROM generate_series(1, 30000) AS i; \
    INSERT INTO completed_orders (id, product_id, quantity, unit_price_minor, customer_ref, status, attempt, \
            batch_nonce, processing_at, finished_at, created_at) \
        SELECT nextval('orders_id_seq'), (SELECT max(id) FROM products) - i % 100, 1, 100, 'other ' || i % 3000, \
            'completed', 1, i, now(), now(), now() - i * interval '5 s' - interval '1 h' \
        FROM generate_series(1, 60000) AS i; \
    INSERT INTO orders (product_id, quantity, unit_price_minor, customer_ref, status, attempt, line_count, \
            batch_nonce, processing_at, finished_at, created_at, failure) \
        SELECT (SELECT max(id) FROM products) - i % 100, 1, 100, 'other ' || i % 3000, \
            (ARRAY['completed', 'cancelled', 'failed'])[i % 3 + 1], 1, 2, i, now(), now(), \
            now() - i * interval '10 s' - interval '1 h', 'why' \
        FROM generate_series(1, 30000) AS i; \
    INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price_minor) \
        SELECT id, 2, product_id - 1, 1, 100 FROM orders WHERE line_count = 2; \
    INSERT INTO holds (product_id, quantity, unit_price_minor, customer_ref, status, expires_at, ended_at, order_id) \
        SELECT (SELECT max(id) FROM products) - i % 100, 1, 100, 'other ' || i % 3000, \
            (ARRAY['active', 'active', 'used'])[i % 3 + 1], \
            CASE WHEN i % 3 = 1 THEN now() - interval '2 h' ELSE now() + interval '1 h' END, \
            CASE WHEN i % 3 = 2 THEN now() END, \
            CASE WHEN i % 3 = 2 THEN (SELECT min(id) FROM completed_orders) + i END \
        FROM generate_series(1, 30000) AS i; \
    INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after, nonce) \
        SELECT (SELECT max(id) FROM products) - i % 2, i + 2, 'admission', 0, 0, 0, i \
        FROM generate_series(1, 30000) AS i; \
    INSERT INTO idempotency_keys (key, fingerprint, kind, result_id) \
        SELECT gen_random_uuid(), i, 'order', i FROM generate_series(1, 30000) AS i; \
    INSERT INTO api_keys (id, secret_sha256, name, scopes, revoked_at) \
        SELECT lpad(i::text, 12, 'x'), sha256('x'), 'other', ARRAY['orders:read'], now() \
        FROM generate_series(1, 30000) AS i; \
    INSERT INTO sales (name, starts_at, ends_at, after_order) \
        SELECT 'other-' || i, now() - interval '3 days', now() - interval '2 days', 0 \
        FROM generate_series(1, 200) AS i; \
    INSERT INTO sale_products (sale_id, product_id, summed_to) \
        SELECT sales.id, products.id, 1 \
        FROM sales CROSS JOIN (SELECT id FROM products ORDER BY id DESC LIMIT 30) AS products \
        WHERE name LIKE 'other-%'; \
    INSERT INTO sale_seconds (product_id, second, replica, accepted, refused, lock_waits) \
        SELECT (SELECT max(id) FROM products) - i % 10, date_trunc('second', now()) - i * interval '1 s', \
            gen_random_uuid(), 1, '{}', '{}' \
        FROM generate_series(1, 30000) AS i; \
    INSERT INTO archive_files (name, orders, completed, created_at) \
        SELECT 'other-' || i, 1, 1, now() - interval '100 days' FROM generate_series(1, 10000) AS i; \
    INSERT INTO archived_units (product_id, units) SELECT i + 1000000, 1 FROM generate_series(1, 10000) AS i";

/// Deleted orders leave empty pages, and statistics that show this.
const DRAINED: &str = "\
    INSERT INTO unfinished_orders (id, product_id, quantity, unit_price_minor) \
        SELECT nextval('orders_id_seq'), 1, 1, 100 FROM generate_series(1, 30000); \
    DELETE FROM unfinished_orders WHERE id > 1";

/// A batch with a record of each kind.
async fn batch_of_each_kind(given: Given) {
    let wanted = WantedRows {
        holds: [given.hold].into(),
        orders: [given.pending].into(),
        ..wanted(&[given.product])
    };
    let batch = given.store.lock_batch(&wanted, LockMode::Wait).await.unwrap();
    let mut allocator = batch.allocator().clone();
    assert!(allocator.has_hold(given.hold) && allocator.has_order(given.pending));
    let line = RequestedLine::from_stock(given.product, Quantity::ONE);
    let order = allocator.order(&[line], None).unwrap();
    let unit_price = allocator.hold(given.product, Quantity::ONE, None, None).unwrap();
    let (mut stored, mut hold) = (None, None);
    let key = |name: &str| Some(IdempotencyKey::new(name, &given.key, b""));
    let mut records = Records {
        orders: vec![OrderRecord { key: key("order"), ..plain_order(&order.lines, &mut stored) }],
        holds: vec![HoldRecord {
            stored: &mut hold,
            product_id: given.product,
            quantity: Quantity::ONE,
            unit_price,
            lasts: Duration::from_mins(1),
            customer_ref: Some("bob"),
            key: key("hold"),
        }],
        ended: vec![EndedHold { id: given.hold, status: HoldStatus::Expired }],
        cancelled: vec![CancelledOrder { id: given.pending, ordered: None }],
    };
    let writing = batch.write(&allocator.changes(), &mut records, 42).await.unwrap();
    writing.commit().await.unwrap();
}

fn all_cases() -> Vec<MethodCase> {
    let mut cases = cases();
    cases.retain(|case| !WITHOUT.contains(&case.method));
    cases.push(MethodCase {
        method: "a batch of each kind",
        call: |given| {
            Box::pin(async {
                batch_of_each_kind(given).await;
                None
            })
        },
    });
    cases
}

/// The error in a plan: a step that read too many rows, or touched too many pages.
fn too_much(plan: &Value, times: f64) -> Option<String> {
    let number = |node: &Value, name: &str| node[name].as_f64().unwrap_or(0.0);
    for node in nodes(plan) {
        let given = number(node, "Actual Rows");
        let removed = ["Filter", "Index Recheck", "Join Filter"]
            .map(|by| number(node, &format!("Rows Removed by {by}")));
        let read = (given + removed.iter().sum::<f64>()) * number(node, "Actual Loops");
        if read > ROWS * times {
            return Some(format!(
                "{read} rows in {} {} {}",
                node["Node Type"], node["Index Name"], node["Relation Name"]
            ));
        }
    }
    let touched = number(plan, "Shared Hit Blocks") + number(plan, "Shared Read Blocks");
    (touched > PAGES * times).then(|| format!("{touched} pages"))
}

async fn each_method_among_others(statistics: bool) {
    let store = explained().await;
    let look = PgPool::connect(&database_url(&store).await).await.unwrap();
    sqlx::raw_sql(KEEP_STATISTICS).execute(&look).await.unwrap();
    let lamp = fixture::product(&store, 5).await;
    let batch = fixture::lock(&store, &[lamp.id], LockMode::Wait).await;
    let written = write_one_each(batch, &[lamp.id]).await;
    let token = written.token();
    written.commit().await.unwrap();
    if statistics {
        sqlx::raw_sql(DRAINED).execute(&look).await.unwrap();
        sqlx::raw_sql("VACUUM ANALYZE").execute(&look).await.unwrap();
    }
    let cases = all_cases();
    let call = async |case: &MethodCase| {
        (case.call)(Given::make(&look, &store, &token).await).await;
    };
    for case in &cases {
        for _ in 0..WARM {
            call(case).await;
        }
    }
    sqlx::raw_sql(OTHERS).execute(&look).await.unwrap();
    until("there are statistics", async || {
        store.refresh_statistics().await.unwrap().contains(&"unfinished_orders")
    })
    .await;
    let (plans, _guard) = Plans::heard();
    let mut wrong = String::new();
    for case in &cases {
        let more = READS_MORE.iter().find(|(method, _)| *method == case.method);
        let times = more.map_or(1.0, |(_, times)| *times);
        plans.take();
        call(case).await;
        for plan in plans.take() {
            let Some(what) = too_much(&plan["Plan"], times) else { continue };
            let text = plan["Query Text"].as_str().unwrap();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let text: String = text.chars().take(200).collect();
            let plan = shown(&plan["Plan"], 0);
            writeln!(wrong, "{}: {what}\n{text}\n{plan}", case.method).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The plans are made while the tables are empty and have no statistics.
#[tokio::test]
async fn methods_read_few_rows_of_others_with_plans_for_empty_tables() {
    each_method_among_others(false).await;
}

/// The plans are made with statistics of tables with one row.
#[tokio::test]
async fn methods_read_few_rows_of_others_with_plans_for_small_tables() {
    each_method_among_others(true).await;
}

/// The checks of methods include tables that are added later.
#[tokio::test]
async fn statistics_of_each_table_are_updated_once_it_has_grown() {
    let store = fixture::store().await;
    sqlx::raw_sql(KEEP_STATISTICS).execute(store.pool()).await.unwrap();
    assert_eq!(store.refresh_statistics().await.unwrap(), [""; 0]);
    sqlx::raw_sql(OTHERS).execute(store.pool()).await.unwrap();
    let mut tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class \
         WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace \
             AND relname NOT IN ('_sqlx_migrations', 'archive_identity') \
         ORDER BY relname",
    )
    .fetch_all(store.pool())
    .await
    .unwrap();
    let mut made = until("there are statistics", async || {
        let made = store.refresh_statistics().await.unwrap();
        (!made.is_empty()).then_some(made).ok_or("none")
    })
    .await;
    tables.sort_unstable();
    made.sort_unstable();
    assert_eq!(made, tables);
    assert_eq!(store.refresh_statistics().await.unwrap(), [""; 0]);
}
