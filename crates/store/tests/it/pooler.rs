//! A pooler between the store and the database: it works, or the error says what to change.

use holdfast_sandbox::{PgBouncer, shared_postgres};
use holdfast_store::{LockMode, Store, StoreError};
use sqlx::{Connection as _, PgConnection};

use crate::fixture::{lock, new_product, settings, stock_of, write_one_each};

const IGNORE: &str = "ignore_startup_parameters = extra_float_digits";

/// A store behind a PgBouncer with these settings, and the direct URL of the database; `None` if PgBouncer is not
/// installed.
async fn behind(pooler: &str) -> Option<(Store, String, PgBouncer)> {
    let server = shared_postgres().await.unwrap();
    let url = server.create_database().await.unwrap();
    let pooler = PgBouncer::start(server, pooler).await.unwrap();
    let Some(pooler) = pooler else {
        eprintln!("NOT TESTED: PgBouncer is not installed");
        return None;
    };
    let database = url.rsplit('/').next().unwrap();
    Some((Store::connect(&settings(&pooler.database_url(database))), url, pooler))
}

#[tokio::test]
async fn the_store_works_behind_sessions_of_pgbouncer_with_its_own_settings() {
    let Some((store, url, pooler)) = behind(&format!("pool_mode = session\n{IGNORE}")).await else {
        return;
    };
    store.check_pooler().await.unwrap();
    store.migrate().await.unwrap();
    let product = store.create_product(&new_product(3)).await.unwrap();
    let batch = lock(&store, &[product.id], LockMode::Wait).await;
    write_one_each(batch, &[product.id]).await.commit().await.unwrap();
    // A change of stock by a session without Holdfast's settings has the reason `unknown`.
    let mut direct = PgConnection::connect(&url).await.unwrap();
    let reasons: Vec<String> =
        sqlx::query_scalar("SELECT reason FROM stock_ledger ORDER BY version")
            .fetch_all(&mut direct)
            .await
            .unwrap();
    assert_eq!(reasons, ["opening", "admission"]);
    // Connections that end leave their session to the next one.
    store.close().await;
    let again = Store::connect(&settings(&pooler.database_url(url.rsplit('/').next().unwrap())));
    assert_eq!(stock_of(&again, product.id).await, 2);
}

#[tokio::test]
async fn an_unsuitable_pooler_is_refused_with_the_setting_to_change() {
    for (pooler, sentence) in [
        (format!("pool_mode = transaction\n{IGNORE}"), "pool_mode = session"),
        (format!("pool_mode = transaction\n{IGNORE}, options"), "pool_mode = session"),
        (format!("pool_mode = statement\n{IGNORE}"), "pool_mode = session"),
        (format!("server_reset_query =\n{IGNORE}"), "DISCARD ALL"),
        ("pool_mode = session".to_owned(), IGNORE),
    ] {
        let Some((store, _url, _pooler)) = behind(&pooler).await else { return };
        let mut result = store.check_pooler().await;
        if result.is_ok() {
            // Without a reset, the second user of a session finds the settings of the first.
            result = store.check_pooler().await;
        }
        let error = result.unwrap_err();
        assert!(error.is_pooler(), "{pooler}: {error:?}");
        let StoreError::Unavailable(cause) = &error else { panic!("{error:?}") };
        assert!(cause.to_string().contains(sentence), "{pooler}: {cause}");
    }
}
