//! Lists: their filters, and pages that follow each other while the tables change.

use std::collections::BTreeSet;

use holdfast_domain::{HoldStatus, Order, OrderStatus, ProductId, ProductName};
use holdfast_store::{HoldPage, LOOKED_AT_MAX, OrderPage, ProductPage, Store};

use crate::fixture::{self, product, store};

async fn sql(store: &Store, statements: &'static str) {
    sqlx::raw_sql(statements).execute(store.pool()).await.unwrap();
}

/// All pages of a list, and their number.
async fn orders(store: &Store, mut page: OrderPage) -> (Vec<Order>, usize) {
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let part = store.orders(&page).await.unwrap();
        assert!(part.items.len() <= usize::try_from(page.limit).unwrap());
        all.extend(part.items);
        pages += 1;
        page.after = part.next;
        if page.after.is_none() {
            return (all, pages);
        }
    }
}

fn ids(orders: &[Order]) -> Vec<i64> {
    orders.iter().map(|order| order.id.0).collect()
}

/// Order n is for product n % 3 + 1. Even orders are ada's, and every seventh has a second line, for product 9. All
/// orders of a batch have the same time, as in production.
const ORDERS: &str = "\
    INSERT INTO orders (product_id, quantity, unit_price_minor, status, customer_ref, line_count, \
            created_at) \
        SELECT i % 3 + 1, 1, 100, CASE WHEN i % 5 = 0 THEN 'failed' ELSE 'completed' END, \
            CASE WHEN i % 2 = 0 THEN 'ada' END, 1 + (i % 7 = 0)::int, now() + (i / 10 - 60) * interval '1 s' \
        FROM generate_series(1, 100) AS i ORDER BY i; \
    INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price_minor) \
        SELECT id, 2, 9, 4, 250 FROM orders WHERE line_count = 2";

#[tokio::test]
async fn orders_are_found_by_each_filter_and_by_all_at_once() {
    let store = store().await;
    sql(&store, ORDERS).await;
    let any = OrderPage { limit: 7, ..OrderPage::default() };
    for product in [None, Some(1), Some(3), Some(9), Some(10)] {
        for customer in [None, Some("ada"), Some("bob")] {
            for status in [None, Some(OrderStatus::Failed), Some(OrderStatus::Cancelled)] {
                let page = OrderPage {
                    product: product.map(ProductId),
                    customer: customer.map(|name| name.parse().unwrap()),
                    status,
                    ..any.clone()
                };
                let expected = (1..=100).rev().filter(|n| {
                    product.is_none_or(|id| n % 3 + 1 == id || (n % 7 == 0 && id == 9))
                        && customer.is_none_or(|name| name == "ada" && n % 2 == 0)
                        && status.is_none_or(|it| it == OrderStatus::Failed && n % 5 == 0)
                });
                let expected: Vec<i64> = expected.collect();
                let (found, pages) = orders(&store, page.clone()).await;
                assert_eq!(ids(&found), expected, "{page:?}");
                assert_eq!(pages, expected.len().div_ceil(7).max(1), "{page:?}");
            }
        }
    }
    let second = &store.order(holdfast_domain::OrderId(7)).await.unwrap().unwrap().lines[1];
    assert_eq!((second.product_id.0, second.quantity.units()), (9, 4));
    assert_eq!(second.unit_price.minor(), 250);
}

#[tokio::test]
async fn pages_are_stable_while_orders_are_added() {
    let store = store().await;
    sql(&store, ORDERS).await;
    for status in [None, Some(OrderStatus::Completed)] {
        let before: Vec<i64> = {
            let page = OrderPage { limit: 1000, status, ..OrderPage::default() };
            ids(&store.orders(&page).await.unwrap().items)
        };
        let mut page = OrderPage { limit: 9, status, ..OrderPage::default() };
        let mut seen = Vec::new();
        loop {
            let part = store.orders(&page).await.unwrap();
            seen.extend(ids(&part.items));
            sql(
                &store,
                "INSERT INTO orders (product_id, quantity, unit_price_minor, status) \
                 SELECT 1, 1, 100, 'completed' FROM generate_series(1, 20)",
            )
            .await;
            page.after = part.next;
            if page.after.is_none() {
                break;
            }
        }
        assert_eq!(seen, before, "{status:?}");
    }
}

#[tokio::test]
async fn a_filter_with_few_matches_gives_short_pages_and_misses_nothing() {
    let store = store().await;
    sql(
        &store,
        "INSERT INTO orders (product_id, quantity, unit_price_minor, status) \
         SELECT 1, 1, 100, CASE WHEN i IN (1, 5999, 6000) THEN 'failed' ELSE 'completed' END \
         FROM generate_series(1, 12000) AS i ORDER BY i",
    )
    .await;
    let page = OrderPage {
        product: Some(ProductId(1)),
        status: Some(OrderStatus::Failed),
        limit: 1,
        ..OrderPage::default()
    };
    let first = store.orders(&page).await.unwrap();
    assert_eq!(first.items, []);
    assert_eq!(first.next.unwrap().id.0, 12_001 - LOOKED_AT_MAX);
    let (found, pages) = orders(&store, page).await;
    assert_eq!(ids(&found), [6000, 5999, 1]);
    assert!(pages <= 6, "{pages}");
}

async fn named(store: &Store, name: &str, stock: i64) -> i64 {
    let name = ProductName::new(name.to_owned()).unwrap();
    let new = holdfast_domain::ProductDraft { name, ..fixture::new_product(stock) };
    store.create_product(&new).await.unwrap().id.0
}

