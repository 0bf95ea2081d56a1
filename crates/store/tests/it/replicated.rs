//! A synchronous standby does not answer, and waits for it are cancelled: nothing that a failover may lose is answered
//! with success.

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use holdfast_domain::ProductId;
use holdfast_sandbox::{Postgres, PostgresOptions, until};
use holdfast_store::{BatchOutcome, BatchToken, IdempotencyKey, LockMode, Store, StoreError};
use sqlx::{PgPool, postgres::PgConnectOptions, postgres::PgPoolOptions};

use crate::{
    dropped::{
        cases::{MethodCase, cases},
        given::Given,
    },
    fixture::{lock, product, settings, write_one_each},
};

/// How long waits are ended repeatedly.
const ENDING: Duration = Duration::from_millis(300);

const CANCEL: &str = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
     WHERE wait_event = 'SyncRep' AND application_name LIKE 'holdfast%'";
const TERMINATE: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
     WHERE wait_event = 'SyncRep' AND application_name LIKE 'holdfast%'";

/// The methods whose commits the test must have seen waiting.
const WRITING: [&str; 19] = [
    "Archive::remove",
    "LockedProduct::adjust",
    "LockedProduct::retire",
    "LockedProduct::update",
    "Store::claim",
    "Store::create_product",
    "Store::delete_sale",
    "Store::extend",
    "Store::finish",
    "Store::make_api_key",
    "Store::put_sale",
    "Store::record_sale_seconds",
    "Store::replay",
    "Store::replay_page",
    "Store::revoke_api_key",
    "Store::sale_report",
    "Store::replicated",
    "Store::sweep",
    "Writing::commit",
];

struct ReplicatedPair {
    _primary: Postgres,
    standby: Postgres,
    store: Store,
    token: BatchToken,
    lamp: ProductId,
    /// Its own commits do not wait for the standby.
    look: PgPool,
}

impl ReplicatedPair {
    /// A primary whose commits wait for its standby.
    async fn start() -> Self {
        holdfast_telemetry::database_warnings::listen();
        let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
        let url = primary.create_database().await.unwrap();
        let store = Store::connect(&settings(&url));
        store.migrate().await.unwrap();
        let standby = primary.synchronous_standby().await.unwrap();
        let local = url.parse::<PgConnectOptions>().unwrap();
        let local = local.options([("synchronous_commit", "local")]);
        let look = PgPoolOptions::new().connect_with(local).await.unwrap();
        let lamp = product(&store, 5).await.id;
        let batch = lock(&store, &[lamp], LockMode::Wait).await;
        let written = write_one_each(batch, &[lamp]).await;
        let token = written.token();
        written.commit().await.unwrap();
        Self { _primary: primary, standby, store, token, lamp, look }
    }

    async fn end_waits(&self, how: &'static str) -> i64 {
        sqlx::query_scalar(how).fetch_one(&self.look).await.unwrap()
    }

    /// Ends waits for the standby until the first was ended, and for a while longer. `None` if the call completes
    /// first.
    async fn ends_waits_of<T>(
        &self,
        call: &mut (impl Future<Output = T> + Unpin),
        how: &'static str,
    ) -> Option<T> {
        let ending = async {
            until("a commit waits for the standby", async || self.end_waits(how).await > 0).await;
            let begun = Instant::now();
            while begun.elapsed() < ENDING {
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.end_waits(how).await;
            }
        };
        tokio::select! {
            done = call => Some(done),
            () = ending => None,
        }
    }

