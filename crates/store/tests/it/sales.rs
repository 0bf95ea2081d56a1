//! Recorded flash sales, and the sales in a locked row.

use std::time::Duration;

use holdfast_domain::{ProductId, Sale, SaleName, Selling};
use holdfast_store::{LockMode, PutSaleError, SALES_OF_PRODUCT_MAX, SaleSecond, Store, StoreError};
use jiff::{SignedDuration, Timestamp};

use crate::fixture::{self, lock, product, until_true};

async fn sale(store: &Store, name: &str, products: &[ProductId], from: i64, to: i64) -> Sale {
    let now = store.clock().await.unwrap();
    Sale {
        name: SaleName::new(name.to_owned()).unwrap(),
        products: products.iter().copied().collect(),
        starts_at: now + SignedDuration::from_secs(from),
        ends_at: now + SignedDuration::from_secs(to),
        per_customer: None,
        held_back: false,
    }
}

async fn in_sales(store: &Store, ids: &[ProductId]) -> Vec<ProductId> {
    let batch = lock(store, ids, LockMode::Wait).await;
    batch.allocator().in_sales().collect()
}

async fn selling(store: &Store, id: ProductId) -> Selling {
    let batch = lock(store, &[id], LockMode::Skip).await;
    batch.allocator().products().next().unwrap().1.selling
}

