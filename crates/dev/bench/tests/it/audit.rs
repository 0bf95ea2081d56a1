//! The audit finds planted errors, and reports none in a correct database.

use std::process::{Command, Output};

use holdfast_bench::audit::{Expectation, Findings, audit};
use sqlx::Executor as _;

use crate::fixture::{AuditFixture, fixture};

async fn findings(fixture: &AuditFixture) -> Findings {
    audit(&fixture.url, Some(&fixture.log), Expectation::default()).await.unwrap()
}

/// Plants an error with SQL. Returns the only violation that is found.
async fn planted(sql: &'static str) -> String {
    let mut fixture = fixture().await;
    assert_eq!(findings(&fixture).await.violations, [""; 0]);
    fixture.connection.execute(sql).await.unwrap();
    let mut violations = findings(&fixture).await.violations;
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.remove(0)
}

/// Runs the command.
async fn command(fixture: &AuditFixture, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.log");
    fixture.log.write(&mut std::fs::File::create(&path).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-bench"));
    command.args(["audit", "--database-url", &fixture.url, "--log"]).arg(&path).args(more);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    drop(folder);
    output
}

#[tokio::test]
async fn a_correct_database_passes() {
    let fixture = fixture().await;
    let found = findings(&fixture).await;
    assert!(found.hold(), "{found}");
    assert!(found.unchecked.is_empty(), "{found}");
    assert_eq!((found.products, found.orders, found.accepted), (2, 20, Some(20)));
    let output = command(&fixture, &[]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("all guarantees hold"));
}

#[tokio::test]
async fn an_oversell_is_found() {
    // The unit of an order is still for sale, and the ledger has no entry about it.
    let mut fixture = fixture().await;
    fixture
        .connection
        .execute(
            "SET holdfast.writes_ledger = 'on'; UPDATE products SET stock = stock + 1 WHERE id = 2",
        )
        .await
        .unwrap();
    let violations = findings(&fixture).await.violations;
    let [sums, chain] = violations.as_slice() else { panic!("{violations:?}") };
    assert!(sums.contains("product 2: 100 put in by the ledger and 100 by the log"), "{sums}");
    assert!(chain.contains("do not follow from the previous ones: product 2"), "{chain}");
}

#[tokio::test]
async fn an_oversell_fails_the_command() {
    let mut fixture = fixture().await;
    fixture.connection.execute("UPDATE products SET stock = stock + 1").await.unwrap();
    // The ledger says that it was put in, but the log does not.
    let output = command(&fixture, &[]).await;
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("BROKEN"));
}

#[tokio::test]
async fn a_negative_stock_is_found_without_the_constraint() {
    let mut fixture = fixture().await;
    fixture
        .connection
        .execute(
            "ALTER TABLE products DROP CONSTRAINT products_stock_check; \
             ALTER TABLE stock_ledger DROP CONSTRAINT stock_ledger_stock_after_check",
        )
        .await
        .unwrap();
    fixture.connection.execute("UPDATE products SET stock = -1 WHERE id = 1").await.unwrap();
    let violations = findings(&fixture).await.violations;
    assert!(violations.iter().any(|it| it.contains("stock is negative")), "{violations:?}");
    assert!(violations.iter().any(|it| it.contains("do not add up")), "{violations:?}");
}

