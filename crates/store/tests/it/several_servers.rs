//! A database with several servers, of which one accepts writes. Connections lead to that one, also after a failover.

use std::{net::SocketAddr, time::Instant};

use futures::future::join_all;
use holdfast_domain::Product;
use holdfast_sandbox::{Postgres, PostgresOptions, Proxy, until};
use holdfast_store::{Store, StoreError, StoreSettings};

use crate::fixture::{new_product, settings};

/// A primary, its standby, and the name of a database on them.
struct ServerPair {
    primary: Postgres,
    standby: Postgres,
    database: String,
}

fn address(server: &Postgres) -> SocketAddr {
    ([127, 0, 0, 1], server.port()).into()
}

impl ServerPair {
    async fn start() -> Self {
        let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
        let url = primary.create_database().await.unwrap();
        Store::connect(&StoreSettings::new(&url).unwrap()).migrate().await.unwrap();
        let standby = primary.standby().await.unwrap();
        let database = url.rsplit('/').next().unwrap().to_owned();
        Self { primary, standby, database }
    }

    fn store(&self, servers: &[SocketAddr]) -> Store {
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let url = format!("postgres://postgres@{}/{}", servers.join(","), self.database);
        Store::connect(&settings(&url))
    }

    /// The created product is on the current primary, and the store reads it from there.
    async fn are_on(&self, server: &Postgres, store: &Store, created: &[Product]) {
        let direct = self.store(&[address(server)]);
        for product in created {
            assert_eq!(direct.product(product.id).await.unwrap().as_ref(), Some(product));
        }
        let last = created.last().unwrap();
        let reads = join_all((0..32).map(|_| store.product(last.id))).await;
        assert!(reads.iter().all(|read| read.as_ref().unwrap().as_ref() == Some(last)));
    }
}

async fn create(store: &Store) -> Result<Product, StoreError> {
    store.create_product(&new_product(1)).await
}

/// The products that were created until a creation succeeded, and that product.
async fn created_again(store: &Store) -> Product {
    let mut created = None;
    until("writes work again", async || {
        let result = create(store).await.map_err(|error| format!("{error:?}"));
        result.map(|product| created = Some(product))
    })
    .await;
    created.unwrap()
}

#[tokio::test]
async fn writes_go_to_the_server_that_accepts_them_at_any_position() {
    let pair = ServerPair::start().await;
    let (primary, standby) = (address(&pair.primary), address(&pair.standby));
    let nobody = ([127, 0, 0, 1], 1).into();
    let silent = Proxy::start(primary).await.unwrap();
    silent.blackhole(true);
    let orders = [
        vec![primary, standby],
        vec![standby, primary],
        vec![nobody, standby, primary],
        vec![silent.address(), primary],
    ];
    for servers in orders {
        let store = pair.store(&servers);
        let created = join_all((0..32).map(|_| create(&store))).await;
        let created: Vec<_> = created.into_iter().map(Result::unwrap).collect();
        pair.are_on(&pair.primary, &store, &created).await;
    }
}

#[tokio::test]
async fn a_database_without_a_writable_server_is_reported() {
    let pair = ServerPair::start().await;
    let error = create(&pair.store(&[address(&pair.standby), address(&pair.standby)])).await;
    let error = error.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

#[derive(Clone, Copy, Debug)]
enum PrimaryLoss {
    Killed,
    Frozen,
    Unreachable,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_work_on_the_promoted_standby_and_no_session_stays_on_the_old_primary() {
    for loss in [PrimaryLoss::Killed, PrimaryLoss::Frozen, PrimaryLoss::Unreachable] {
        let pair = ServerPair::start().await;
        let way = Proxy::start(address(&pair.primary)).await.unwrap();
        let store = pair.store(&[way.address(), address(&pair.standby)]);
        let before = join_all((0..32).map(|_| create(&store))).await;
        assert!(before.iter().all(Result::is_ok));

        match loss {
            PrimaryLoss::Killed => pair.primary.kill9().await.unwrap(),
            PrimaryLoss::Frozen => pair.primary.pause().await.unwrap(),
            PrimaryLoss::Unreachable => way.blackhole(true),
        }
        pair.standby.promote().await.unwrap();
        let begun = Instant::now();
        let first = created_again(&store).await;
        eprintln!("{loss:?}: writes worked {:?} after the promotion", begun.elapsed());

        // The former primary is back, and does not know that it is no longer the primary.
        match loss {
            PrimaryLoss::Killed => {}
            PrimaryLoss::Frozen => pair.primary.resume().await.unwrap(),
            PrimaryLoss::Unreachable => way.blackhole(false),
        }
        let mut created = vec![first];
        for _ in 0..4 {
            let more = join_all((0..32).map(|_| create(&store))).await;
            created.extend(more.into_iter().map(Result::unwrap));
        }
        pair.are_on(&pair.standby, &store, &created).await;
    }
}