#[tokio::test]
async fn a_sale_is_recorded_changed_and_deleted() {
    let store = fixture::store().await;
    let (lamp, chair) = (product(&store, 5).await.id, product(&store, 5).await.id);
    let mut one = sale(&store, "one", &[lamp], 60, 120).await;
    assert_eq!(store.sale(&one.name).await.unwrap(), None);
    store.put_sale(&one).await.unwrap();
    store.put_sale(&one).await.unwrap();
    assert_eq!(store.sale(&one.name).await.unwrap().as_ref(), Some(&one));
    assert_eq!(selling(&store, lamp).await, Selling::From(one.starts_at));
    assert_eq!(selling(&store, chair).await, Selling::Always);

    // Until it begins, everything may be changed; a product that is removed from it is free again.
    one.products = [chair].into();
    one.starts_at -= SignedDuration::from_secs(30);
    one.per_customer = Some(3);
    store.put_sale(&one).await.unwrap();
    assert_eq!(in_sales(&store, &[lamp, chair]).await, [chair]);

    assert_eq!(store.sales(10).await.unwrap(), [one.clone()]);
    assert!(store.delete_sale(&one.name).await.unwrap());
    assert!(!store.delete_sale(&one.name).await.unwrap());
    assert_eq!(in_sales(&store, &[lamp, chair]).await, []);
    // None of this changes the visible state of the product.
    assert_eq!(store.product(lamp).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn the_first_order_of_the_shop_may_be_of_a_sale() {
    let store = fixture::store().await;
    let lamp = product(&store, 5).await.id;
    let mut one = sale(&store, "one", &[lamp], 60, 120).await;
    one.per_customer = Some(3);
    store.put_sale(&one).await.unwrap();
    let after_order = async || -> i64 {
        let last = "SELECT after_order FROM sales ORDER BY id DESC LIMIT 1";
        sqlx::query_scalar(last).fetch_one(store.pool()).await.unwrap()
    };
    assert_eq!(after_order().await, 0);
    let chair = product(&store, 5).await.id;
    let batch = lock(&store, &[chair], LockMode::Wait).await;
    let ids = fixture::write_one_each(batch, &[chair]).await.commit().await.unwrap();
    assert_eq!(ids[0].0, 1);
    let two = sale(&store, "two", &[chair], 60, 120).await;
    store.put_sale(&two).await.unwrap();
    assert_eq!(after_order().await, 1);
}

#[tokio::test]
async fn an_impossible_sale_is_refused_and_changes_nothing() {
    let store = fixture::store().await;
    let lamp = product(&store, 5).await.id;
    let retired = product(&store, 5).await.id;
    store.lock_product(retired).await.unwrap().unwrap().retire().await.unwrap();
    let wrong = sale(&store, "wrong", &[lamp, retired, ProductId(999)], 60, 120).await;
    let error = store.put_sale(&wrong).await.unwrap_err();
    assert!(
        matches!(&error, PutSaleError::UnknownProducts(ids) if *ids == [retired, ProductId(999)]),
        "{error:?}"
    );
    assert_eq!(
        (store.sales(10).await.unwrap(), selling(&store, lamp).await),
        (vec![], Selling::Always)
    );

    let mut open = sale(&store, "open", &[lamp], -1, 120).await;
    store.put_sale(&open).await.unwrap();
    assert_eq!(selling(&store, lamp).await, Selling::Open);
    let other = product(&store, 5).await.id;
    let more = Sale { products: [lamp, other].into(), ..open.clone() };
    assert!(matches!(store.put_sale(&more).await, Err(PutSaleError::Begun)));
    let later = Sale { starts_at: open.ends_at - SignedDuration::from_secs(1), ..open.clone() };
    assert!(matches!(store.put_sale(&later).await, Err(PutSaleError::Begun)));
    // Its end, its limit and whether it is held back may be changed.
    open.ends_at += SignedDuration::from_secs(60);
    open.held_back = true;
    store.put_sale(&open).await.unwrap();
    assert_eq!(selling(&store, lamp).await, Selling::HeldBack);

    for number in 1..SALES_OF_PRODUCT_MAX {
        store.put_sale(&sale(&store, &format!("n{number}"), &[lamp], 60, 90).await).await.unwrap();
    }
    let error = store.put_sale(&sale(&store, "too-many", &[lamp], 60, 90).await).await.unwrap_err();
    assert!(matches!(error, PutSaleError::TooManySales(id) if id == lamp), "{error:?}");
    assert_eq!(store.sales(100).await.unwrap().len(), SALES_OF_PRODUCT_MAX);
}

#[tokio::test]
async fn a_sale_waits_for_a_batch_and_applies_to_the_next_one() {
    let store = fixture::patient(&fixture::store().await).await;
    let lamp = product(&store, 5).await.id;
    let batch = lock(&store, &[lamp], LockMode::Wait).await;
    let one = sale(&store, "one", &[lamp], 60, 120).await;
    let writing = {
        let (store, one) = (store.clone(), one.clone());
        tokio::spawn(async move { store.put_sale(&one).await })
    };
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until_true(store.pool(), waits).await;
    batch.release().await.unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(selling(&store, lamp).await, Selling::From(one.starts_at));
}

#[tokio::test]
async fn the_counts_of_replicas_are_added_up_and_deleted() {
    let store = fixture::store().await;
    let lamp = product(&store, 5).await.id;
    let one = sale(&store, "one", &[lamp], -10, 120).await;
    store.put_sale(&one).await.unwrap();
    let now = Timestamp::from_second(store.clock().await.unwrap().as_second()).unwrap();
    let seen = |accepted, refused: u64| {
        let mut second = SaleSecond::new(lamp, now);
        second.accepted = accepted;
        second.refused = [("not_enough", refused)].into();
        second.waited(Duration::from_micros(700));
        second
    };
    for (accepted, refused) in [(7, 3), (5, 4)] {
        let replica = uuid::Uuid::new_v4();
        for _ in 0..2 {
            // The second time, it exists already.
            store.record_sale_seconds(replica, &[seen(accepted, refused)]).await.unwrap();
        }
    }
    let report = store.sale_report(&one.name).await.unwrap().unwrap();
    assert_eq!((report.sold, report.left, report.peak_orders_per_second), (0, 5, 12));
    assert_eq!(report.refused, [("not_enough".to_owned(), 7)].into());
    assert_eq!(report.lock_wait_p99, Some(Duration::from_micros(1024)));

    assert_eq!(store.forget_sale_seconds(Duration::from_hours(1)).await.unwrap(), 0);
    assert_eq!(store.forget_sale_seconds(Duration::ZERO).await.unwrap(), 2);
    let report = store.sale_report(&one.name).await.unwrap().unwrap();
    assert_eq!((report.peak_orders_per_second, report.lock_wait_p99), (0, None));
}

/// A sale of two products, one of which stays locked: the other is sold in the meantime.
#[tokio::test]
async fn a_sale_that_waits_for_a_locked_product_does_not_lock_its_other_products() {
    let store = fixture::store().await;
    let mut settings = fixture::settings(&fixture::database_url(&store).await);
    settings.lock_timeout = Duration::from_secs(4);
    settings.statement_timeout = Duration::from_secs(20);
    let patient = Store::connect(&settings);
    let (free, locked) = (product(&store, 5).await.id, product(&store, 5).await.id);
    let both = sale(&store, "both", &[free, locked], 60, 120).await;
    let mut holder = store.pool().acquire().await.unwrap();
    let lock_it = format!("BEGIN; SELECT FROM products WHERE id = {locked} FOR UPDATE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock_it)).execute(&mut *holder).await.unwrap();
    let putting = tokio::spawn(async move { patient.put_sale(&both).await });
    let mut got = 0;
    while !putting.is_finished() {
        let batch = lock(&store, &[free], LockMode::Skip).await;
        got += u32::from(batch.allocator().has_product(free));
        batch.release().await.unwrap();
        // The wait is the subject.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = putting.await.unwrap().unwrap_err();
    assert!(matches!(error, PutSaleError::Store(StoreError::LockTimeout(_))), "{error:?}");
    assert!(got >= 5, "{got}");
    sqlx::raw_sql("ROLLBACK").execute(&mut *holder).await.unwrap();
}
