//! Orders with one line.

use holdfast_admission::{AdmissionSettings, Refusal};
use holdfast_domain::{OrderStatus, ProductId, Shortfall, Stock};
use holdfast_sandbox::Proxy;

use crate::fixture::{
    Replica, cancellation, database, lock, not_enough, one, patient, place, replica, replica_on,
    serving,
};

#[tokio::test]
async fn orders_that_wait_together_share_a_batch_and_are_served_in_their_order() {
    let replica = replica(AdmissionSettings::default()).await;
    let lamp = replica.product(10).await;
    let mut waiting = Vec::new();
    for units in [4, 4, 4, 2] {
        waiting.push(replica.begin(lamp, units).await);
    }
    let mut decisions = Vec::new();
    for placing in waiting {
        decisions.push(placing.await.unwrap().map(|accepted| accepted.lines[0].unit_price.minor()));
    }
    assert_eq!(decisions, [Ok(100), Ok(100), Err(not_enough(lamp, 2)), Ok(100)]);
    assert_eq!(replica.stock(lamp).await, 0);
    let batches = replica.metrics.batch_size.get_sample_count();
    assert!(batches <= 2, "{batches} batches for four orders that waited together");
}

#[tokio::test]
async fn a_locked_row_delays_only_its_own_product() {
    let replica = replica(patient()).await;
    let (locked, free) = (replica.product(10).await, replica.product(10).await);
    let holder = lock(&replica.store, &[locked]).await;
    let stalled = replica.begin(locked, 1).await;
    replica.apart(1).await;
    for _ in 0..5 {
        replica.place(free, 1).await.unwrap();
    }
    assert!(!stalled.is_finished());
    holder.release().await.unwrap();
    stalled.await.unwrap().unwrap();
    replica.apart(0).await;
    replica.place(locked, 1).await.unwrap();
    assert_eq!(replica.stock(locked).await, 8);
}

