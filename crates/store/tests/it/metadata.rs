//! Metadata in two columns: as it was sent, and in the format of the previous version.

use holdfast_domain::{Metadata, OrderId};
use holdfast_store::{
    LockMode, OrderPage, PAGE_BYTES_MAX, Store,
    fulfilment::{CLAIMED_BYTES_MAX, ReadOrder},
};

use crate::{
    fixture::{lock, product, store},
    fulfilment::{LEASE, orders},
};

const SENT: &str = r#"{ "b" : 1.50, "a":[5e-324] , "b":2 }"#;

#[tokio::test]
async fn the_previous_version_reads_and_writes_beside_this_one() {
    let store = store().await;
    let ids = orders(&store, 2).await;
    // In the format of the previous version.
    sqlx::query("UPDATE orders SET metadata = $1::jsonb WHERE id = $2")
        .bind(SENT)
        .bind(ids[0].0)
        .execute(store.pool())
        .await
        .unwrap();
    let metadata = async |id: OrderId| {
        let order = store.order(id).await.unwrap().unwrap();
        order.metadata.map(|metadata| metadata.as_str().to_owned())
    };
    let old = metadata(ids[0]).await.unwrap();
    assert!(old.starts_with(r#"{"a": [0.000"#) && old.ends_with(r#""b": 2}"#), "{old}");
    assert_eq!(metadata(ids[1]).await, None);

    // Written by this version, and read by the previous one.
    let id = placed(&store, SENT).await;
    assert_eq!(metadata(id).await.as_deref(), Some(SENT));
    let read: String = sqlx::query_scalar("SELECT metadata::text FROM orders WHERE id = $1")
        .bind(id.0)
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(read, old);
}

async fn placed(store: &Store, metadata: &str) -> OrderId {
    let lamp = product(store, 1_000).await;
    let batch = lock(store, &[lamp.id], LockMode::Wait).await;
    crate::fixture::write_with_metadata(batch, lamp.id, metadata).await
}

/// Everything that the check accepts can be written, so it never makes a batch fail.
#[tokio::test]
async fn accepted_metadata_can_always_be_written() {
    let store = store().await;
    for text in [
        r#"{"a":1e308,"b":1e-999,"c":0e0,"d":-0.0e-5}"#.to_owned(),
        format!(r#"{{"a":{}}}"#, "9".repeat(308)),
        format!(r#"{{"a":0.{}e-900}}"#, "1".repeat(3000)),
        format!(r#"{{"a":{}{}}}"#, "[".repeat(63), "]".repeat(63)),
        r#"{"\ud83d\ude00":"\u0001\u007f\uffff"}"#.to_owned(),
        format!("{{{}}}", vec![r#""":1"#; 800].join(",")),
    ] {
        let metadata = Metadata::new(text.clone()).unwrap();
        let id = placed(&store, metadata.as_str()).await;
        assert_eq!(store.order(id).await.unwrap().unwrap().metadata, Some(metadata), "{text}");
    }
}

/// Each is 380 KB as text.
const EXPAND: &str = "UPDATE orders SET metadata = \
    (SELECT jsonb_build_object('a', jsonb_agg('5e-324'::numeric)) FROM generate_series(1, 1160))";

#[tokio::test]
async fn pages_and_claims_have_size_limits() {
    let store = store().await;
    let ids = orders(&store, 40).await;
    sqlx::raw_sql(EXPAND).execute(store.pool()).await.unwrap();

    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = OrderPage { after, limit: 1_000, ..OrderPage::default() };
        let found = store.orders(&page).await.unwrap();
        let bytes =
            |order: &holdfast_domain::Order| order.metadata.as_ref().unwrap().as_str().len();
        let bytes: usize = found.items.iter().map(bytes).sum();
        assert!(bytes < usize::try_from(PAGE_BYTES_MAX).unwrap() + 400_000, "{bytes}");
        seen.extend(found.items.iter().map(|order| order.id));
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    seen.reverse();
    assert_eq!(seen, ids);

    assert_eq!(store.claim(&ids, LEASE).await.unwrap().len(), 40);
    let read = store.claimed(&ids, 1_000_000).await.unwrap();
    let read: Vec<_> = read.iter().map(|read| read.order_id).collect();
    assert_eq!(read, ids[..3], "the third begins within a megabyte");
    assert_eq!(store.claimed(&ids, 0).await.unwrap().len(), 1, "the first is read in any case");
}

#[tokio::test]
async fn an_order_that_is_too_large_or_invalid_fails_alone_and_its_attempt_counts() {
    let store = store().await;
    let ids = orders(&store, 3).await;
    sqlx::raw_sql(
        "UPDATE orders SET metadata = jsonb_build_object('a', repeat('x', 3000000)) WHERE id = 1; \
         UPDATE orders SET metadata = '{}', created_at = '-infinity' WHERE id = 2; \
         UPDATE orders SET metadata = '{}' WHERE id = 3",
    )
    .execute(store.pool())
    .await
    .unwrap();
    let claims = store.claim(&ids, LEASE).await.unwrap();
    assert!(claims.iter().all(|claim| claim.attempt == 1 && claim.order.is_none()));
    let mut read = Vec::new();
    while read.len() < ids.len() {
        read.extend(store.claimed(&ids[read.len()..], 1_000_000).await.unwrap());
    }
    let good: Vec<_> = read.iter().map(|read| read.order.is_ok()).collect();
    assert_eq!(good, [false, false, true]);
    let large = |read: &ReadOrder| read.bytes > usize::try_from(CLAIMED_BYTES_MAX).unwrap();
    assert_eq!(read.iter().map(large).collect::<Vec<_>>(), [true, false, false]);
}