#[tokio::test]
async fn a_lost_order_is_found() {
    let mut fixture = fixture().await;
    let lost = fixture.log.accepted[7];
    // With its stock, so that the sums are correct and only the log shows it.
    for sql in [
        "SET holdfast.writes_ledger = 'on'".to_owned(),
        format!("DELETE FROM orders WHERE id = {}", lost.id),
        format!(
            "UPDATE products SET stock = stock + {} WHERE id = {}",
            lost.quantity, lost.product_id
        ),
        format!(
            "UPDATE stock_ledger SET sold = sold - {0}, delta = delta + {0}, stock_after = stock_after + {0} \
             WHERE product_id = {1} AND reason = 'admission'",
            lost.quantity, lost.product_id
        ),
    ] {
        fixture.connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    let violations = findings(&fixture).await.violations;
    let [violation] = violations.as_slice() else { panic!("{violations:?}") };
    assert!(violation.ends_with(&format!(": {}", lost.id)), "{violation}");
    assert!(!command(&fixture, &[]).await.status.success());
}

#[tokio::test]
async fn an_order_that_differs_from_its_request_is_found() {
    let mut fixture = fixture().await;
    fixture.log.accepted[3].quantity += 1;
    let violations = findings(&fixture).await.violations;
    assert!(violations[0].contains("differ from the request"), "{violations:?}");
}

#[tokio::test]
async fn one_order_for_two_answers_is_found() {
    let mut fixture = fixture().await;
    fixture.log.accepted.push(fixture.log.accepted[0]);
    let violations = findings(&fixture).await.violations;
    let [violation] = violations.as_slice() else { panic!("{violations:?}") };
    assert!(violation.contains("that another named too"), "{violation}");
}

#[tokio::test]
async fn an_unreported_order_is_found_unless_a_client_was_cut_off() {
    let mut fixture = fixture().await;
    fixture.log.accepted.pop();
    let violations = findings(&fixture).await.violations;
    let [violation] = violations.as_slice() else { panic!("{violations:?}") };
    assert!(violation.contains("1 orders exist that are in no answer"), "{violation}");
    fixture.log.cut_off = 1;
    assert!(findings(&fixture).await.hold());
}

#[tokio::test]
async fn finished_and_unfinished_orders_are_distinguished() {
    let violation = planted(
        "UPDATE orders SET status = 'completed', attempt = 1, processing_at = now() WHERE id = 1",
    )
    .await;
    assert!(violation.contains("final without a time"), "{violation}");
    let violation = planted("UPDATE orders SET finished_at = now() WHERE id = 1").await;
    assert!(violation.contains("not final"), "{violation}");
    let violation = planted("UPDATE orders SET status = 'processing' WHERE id = 1").await;
    assert!(violation.contains("never started"), "{violation}");
    let violation = planted("UPDATE orders SET product_id = 77 WHERE false; INSERT INTO orders (product_id, quantity, unit_price_minor, status, finished_at) VALUES (1, 5, 1, 'cancelled', now())").await;
    assert!(violation.contains("are in no answer"), "a cancelled order holds nothing: {violation}");
}

#[tokio::test]
async fn held_units_are_part_of_the_sums() {
    let hold = "INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at, status) \
                VALUES (1, 2, 100, now() + interval '1 hour', 'active')";
    let violation = planted(hold).await;
    assert!(violation.contains("0 said to be held and 2 in holds"), "{violation}");
    let violation = planted(
        "INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at, status) \
         VALUES (1, 2, 100, now(), 'used')",
    )
    .await;
    assert!(violation.contains("used without an order"), "{violation}");
}

#[tokio::test]
async fn further_lines_are_part_of_the_sums() {
    let violations = {
        let mut fixture = fixture().await;
        let line = "INSERT INTO order_lines VALUES (1, 2, 2, 5, 100)";
        fixture.connection.execute(line).await.unwrap();
        findings(&fixture).await.violations
    };
    let [lines, sums] = violations.as_slice() else { panic!("{violations:?}") };
    assert!(lines.contains("1 orders have a wrong number of lines"), "{lines}");
    assert!(sums.contains("product 2: 100 put in"), "{sums}");
}

#[tokio::test]
async fn a_key_without_an_order_is_found() {
    let violation = planted(
        "INSERT INTO idempotency_keys (key, fingerprint, kind, result_id) \
         VALUES (gen_random_uuid(), 1, 'order', 1), (gen_random_uuid(), 1, 'order', 999)",
    )
    .await;
    assert!(violation.contains("1 idempotency keys have no result"), "{violation}");
}

#[tokio::test]
async fn a_break_in_the_ledger_is_found() {
    let violation = planted(
        "UPDATE stock_ledger SET sold = sold + 1 WHERE product_id = 1 AND reason = 'admission'",
    )
    .await;
    assert!(
        violation
            .contains("1 entries of the ledger do not follow from the previous ones: product 1"),
        "{violation}"
    );
}

#[tokio::test]
async fn unfinished_work_is_found_when_none_is_expected() {
    let mut fixture = fixture().await;
    let complete = "UPDATE orders SET status = 'completed', attempt = 1, processing_at = now(), \
                    finished_at = now()";
    fixture
        .connection
        .execute(sqlx::AssertSqlSafe(format!("{complete} WHERE id > 1")))
        .await
        .unwrap();
    assert!(findings(&fixture).await.hold());
    assert!(!command(&fixture, &["--all-completed"]).await.status.success());
    fixture.connection.execute(complete).await.unwrap();
    assert!(command(&fixture, &["--all-completed"]).await.status.success());
}

#[tokio::test]
async fn without_a_log_the_audit_reports_what_it_could_not_check() {
    let fixture = fixture().await;
    let found = audit(&fixture.url, None, Expectation::default()).await.unwrap();
    assert!(found.hold());
    assert_eq!(found.unchecked.len(), 2, "{found}");
}

#[tokio::test]
async fn an_order_that_was_cancelled_and_is_fulfilled_is_found() {
    let mut shop = fixture().await;
    shop.connection
        .execute(
            "UPDATE orders SET batch_nonce = -2 WHERE id = 2; \
             UPDATE orders SET status = 'completed', attempt = 1, processing_at = now(), \
                 finished_at = now() WHERE id IN (1, 2, 3)",
        )
        .await
        .unwrap();
    // One of them was accepted by a release that returned no other ids.
    let messages = ["order_1", "order_2_fffffffffffffffe", "order_3"];
    shop.log.fulfilled = messages.map(ToOwned::to_owned).into();
    assert_eq!(findings(&shop).await.violations, [""; 0]);

    // The same number with another message id is another order.
    shop.log.fulfilled.remove("order_3");
    shop.log.fulfilled.insert("order_3_0000000000000001".to_owned());
    let violations = findings(&shop).await.violations;
    let [violation] = violations.as_slice() else { panic!("{violations:?}") };
    assert!(violation.contains("were not fulfilled: order_3"), "{violation}");

    // It was cancelled with its units, as if from the start. Only the receiver knows about it.
    shop.log.fulfilled.insert("order_3".to_owned());
    shop.connection.execute("UPDATE orders SET status = 'cancelled' WHERE id = 2").await.unwrap();
    let violations = findings(&shop).await.violations;
    let found = violations.iter().find(|it| it.contains("although they were fulfilled")).unwrap();
    assert!(found.contains("order_2_fffffffffffffffe"), "{found}");
}
