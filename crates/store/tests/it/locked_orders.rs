//! Another session locks the row of one order: only that order waits.

use holdfast_domain::{OrderId, OrderStatus};
use holdfast_sandbox::until;
use holdfast_store::{
    Attribution, DeadLetterPage, Store,
    fulfilment::{AttemptResult, EndedClaim, WrittenClaims},
};
use sqlx::PgTransaction;

use crate::{
    fixture::store,
    fulfilment::{LEASE, OVER, claim_one, orders, status},
};

const EVE: Attribution<'static> = Attribution { by: "eve", note: None };

async fn hold(store: &Store, id: OrderId) -> PgTransaction<'static> {
    let mut holder = store.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM orders WHERE id = $1 FOR UPDATE")
        .bind(id.0)
        .execute(&mut *holder)
        .await
        .unwrap();
    holder
}

fn all_but(ids: &[OrderId], locked: OrderId) -> Vec<OrderId> {
    ids.iter().copied().filter(|id| *id != locked).collect()
}

fn sorted(mut ids: Vec<OrderId>) -> Vec<OrderId> {
    ids.sort();
    ids
}

#[tokio::test]
async fn outcomes_are_written_while_one_order_is_locked_and_its_own_afterwards() {
    let store = store().await;
    let ids = orders(&store, 20).await;
    store.claim(&ids, LEASE).await.unwrap();
    let holder = hold(&store, ids[7]).await;
    let done: Vec<EndedClaim> =
        ids.iter().map(|id| (*id, 1, AttemptResult::Completed).into()).collect();
    let written = store.finish(&done).await.unwrap();
    assert_eq!(written.locked, [ids[7]]);
    assert_eq!(sorted(written.done), all_but(&ids, ids[7]));
    let again = store.finish(&done[7..8]).await.unwrap();
    assert_eq!(again, WrittenClaims { done: vec![], locked: vec![ids[7]] }, "still");
    holder.rollback().await.unwrap();
    assert_eq!(store.finish(&done).await.unwrap().done, [ids[7]], "each once");
    assert_eq!(store.finish(&done).await.unwrap(), WrittenClaims::default());
}

#[tokio::test]
async fn leases_are_renewed_while_one_order_is_locked_and_its_claim_is_kept() {
    let store = store().await;
    let ids = orders(&store, 5).await;
    store.claim(&ids, LEASE).await.unwrap();
    let claims: Vec<_> = ids.iter().map(|id| (*id, 1)).collect();
    let holder = hold(&store, ids[2]).await;
    let renewed = store.extend(&claims, LEASE).await.unwrap();
    assert_eq!((sorted(renewed.done), renewed.locked), (all_but(&ids, ids[2]), vec![ids[2]]));
    holder.rollback().await.unwrap();
    assert_eq!(sorted(store.extend(&claims, LEASE).await.unwrap().done), ids);
}

#[tokio::test]
async fn a_claim_that_a_later_attempt_has_replaced_is_lost() {
    let store = store().await;
    let id = orders(&store, 1).await[0];
    claim_one(&store, id, OVER).await;
    claim_one(&store, id, LEASE).await;
    let holder = hold(&store, id).await;
    let late = [(id, 1, AttemptResult::Completed).into()];
    assert_eq!(store.finish(&late).await.unwrap(), WrittenClaims::default());
    assert_eq!(store.extend(&[(id, 1)], LEASE).await.unwrap(), WrittenClaims::default());
    drop(holder);
}

async fn dead(count: usize) -> (Store, Vec<OrderId>) {
    let store = store().await;
    let ids = orders(&store, count).await;
    store.claim(&ids, LEASE).await.unwrap();
    let failed: Vec<EndedClaim> =
        ids.iter().map(|id| (*id, 1, AttemptResult::Failed("no".to_owned())).into()).collect();
    assert_eq!(store.finish(&failed).await.unwrap().done.len(), count);
    (store, ids)
}

#[tokio::test]
async fn dead_letters_are_replayed_while_one_is_locked_and_reported() {
    let (store, ids) = dead(6).await;
    let holder = hold(&store, ids[1]).await;
    let replayed = store.replay(&ids[..3], EVE).await.unwrap();
    assert_eq!((replayed.orders.len(), replayed.locked), (2, vec![ids[1]]));
    let page = DeadLetterPage { limit: 100, ..DeadLetterPage::default() };
    let (replayed, _) = store.replay_page(&page, EVE).await.unwrap();
    assert_eq!((replayed.orders.len(), replayed.locked), (3, vec![ids[1]]));
    holder.rollback().await.unwrap();
    let replayed = store.replay(&ids, EVE).await.unwrap();
    assert_eq!((replayed.orders.len(), replayed.locked), (1, vec![]));
    assert_eq!(replayed.orders[0].order_id, ids[1]);
}

#[tokio::test]
async fn no_dead_letter_stays_locked_during_a_wait_for_another() {
    let (store, ids) = dead(2).await;
    let holder = hold(&store, ids[1]).await;
    let replaying = tokio::spawn({
        let (store, ids) = (store.clone(), ids.clone());
        async move { store.replay(&ids, EVE).await }
    });
    // The first is committed, whatever happens to the other.
    until("the first is committed", async || status(&store, ids[0]).await == OrderStatus::Pending)
        .await;
    claim_one(&store, ids[0], LEASE).await;
    holder.rollback().await.unwrap();
    let replayed = replaying.await.unwrap().unwrap();
    // The rollback may have come after the limit, if the machine is busy.
    assert_eq!(replayed.orders.len() + replayed.locked.len(), 2);
}
