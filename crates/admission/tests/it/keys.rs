//! Idempotency keys: the same request again has no second effect.

use holdfast_admission::{Accepted, AdmissionSettings, Details, Refusal};
use holdfast_domain::Demand;
use holdfast_store::{IdempotencyKey, ResultKind};

use crate::lanes::{Lanes, database, lanes, lanes_on, lock, one};

fn keyed(key: &str, request: &str) -> Details {
    let key = Some(IdempotencyKey::new("", key, request.as_bytes()));
    Details { key, ..Details::default() }
}

async fn results(lanes: &Lanes, demands: Vec<(Demand, Details)>) -> Vec<Result<Accepted, Refusal>> {
    let placing =
        demands.into_iter().map(|(demand, details)| lanes.admission.place(demand, details));
    futures::future::join_all(placing).await
}

#[tokio::test]
async fn repeats_within_a_batch_share_the_first_ones_order() {
    let lanes = lanes(AdmissionSettings::default()).await;
    let lamp = lanes.product(3).await;
    let found = results(
        &lanes,
        vec![
            // Refused, so its key is free for the next.
            (one(lamp, 4), keyed("a", "4")),
            (one(lamp, 2), keyed("a", "2")),
            (one(lamp, 2), keyed("a", "2")),
            (one(lamp, 1), keyed("a", "1")),
            (one(lamp, 1), keyed("b", "1")),
        ],
    )
    .await;
    let Ok(Accepted::Order(first)) = &found[1] else { panic!("{found:?}") };
    let repeat = Accepted::Repeat { kind: ResultKind::Order, id: first.id.0 };
    assert!(matches!(found[0], Err(Refusal::Short(_))), "{found:?}");
    assert_eq!(found[2], Ok(repeat));
    assert_eq!(found[3], Err(Refusal::KeyReused));
    assert!(matches!(found[4], Ok(Accepted::Order(_))), "{found:?}");
    assert_eq!((lanes.orders().await, lanes.stock(lamp).await), (2, 0));
}

#[tokio::test]
async fn a_repeat_on_another_replica_waits_for_the_first_in_flight() {
    let url = database().await;
    let here = lanes_on(&url, AdmissionSettings::default()).await;
    let there = lanes_on(&url, AdmissionSettings::default()).await;
    // Once sold, there is none left: still the repeat must hear of its order, not of that.
    let lamp = here.product(2).await;
    // In flight here: written, and its commit held up.
    sqlx::raw_sql(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON orders \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()",
    )
    .execute(here.store.pool())
    .await
    .unwrap();
    let place = |lanes: &Lanes| {
        let admission = lanes.admission.clone();
        tokio::spawn(async move { admission.place(one(lamp, 2), keyed("k", "2")).await })
    };
    let first = place(&here);
    let second = place(&there);
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    let ((Accepted::Order(order), Accepted::Repeat { id, .. })
    | (Accepted::Repeat { id, .. }, Accepted::Order(order))) = (&first, &second)
    else {
        panic!("{first:?} {second:?}")
    };
    assert_eq!(order.id.0, *id);
    assert_eq!((here.orders().await, here.stock(lamp).await), (1, 0));
}

/// The key of one replica's batch is taken by another's while its row is locked elsewhere: another
/// product, so no row lock orders the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_keys_on_two_replicas_lead_to_one_order_each() {
    let url = database().await;
    let replicas = [
        lanes_on(&url, AdmissionSettings::default()).await,
        lanes_on(&url, AdmissionSettings::default()).await,
    ];
    let lamp = replicas[0].product(100_000).await;
    for round in 0..20 {
        let tries = (0..64).flat_map(|key| (0..2).map(move |replica: usize| (key, replica)));
        let placing = tries.map(|(key, replica)| {
            let details = keyed(&format!("{round}-{key}"), "1");
            let admission = replicas[replica].admission.clone();
            async move { (key, admission.place(one(lamp, 1), details).await.unwrap()) }
        });
        let mut by_key = std::collections::BTreeMap::<_, Vec<i64>>::new();
        for (key, accepted) in futures::future::join_all(placing).await {
            by_key.entry(key).or_default().push(match accepted {
                Accepted::Order(order) => order.id.0,
                Accepted::Repeat { id, .. } => id,
                other => panic!("{other:?}"),
            });
        }
        assert!(by_key.values().all(|ids| ids[0] == ids[1]), "{by_key:?}");
    }
    assert_eq!(replicas[0].orders().await, 20 * 64);
}

#[tokio::test]
async fn a_repeat_is_answered_while_its_product_is_locked() {
    let lanes = lanes(AdmissionSettings::default()).await;
    let lamp = lanes.product(10).await;
    let first = lanes.admission.place(one(lamp, 1), keyed("k", "1")).await.unwrap();
    let Accepted::Order(order) = first else { panic!("{first:?}") };
    let holder = lock(&lanes.store, &[lamp]).await;
    let again = lanes.admission.place(one(lamp, 1), keyed("k", "1")).await;
    assert_eq!(again, Ok(Accepted::Repeat { kind: ResultKind::Order, id: order.id.0 }));
    holder.release().await.unwrap();
}

#[tokio::test]
async fn old_keys_are_purged_in_steps_and_may_be_used_again() {
    let lanes = lanes(AdmissionSettings::default()).await;
    let lamp = lanes.product(10).await;
    for key in ["a", "b", "c"] {
        lanes.admission.place(one(lamp, 1), keyed(key, "1")).await.unwrap();
    }
    sqlx::query(
        "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE result_id < 3",
    )
    .execute(lanes.store.pool())
    .await
    .unwrap();
    let day = std::time::Duration::from_hours(24);
    assert_eq!(lanes.store.purge_idempotency_keys(day, 1).await.unwrap(), 1);
    assert_eq!(lanes.store.purge_idempotency_keys(day, 10).await.unwrap(), 1);
    assert_eq!(lanes.store.purge_idempotency_keys(day, 10).await.unwrap(), 0);
    let anew = lanes.admission.place(one(lamp, 2), keyed("a", "2")).await.unwrap();
    assert!(matches!(anew, Accepted::Order(_)), "{anew:?}");
    assert_eq!(lanes.admission.place(one(lamp, 2), keyed("c", "2")).await, Err(Refusal::KeyReused));
}