/// Two replicas that sell the same hundred products often meet at a row for a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_share_many_rows_refuse_no_request() {
    let url = database().await;
    let replicas = [replica_on(&url, serving()).await, replica_on(&url, serving()).await];
    let mut products = Vec::new();
    for _ in 0..100 {
        products.push(replicas[0].product(1000).await);
    }
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64usize {
        let admission = replicas[caller % 2].admission.clone();
        let products = products.clone();
        callers.spawn(async move {
            for round in 0..20usize {
                let product = products[(caller * 37 + round * 11) % products.len()];
                place(&admission, one(product, 1)).await.unwrap();
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    assert_eq!(replicas[0].orders().await, 64 * 20);
    let mut left = 0;
    for id in products {
        left += replicas[0].stock(id).await;
    }
    assert_eq!(left, 100 * 1000 - 64 * 20);
}

#[tokio::test]
async fn a_row_that_stays_locked_causes_a_clean_refusal() {
    let lock_wait_max = std::time::Duration::from_millis(300);
    let settings = AdmissionSettings { lock_wait_max, ..AdmissionSettings::default() };
    let replica = replica(settings).await;
    let lamp = replica.product(10).await;
    let holder = lock(&replica.store, &[lamp]).await;
    assert_eq!(replica.place(lamp, 1).await, Err(Refusal::LockTimeout));
    holder.release().await.unwrap();
    assert_eq!(replica.orders().await, 0);
}

#[tokio::test]
async fn a_full_lane_refuses_at_once() {
    let settings = AdmissionSettings { lane_depth: 2, ..patient() };
    let replica = replica(settings).await;
    let lamp = replica.product(10).await;
    let holder = lock(&replica.store, &[lamp]).await;
    let first = replica.begin(lamp, 1).await;
    replica.apart(1).await;
    let second = replica.begin(lamp, 1).await;
    assert_eq!(replica.place(lamp, 1).await, Err(Refusal::Full));
    holder.release().await.unwrap();
    for placing in [first, second] {
        placing.await.unwrap().unwrap();
    }
    assert_eq!(replica.orders().await, 2);
}

#[tokio::test]
async fn the_request_of_a_client_that_disconnects_before_its_batch_is_dropped() {
    let replica = replica(patient()).await;
    let lamp = replica.product(10).await;
    let holder = lock(&replica.store, &[lamp]).await;
    let first = replica.begin(lamp, 1).await;
    replica.apart(1).await;
    let gone = replica.begin(lamp, 1).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    holder.release().await.unwrap();
    first.await.unwrap().unwrap();
    replica.until("it is dropped", async || replica.metrics.abandoned.get() == 1).await;
    assert_eq!(replica.orders().await, 1);
}

#[tokio::test]
async fn an_order_that_the_database_refuses_does_not_affect_other_orders() {
    let replica = replica(AdmissionSettings::default()).await;
    let lamp = replica.product(100).await;
    sqlx::query("ALTER TABLE orders ADD CONSTRAINT unlucky CHECK (quantity <> 13)")
        .execute(replica.store.pool())
        .await
        .unwrap();
    let mut waiting = Vec::new();
    for units in [1, 2, 13, 3, 4, 5, 13] {
        waiting.push(replica.begin(lamp, units).await);
    }
    // A request whose row cannot be locked with the others still gets its own answer.
    let unknown = replica.begin(ProductId(999), 1).await;
    let mut refused = Vec::new();
    for (at, placing) in waiting.into_iter().enumerate() {
        if let Err(refusal) = placing.await.unwrap() {
            refused.push((at, refusal));
        }
    }
    assert_eq!(refused, [(2, Refusal::Internal), (6, Refusal::Internal)]);
    assert_eq!(
        unknown.await.unwrap(),
        Err(Refusal::Short(Shortfall::UnknownProduct(ProductId(999))))
    );
    assert_eq!((replica.orders().await, replica.stock(lamp).await), (5, 100 - 15));
}

/// Makes each commit slow enough to interrupt it.
const SLOW_COMMIT: &str = "\
    CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS \
        $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$; \
    CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON unfinished_orders \
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()";

async fn commits(replica: &Replica) -> Vec<i32> {
    sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
         AND query = 'COMMIT' AND state = 'active'",
    )
    .fetch_all(replica.store.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn the_outcome_of_an_unanswered_commit_is_reported_correctly() {
    // The test uses the database directly, and admission through a proxy.
    let url = database().await;
    let direct = replica_on(&url, AdmissionSettings::default()).await;
    let upstream = url.parse::<url::Url>().unwrap().socket_addrs(|| None).unwrap()[0];
    let proxy = Proxy::start(upstream).await.unwrap();
    let mut through = url.parse::<url::Url>().unwrap();
    through.set_port(Some(proxy.address().port())).unwrap();
    let replica = replica_on(through.as_str(), AdmissionSettings::default()).await;
    let lamp = direct.product(10).await;
    sqlx::raw_sql(SLOW_COMMIT).execute(direct.store.pool()).await.unwrap();

    // The server commits, and its answer is lost.
    let placing = replica.begin(lamp, 1).await;
    direct.until("it commits", async || commits(&direct).await.len() == 1).await;
    proxy.cut_answers(true);
    direct.until("it has committed", async || direct.orders().await == 1).await;
    proxy.cut_answers(false);
    let accepted = placing.await.unwrap().unwrap();
    assert!(direct.store.order(accepted.id).await.unwrap().is_some());

    // The server is stopped during the commit.
    let placing = replica.begin(lamp, 1).await;
    direct.until("it commits", async || commits(&direct).await.len() == 1).await;
    for pid in commits(&direct).await {
        sqlx::query("SELECT pg_terminate_backend($1)")
            .bind(pid)
            .execute(direct.store.pool())
            .await
            .unwrap();
    }
    assert_eq!(placing.await.unwrap(), Err(Refusal::Unavailable));
    assert_eq!((direct.orders().await, direct.stock(lamp).await), (1, 9));
}

#[tokio::test]
async fn a_sold_out_product_is_refused_from_memory_until_it_has_stock_again() {
    let replica = replica(AdmissionSettings::default()).await;
    let lamp = replica.product(1).await;
    replica.until("the cache is connected", async || replica.cache.gauges().armed).await;
    replica.place(lamp, 1).await.unwrap();
    let none = Err(not_enough(lamp, 0));
    replica
        .until("it is remembered", async || {
            let batches = replica.metrics.batch_size.get_sample_count();
            assert_eq!(replica.place(lamp, 1).await, none);
            replica.metrics.batch_size.get_sample_count() == batches
        })
        .await;
    let batches = replica.metrics.batch_size.get_sample_count();
    for _ in 0..100 {
        assert_eq!(replica.place(lamp, 1).await, none);
    }
    assert_eq!(replica.metrics.batch_size.get_sample_count(), batches, "a lane was asked");

    let locked = replica.store.lock_product(lamp).await.unwrap().unwrap();
    let raised = replica.cache.raise(&[(lamp.0, locked.next_version())]).await;
    let more = holdfast_domain::ProductChanges {
        stock: Some(holdfast_domain::StockEdit::set(Stock::new(2).unwrap())),
        ..Default::default()
    };
    locked.update(&more).await.unwrap();
    raised.changed();
    replica.place(lamp, 1).await.unwrap();
}

#[tokio::test]
async fn units_returned_to_a_deleted_product_do_not_add_it_to_memory() {
    let replica = replica(AdmissionSettings::default()).await;
    let lamp = replica.product(1).await;
    replica.until("the cache is connected", async || replica.cache.gauges().armed).await;
    let placed = replica.place(lamp, 1).await.unwrap();
    let locked = replica.store.lock_product(lamp).await.unwrap().unwrap();
    let raised = replica.cache.raise(&[(lamp.0, locked.next_version())]).await;
    locked.retire().await.unwrap();
    raised.changed();
    let cancel = cancellation(placed.id, OrderStatus::Pending, lamp);
    replica.admission.cancel(cancel).await.unwrap();
    let unknown = Err(Refusal::Short(Shortfall::UnknownProduct(lamp)));
    // The first one may go to the lane.
    for _ in 0..3 {
        assert_eq!(replica.place(lamp, 5).await, unknown);
    }
}