async fn products(store: &Store, mut page: ProductPage) -> Vec<i64> {
    let mut all = Vec::new();
    loop {
        let part = store.products(&page).await.unwrap();
        all.extend(part.items.iter().map(|product| product.id.0));
        page.after = part.next;
        page.skip = 0;
        if page.after.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn products_are_paged_by_skip_and_by_key() {
    let store = store().await;
    let mut ids = Vec::new();
    for stock in [0, 3, 0, 4, 5] {
        ids.push(product(&store, stock).await.id.0);
    }
    for limit in 1..=6 {
        let page = ProductPage { limit, ..ProductPage::default() };
        assert_eq!(products(&store, page.clone()).await, ids);
        assert_eq!(products(&store, ProductPage { skip: 2, ..page.clone() }).await, ids[2..]);
        let in_stock = ProductPage { in_stock: Some(true), ..page.clone() };
        assert_eq!(products(&store, in_stock).await, [ids[1], ids[3], ids[4]]);
        let sold_out = ProductPage { in_stock: Some(false), ..page };
        assert_eq!(products(&store, sold_out).await, [ids[0], ids[2]]);
    }
    let page = ProductPage { skip: 1, limit: 2, ..ProductPage::default() };
    let part = store.products(&page).await.unwrap();
    assert_eq!(part.items.iter().map(|product| product.id.0).collect::<Vec<_>>(), ids[1..3]);
}

#[tokio::test]
async fn products_are_found_by_the_beginning_of_their_names_in_any_case() {
    let store = store().await;
    let mut lamps = Vec::new();
    for name in ["Lamp", "lamp", "LAMP", "Lamp shade", "lamps"] {
        lamps.push(named(&store, name, 1).await);
    }
    for other in ["Lam", "Lan", "Lamé", "A lamp", "100% cotton", "100_"] {
        named(&store, other, 1).await;
    }
    let retired = named(&store, "Lamp", 1).await;
    let retired = store.lock_product(ProductId(retired)).await.unwrap().unwrap();
    retired.retire().await.unwrap();
    let sold_out = named(&store, "lamp", 0).await;

    for limit in 1..=7 {
        let page = |name: &str| ProductPage {
            name: Some(name.parse().unwrap()),
            limit,
            ..ProductPage::default()
        };
        let in_stock = ProductPage { in_stock: Some(true), ..page("lAmP") };
        assert_eq!(products(&store, in_stock).await, lamps, "{limit}");
        let all = [&lamps[..3], &[sold_out], &lamps[3..]].concat();
        assert_eq!(products(&store, page("lamp")).await, all, "{limit}");
        assert_eq!(products(&store, page("LAMP ")).await, lamps[3..4], "{limit}");
        // The name is not a pattern.
        assert_eq!(products(&store, page("100%")).await.len(), 1);
        assert_eq!(products(&store, page("l%")).await.len(), 0);
        assert_eq!(products(&store, page("\\")).await.len(), 0);
    }
}

#[tokio::test]
async fn a_hold_expires_by_its_time_alone() {
    let store = store().await;
    // By id: active, expired and not returned yet, used, expired, of another product.
    sql(
        &store,
        "INSERT INTO holds (product_id, quantity, unit_price_minor, status, customer_ref, \
             expires_at, ended_at) VALUES \
         (1, 1, 100, 'active', 'ada', now() + interval '1 h', NULL), \
         (1, 1, 100, 'active', 'ada', now() - interval '1 s', NULL), \
         (1, 1, 100, 'used', 'bob', now() - interval '1 s', now()), \
         (1, 1, 100, 'expired', NULL, now() - interval '1 h', now()), \
         (2, 1, 100, 'released', NULL, now() + interval '1 h', now())",
    )
    .await;
    let mut seen = BTreeSet::new();
    for (status, of_product, of_ada, all) in [
        (None, vec![4, 3, 2, 1], vec![2, 1], vec![5, 4, 3, 2, 1]),
        (Some(HoldStatus::Active), vec![1], vec![1], vec![1]),
        (Some(HoldStatus::Used), vec![3], vec![], vec![3]),
        (Some(HoldStatus::Expired), vec![4, 2], vec![2], vec![4, 2]),
        (Some(HoldStatus::Released), vec![], vec![], vec![5]),
    ] {
        for limit in [1, 2, 10] {
            let any = HoldPage { status, limit, ..HoldPage::default() };
            let product = Some(ProductId(1));
            let customer = Some("ada".parse().unwrap());
            for (mut page, expected) in [
                (HoldPage { product, ..any.clone() }, &of_product),
                (HoldPage { product, customer: customer.clone(), ..any.clone() }, &of_ada),
                (HoldPage { customer, ..any.clone() }, &of_ada),
                (any, &all),
            ] {
                let mut found = Vec::new();
                loop {
                    let part = store.holds(&page).await.unwrap();
                    for hold in part.items {
                        assert!(status.is_none_or(|status| status == hold.status), "{hold:?}");
                        assert_eq!(hold.ended_at.is_some(), hold.status != HoldStatus::Active);
                        seen.insert(hold.status.as_str());
                        found.push(hold.id.0);
                    }
                    page.after = part.next;
                    if page.after.is_none() {
                        break;
                    }
                }
                assert_eq!(&found, expected, "{page:?}");
            }
        }
    }
    assert_eq!(seen.len(), 4);
    let hold = store.hold(holdfast_domain::HoldId(2)).await.unwrap().unwrap();
    assert_eq!((hold.status, hold.ended_at), (HoldStatus::Expired, Some(hold.expires_at)));
}