    async fn is_true(&self, question: &str) -> bool {
        let sql = format!("SELECT {question}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.look).await.unwrap()
    }

    /// Whether the method waited for the standby. It must not have been answered with success before the standby
    /// answered.
    async fn try_case(&self, case: &MethodCase, how: &'static str) -> bool {
        let given = Given::make(&self.look, &self.store, &self.token).await;
        self.standby.pause().await.unwrap();
        let lsn: String = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text")
            .fetch_one(&self.look)
            .await
            .unwrap();
        let mut call = AssertUnwindSafe((case.call)(given)).catch_unwind();
        let early = self.ends_waits_of(&mut call, how).await;
        let confirmed =
            format!("coalesce((SELECT flush_lsn >= '{lsn}' FROM pg_stat_replication), false)");
        self.standby.resume().await.unwrap();
        let waited = early.is_none();
        match early {
            // It failed, or had nothing to wait for.
            Some(_) => {}
            None if how == CANCEL => {
                let done = call.await.unwrap_or_else(|_| panic!("{} failed", case.method));
                assert!(self.is_true(&confirmed).await, "{}", case.method);
                if let Some(question) = done {
                    assert!(self.is_true(&question).await, "{}: {question}", case.method);
                }
            }
            None => drop(call),
        }
        until("the standby follows", async || self.is_true(&confirmed).await).await;
        waited
    }
}

#[tokio::test]
async fn no_method_returns_before_the_standby_has_its_commit_even_if_the_wait_is_cancelled() {
    let pair = ReplicatedPair::start().await;
    let mut waited = BTreeSet::new();
    for case in cases().iter().filter(|case| case.method != "Store::close") {
        if pair.try_case(case, CANCEL).await {
            waited.insert(case.method);
        }
    }
    assert!(waited.is_superset(&WRITING.into()), "{waited:?}");
}

#[tokio::test]
async fn a_change_whose_session_ends_during_the_wait_for_the_standby_is_not_reported_as_done() {
    let pair = ReplicatedPair::start().await;
    pair.standby.pause().await.unwrap();
    let new = crate::fixture::new_product(1);
    let mut change = Box::pin(pair.store.create_product(&new));
    let ended = match pair.ends_waits_of(&mut change, TERMINATE).await {
        Some(ended) => ended,
        None => change.await,
    };
    assert!(matches!(ended, Err(StoreError::Unanswered(_))), "{ended:?}");
    let locked = async || pair.store.lock_product(pair.lamp).await.unwrap().unwrap();
    let mut change = Box::pin(locked().await.retire());
    let ended = match pair.ends_waits_of(&mut change, TERMINATE).await {
        Some(ended) => ended,
        None => change.await,
    };
    assert!(matches!(ended, Err(StoreError::Unanswered(_))), "{ended:?}");
}

#[tokio::test]
async fn a_batch_counts_as_committed_only_after_the_standby_has_it() {
    for how in [CANCEL, TERMINATE] {
        let pair = ReplicatedPair::start().await;
        let batch = lock(&pair.store, &[pair.lamp], LockMode::Wait).await;
        let written = write_one_each(batch, &[pair.lamp]).await;
        let token = written.token();
        pair.standby.pause().await.unwrap();
        let mut commit = Box::pin(written.commit());
        let ended = pair.ends_waits_of(&mut commit, how).await;
        assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
        drop(commit);
        // It is visible, but may still be lost.
        let mut outcome = Box::pin(pair.store.outcome(&token));
        assert_eq!(pair.ends_waits_of(&mut outcome, CANCEL).await, None);
        pair.standby.resume().await.unwrap();
        assert_eq!(outcome.await, BatchOutcome::Committed);
    }
}

#[tokio::test]
async fn the_result_of_a_key_is_not_found_before_the_standby_has_it() {
    let pair = ReplicatedPair::start().await;
    let key = IdempotencyKey::new("test", "key", b"");
    let edit = async || {
        let locked = pair.store.lock_product(pair.lamp).await.unwrap().unwrap();
        let edit = locked.stock_with(1).unwrap();
        locked.adjust(&edit, Some(&key)).await
    };
    pair.standby.pause().await.unwrap();
    let mut change = Box::pin(edit());
    assert!(pair.ends_waits_of(&mut change, CANCEL).await.is_none());
    // The caller has disconnected, and retries.
    drop(change);
    let mut again = Box::pin(pair.store.keyed(&key));
    assert!(pair.ends_waits_of(&mut again, CANCEL).await.is_none());
    pair.standby.resume().await.unwrap();
    assert!(again.await.unwrap().is_some());
}
