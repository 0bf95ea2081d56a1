//! Idempotency keys: a repeated request has no second effect.

use holdfast_admission::{AdmissionSettings, OrderDecision, PlaceOrder, Refusal};
use holdfast_store::IdempotencyKey;

use crate::fixture::{Replica, database, lock, one, replica, replica_on, serving};

fn keyed(order: PlaceOrder, key: &str, request: &str) -> PlaceOrder {
    let key = Some(IdempotencyKey::new("", key, request.as_bytes()));
    PlaceOrder { key, ..order }
}

async fn results(
    replica: &Replica,
    orders: Vec<PlaceOrder>,
) -> Vec<Result<OrderDecision, Refusal>> {
    let placing = orders.into_iter().map(|order| replica.admission.place_order(order));
    futures::future::join_all(placing).await
}

#[tokio::test]
async fn repeats_within_a_batch_share_the_first_ones_order() {
    let replica = replica(AdmissionSettings::default()).await;
    let lamp = replica.product(3).await;
    let found = results(
        &replica,
        vec![
            // It was refused, so its key is free for the next one.
            keyed(one(lamp, 4), "a", "4"),
            keyed(one(lamp, 2), "a", "2"),
            keyed(one(lamp, 2), "a", "2"),
            keyed(one(lamp, 1), "a", "1"),
            keyed(one(lamp, 1), "b", "1"),
        ],
    )
    .await;
    let Ok(OrderDecision::Accepted(first)) = &found[1] else { panic!("{found:?}") };
    let repeat = OrderDecision::Repeated(first.id);
    assert!(matches!(found[0], Err(Refusal::Short(_))), "{found:?}");
    assert_eq!(found[2], Ok(repeat));
    assert_eq!(found[3], Err(Refusal::KeyReused));
    assert!(matches!(found[4], Ok(OrderDecision::Accepted(_))), "{found:?}");
    assert_eq!((replica.orders().await, replica.stock(lamp).await), (2, 0));
}

#[tokio::test]
async fn a_repeat_on_another_replica_waits_for_the_first_in_flight() {
    let url = database().await;
    let here = replica_on(&url, serving()).await;
    let there = replica_on(&url, serving()).await;
    // Afterwards the product is sold out, but the repetition must get its order.
    let lamp = here.product(2).await;
    // In flight here: it is written, and its commit is delayed.
    sqlx::raw_sql(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON unfinished_orders \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()",
    )
    .execute(here.store.pool())
    .await
    .unwrap();
    let place = |replica: &Replica| {
        let admission = replica.admission.clone();
        tokio::spawn(async move { admission.place_order(keyed(one(lamp, 2), "k", "2")).await })
    };
    let first = place(&here);
    let second = place(&there);
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    let ((OrderDecision::Accepted(order), OrderDecision::Repeated(id))
    | (OrderDecision::Repeated(id), OrderDecision::Accepted(order))) = (&first, &second)
    else {
        panic!("{first:?} {second:?}")
    };
    assert_eq!(order.id, *id);
    assert_eq!((here.orders().await, here.stock(lamp).await), (1, 0));
}

/// Both replicas get requests with the same keys at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_keys_on_two_replicas_lead_to_one_order_each() {
    let url = database().await;
    let replicas = [replica_on(&url, serving()).await, replica_on(&url, serving()).await];
    let lamp = replicas[0].product(100_000).await;
    for round in 0..20 {
        let tries = (0..64).flat_map(|key| (0..2).map(move |replica: usize| (key, replica)));
        let placing = tries.map(|(key, replica)| {
            let order = keyed(one(lamp, 1), &format!("{round}-{key}"), "1");
            let admission = replicas[replica].admission.clone();
            async move { (key, admission.place_order(order).await.unwrap()) }
        });
        let mut by_key = std::collections::BTreeMap::<_, Vec<i64>>::new();
        for (key, accepted) in futures::future::join_all(placing).await {
            by_key.entry(key).or_default().push(match accepted {
                OrderDecision::Accepted(order) => order.id.0,
                OrderDecision::Repeated(id) => id.0,
            });
        }
        assert!(by_key.values().all(|ids| ids[0] == ids[1]), "{by_key:?}");
    }
    assert_eq!(replicas[0].orders().await, 20 * 64);
}

#[tokio::test]
async fn a_repeat_is_answered_while_its_product_is_locked() {
    let replica = replica(AdmissionSettings::default()).await;
    let lamp = replica.product(10).await;
    let first = replica.admission.place_order(keyed(one(lamp, 1), "k", "1")).await.unwrap();
    let OrderDecision::Accepted(order) = first else { panic!("{first:?}") };
    let holder = lock(&replica.store, &[lamp]).await;
    let again = replica.admission.place_order(keyed(one(lamp, 1), "k", "1")).await;
    assert_eq!(again, Ok(OrderDecision::Repeated(order.id)));
    holder.release().await.unwrap();
}

#[tokio::test]
async fn old_keys_are_purged_in_steps_and_can_be_used_again() {
    let replica = replica(AdmissionSettings::default()).await;
    let lamp = replica.product(10).await;
    for key in ["a", "b", "c"] {
        replica.admission.place_order(keyed(one(lamp, 1), key, "1")).await.unwrap();
    }
    sqlx::query(
        "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE result_id < 3",
    )
    .execute(replica.store.pool())
    .await
    .unwrap();
    let day = std::time::Duration::from_hours(24);
    assert_eq!(replica.store.purge_idempotency_keys(day, 1).await.unwrap(), 1);
    assert_eq!(replica.store.purge_idempotency_keys(day, 10).await.unwrap(), 1);
    assert_eq!(replica.store.purge_idempotency_keys(day, 10).await.unwrap(), 0);
    let anew = replica.admission.place_order(keyed(one(lamp, 2), "a", "2")).await.unwrap();
    assert!(matches!(anew, OrderDecision::Accepted(_)), "{anew:?}");
    assert_eq!(
        replica.admission.place_order(keyed(one(lamp, 2), "c", "2")).await,
        Err(Refusal::KeyReused)
    );
}
