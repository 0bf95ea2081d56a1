//! The audit of a database with archived orders: it accepts a correct one, and finds errors.

use std::fs;
use std::path::Path;

use holdfast_bench::audit::{Expectation, Findings, audit_with_archive};
use sqlx::{AssertSqlSafe, Executor as _};
use tempfile::{TempDir, tempdir};

use crate::fixture::{AuditFixture, fixture};

/// Orders 1 to 5 are archived, and order 1 was cancelled. In the log, order n is for 1 + n % 3 units of product 1 + n %
/// 2.
async fn archived() -> (AuditFixture, TempDir) {
    let mut fixture = fixture().await;
    let folder = tempdir().unwrap();
    for order in &fixture.log.accepted[..5] {
        let (id, product, units) = (order.id, order.product_id, order.quantity);
        let (status, kept) = if id == 1 { ("cancelled", 0) } else { ("completed", units) };
        let items = format!(r#"[{{"product_id":{product},"quantity":{units},"unit_price":1.0}}]"#);
        let line = format!("{{\"id\":{id},\"status\":\"{status}\",\"items\":{items}}}\n");
        let name = if id < 3 { "orders-1-2.jsonl" } else { "orders-3-5.jsonl" };
        let file = folder.path().join(name);
        fs::write(&file, fs::read_to_string(&file).unwrap_or_default() + &line).unwrap();
        let sql = format!(
            "SET holdfast.writes_ledger = 'on'; \
             DELETE FROM orders WHERE id = {id}; \
             INSERT INTO archived_units SELECT {product}, {kept} WHERE {kept} > 0 \
                 ON CONFLICT (product_id) DO UPDATE SET units = archived_units.units + {kept}; \
             UPDATE products SET stock = stock + {units} - {kept} WHERE id = {product}; \
             UPDATE stock_ledger SET returned = returned + {units} - {kept}, \
                     delta = delta + {units} - {kept}, stock_after = stock_after + {units} - {kept} \
                 WHERE product_id = {product} AND reason = 'admission'"
        );
        fixture.connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let files = "INSERT INTO archive_files (name, orders, completed) \
        VALUES ('orders-1-2.jsonl', 2, 1), ('orders-3-5.jsonl', 3, 3)";
    fixture.connection.execute(files).await.unwrap();
    (fixture, folder)
}

async fn findings(fixture: &AuditFixture, folder: Option<&Path>) -> Findings {
    let expectation = Expectation::default();
    audit_with_archive(&fixture.url, Some(&fixture.log), folder, expectation).await.unwrap()
}

#[tokio::test]
async fn an_archived_shop_adds_up() {
    let (fixture, folder) = archived().await;
    let found = findings(&fixture, Some(folder.path())).await;
    assert!(found.hold() && found.unchecked.is_empty(), "{found}");
    assert_eq!((found.orders, found.archived), (15, 5));
    // Without the folder, the recorded files are trusted, and the report says so.
    let found = findings(&fixture, None).await;
    assert!(found.hold(), "{found}");
    assert!(found.unchecked[0].contains("5 archived orders"), "{found}");
}

#[tokio::test]
async fn missing_units_of_archived_orders_are_found() {
    let (mut fixture, folder) = archived().await;
    fixture
        .connection
        .execute("UPDATE archived_units SET units = units + 1 WHERE product_id = 1")
        .await
        .unwrap();
    let violations = findings(&fixture, Some(folder.path())).await.violations;
    assert!(violations[0].contains("units in the archive's files"), "{violations:?}");
    assert!(violations[1].contains("do not add up: product 1"), "{violations:?}");
}

#[tokio::test]
async fn an_order_in_the_tables_and_in_a_file_is_found() {
    let (mut fixture, folder) = archived().await;
    let again = "INSERT INTO orders (id, product_id, quantity, unit_price_minor, status, finished_at) \
        OVERRIDING SYSTEM VALUE VALUES (1, 2, 2, 100, 'cancelled', now())";
    fixture.connection.execute(again).await.unwrap();
    let violations = findings(&fixture, Some(folder.path())).await.violations;
    assert!(
        violations[0].contains("1 archived orders are also in the tables: 1"),
        "{violations:?}"
    );
}

#[tokio::test]
async fn a_missing_or_changed_file_is_found() {
    let (fixture, folder) = archived().await;
    let file = folder.path().join("orders-3-5.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let first = text.lines().next().unwrap();
    for (wrong, expected) in [
        (first.to_owned(), "has 1 orders, 1 completed, and not 3 and 3"),
        (format!("{text}{first}\n"), "order 3 exists twice"),
        (text[..text.len() - 4].to_owned(), "orders-3-5.jsonl"),
        (text.replace("\"id\":4", "\"id\":400"), "1 accepted orders are missing"),
    ] {
        fs::write(&file, wrong).unwrap();
        let violations = findings(&fixture, Some(folder.path())).await.violations;
        assert!(violations.iter().any(|it| it.contains(expected)), "{expected}: {violations:?}");
    }
    fs::remove_file(&file).unwrap();
    let violations = findings(&fixture, Some(folder.path())).await.violations;
    assert!(violations[0].contains("orders-3-5.jsonl"), "{violations:?}");
}

#[tokio::test]
async fn more_missing_orders_than_archived_ones_count_as_lost() {
    let (mut fixture, _folder) = archived().await;
    fixture.connection.execute("DELETE FROM orders WHERE id = 20").await.unwrap();
    let violations = findings(&fixture, None).await.violations;
    assert!(
        violations.iter().any(|it| it.contains("6 accepted orders are missing")),
        "{violations:?}"
    );
}
