//! Reads on standbys: they are served there, show every answered write, and go on whatever happens to a standby.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::future::{join, join_all};
use holdfast_domain::ProductId;
use holdfast_sandbox::{Postgres, PostgresOptions, Proxy, metric, until};
use holdfast_store::{ProductPage, Store, StoreSettings};
use holdfast_telemetry::Registry;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinHandle;

use crate::fixture::{new_product, settings};

fn address(server: &Postgres) -> SocketAddr {
    ([127, 0, 0, 1], server.port()).into()
}

fn url(servers: &[SocketAddr], database: &str) -> String {
    let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
    format!("postgres://postgres@{}/{database}", servers.join(","))
}

/// A primary with a migrated database.
async fn primary(options: PostgresOptions) -> (Postgres, String) {
    let primary = Postgres::start(options).await.unwrap();
    let url = primary.create_database().await.unwrap();
    Store::connect(&StoreSettings::new(&url).unwrap()).migrate().await.unwrap();
    let database = url.rsplit('/').next().unwrap().to_owned();
    (primary, database)
}

async fn execute(server: &Postgres, database: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(&server.database_url(database)).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// What one process has: a store that writes, and the same store on its read replicas.
struct Reader {
    writes: Store,
    reads: Store,
    registry: Registry,
    watching: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Reader {
    fn new(primary: &str, replicas: &str) -> Self {
        Self::with(&StoreSettings {
            read_replicas: Some(replicas.parse().unwrap()),
            // Other tests may need the processor for longer than the default.
            read_replica_wait: Duration::from_secs(1),
            ..settings(primary)
        })
    }

    fn with(settings: &StoreSettings) -> Self {
        let writes = Store::connect(settings);
        let registry = Registry::default();
        writes.register_read_metrics(&registry).unwrap();
        let watched = writes.clone();
        let watching = tokio::spawn(async move { watched.watch_read_replicas().await });
        Self { reads: writes.on_read_replicas(), writes, registry, watching }
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is a count")]
    fn metric(&self, series: &str) -> i64 {
        metric(&self.registry.page().unwrap(), series) as i64
    }

    fn outcome(&self, outcome: &str) -> i64 {
        self.metric(&format!("holdfast_read_replica_reads_total{{outcome=\"{outcome}\"}}"))
    }

    fn state(&self, state: &str) -> i64 {
        self.metric(&format!("holdfast_read_replicas{{state=\"{state}\"}}"))
    }

    async fn until_state(&self, state: &str, count: i64) {
        until(&format!("{count} are {state}"), async || {
            (self.state(state) == count).then_some(()).ok_or_else(|| self.registry.page().unwrap())
        })
        .await;
    }

    async fn create(&self) -> ProductId {
        self.writes.create_product(&new_product(7)).await.unwrap().id
    }

    /// Whether the list of products and the history of this one show it.
    async fn shows(&self, id: ProductId) -> bool {
        let page = ProductPage { limit: 1000, ..ProductPage::default() };
        let (list, ledger) =
            join(self.reads.products(&page), self.reads.stock_ledger(id, None, 1)).await;
        let listed = list.unwrap().items.iter().any(|product| product.id == id);
        assert_eq!(listed, ledger.unwrap().items.len() == 1);
        listed
    }

    /// Reads are served by a replica.
    async fn uses_a_replica(&self) {
        until("a read is served by a replica", async || {
            let before = self.outcome("replica");
            self.reads.stock_levels(None, 1).await.unwrap();
            let served = self.outcome("replica") > before;
            served.then_some(()).ok_or_else(|| self.registry.page().unwrap())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_served_by_standbys_and_show_each_write_of_any_process() {
    let (primary, database) = primary(PostgresOptions::default()).await;
    let (a, b) = (primary.standby().await.unwrap(), primary.standby().await.unwrap());
    let [one, two] = [0, 1].map(|_| {
        Reader::new(&primary.database_url(&database), &url(&[address(&a), address(&b)], &database))
    });
    for reader in [&one, &two] {
        reader.until_state("used", 2).await;
    }
    for turn in 0..200 {
        let (writer, other) = if turn % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let id = writer.create().await;
        let (own, others) = join(writer.shows(id), other.shows(id)).await;
        assert!(own && others, "{turn}");
    }
    let served = one.outcome("replica") + two.outcome("replica");
    eprintln!("{served} of 800 reads were served by standbys");
    assert!(served > 100, "{served}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_arrive_together_share_a_question_to_the_primary() {
    let (primary, database) = primary(PostgresOptions::default()).await;
    let standby = primary.standby().await.unwrap();
    let way = Proxy::start(address(&primary)).await.unwrap();
    let reader = Reader::with(&StoreSettings {
        read_replicas: Some(standby.database_url(&database).parse().unwrap()),
        read_replica_wait: Duration::from_secs(5),
        ..settings(&url(&[way.address()], &database))
    });
    reader.until_state("used", 1).await;
    way.delay(Duration::from_millis(20));
    let (asked, served) =
        (reader.metric("holdfast_read_replica_questions_total"), reader.outcome("replica"));
    let reads = join_all((0..100).map(|_| reader.reads.stock_levels(None, 1))).await;
    assert!(reads.iter().all(Result::is_ok));
    assert_eq!(reader.outcome("replica") - served, 100);
    let asked = reader.metric("holdfast_read_replica_questions_total") - asked;
    eprintln!("100 reads asked {asked} questions");
    // Those of the reads, and of the check once a second.
    assert!(asked < 30, "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_whose_replay_is_paused_is_never_read() {
    let (primary, database) = primary(PostgresOptions::default()).await;
    let standby = primary.standby().await.unwrap();
    let [one, two] = [0, 1]
        .map(|_| Reader::new(&primary.database_url(&database), &standby.database_url(&database)));
    for reader in [&one, &two] {
        reader.until_state("used", 1).await;
        reader.uses_a_replica().await;
    }
    for _ in 0..3 {
        execute(&standby, &database, "SELECT pg_wal_replay_pause()").await;
        for turn in 0..20 {
            let (writer, other) = if turn % 2 == 0 { (&one, &two) } else { (&two, &one) };
            let id = writer.create().await;
            let (own, others) = join(writer.shows(id), other.shows(id)).await;
            assert!(own && others, "{turn}");
        }
        one.until_state("lagging", 1).await;
        assert!(one.outcome("behind") > 0 && one.outcome("no_replica") > 0);
        until("the lag is shown", async || one.metric("holdfast_read_replica_lag_bytes") > 0).await;
        execute(&standby, &database, "SELECT pg_wal_replay_resume()").await;
        for reader in [&one, &two] {
            reader.uses_a_replica().await;
        }
    }
}

/// Reads until told to stop, and gives the number and the longest time.
async fn read_on(reader: &Reader, stop: &AtomicBool) -> (u32, Duration) {
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        reader.reads.stock_levels(None, 10).await.expect("no read fails");
        longest = longest.max(begun.elapsed());
        count += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (count, longest)
}

#[derive(Clone, Copy, Debug)]
enum StandbyFault {
    Killed,
    Frozen,
    Unreachable,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_when_a_standby_is_lost_and_it_is_used_again_when_it_is_back() {
    let (primary, database) = primary(PostgresOptions::default()).await;
    let standby = primary.standby().await.unwrap();
    let way = Proxy::start(address(&standby)).await.unwrap();
    let reader = Reader::new(&primary.database_url(&database), &url(&[way.address()], &database));
    for loss in [StandbyFault::Killed, StandbyFault::Frozen, StandbyFault::Unreachable] {
        reader.until_state("used", 1).await;
        reader.uses_a_replica().await;
        let before: i64 = ["busy", "behind", "failed"].map(|it| reader.outcome(it)).iter().sum();
        let stop = AtomicBool::new(false);
        let reading = join_all((0..16).map(|_| read_on(&reader, &stop)));
        let losing = async {
            match loss {
                StandbyFault::Killed => standby.kill9().await.unwrap(),
                StandbyFault::Frozen => standby.pause().await.unwrap(),
                StandbyFault::Unreachable => way.blackhole(true),
            }
            reader.until_state("silent", 1).await;
            let without = reader.outcome("no_replica");
            until("reads go on", async || reader.outcome("no_replica") > without + 100).await;
            match loss {
                StandbyFault::Killed => standby.restart().await.unwrap(),
                StandbyFault::Frozen => standby.resume().await.unwrap(),
                StandbyFault::Unreachable => way.blackhole(false),
            }
            reader.until_state("used", 1).await;
            let served = reader.outcome("replica");
            until("it is read again", async || reader.outcome("replica") > served + 100).await;
            stop.store(true, Ordering::Relaxed);
        };
        let (read, ()) = join(reading, losing).await;
        let (count, longest) =
            read.iter().fold((0, Duration::ZERO), |(n, t), (m, u)| (n + m, t.max(*u)));
        let after: i64 = ["busy", "behind", "failed"].map(|it| reader.outcome(it)).iter().sum();
        eprintln!(
            "{loss:?}: {count} reads, none failed; {} were repeated on the primary, the slowest took {longest:?}",
            after - before
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_down_at_the_start_is_used_when_it_is_up() {
    let (primary, database) = primary(PostgresOptions::default()).await;
    let standby = primary.standby().await.unwrap();
    standby.shutdown().await.unwrap();
    let reader = Reader::new(&primary.database_url(&database), &standby.database_url(&database));
    reader.until_state("silent", 1).await;
    let id = reader.create().await;
    assert!(reader.shows(id).await);
    standby.restart().await.unwrap();
    reader.uses_a_replica().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_no_standbys_of_the_database_are_left_out() {
    let (primary, database) = primary(PostgresOptions::default()).await;
    let standby = primary.standby().await.unwrap();
    let cases = [
        ("the primary", primary.database_url(&database), "no_standby"),
        ("another database of the cluster", standby.database_url("postgres"), "other_database"),
    ];
    for (what, replica, state) in cases {
        let reader = Reader::new(&primary.database_url(&database), &replica);
        reader.until_state(state, 1).await;
        let id = reader.create().await;
        assert!(reader.shows(id).await, "{what}");
        assert_eq!(reader.outcome("replica"), 0, "{what}");
    }

    let reader = Reader::new(&primary.database_url(&database), &standby.database_url(&database));
    reader.uses_a_replica().await;
    standby.promote().await.unwrap();
    // Before anybody has noticed, too.
    for _ in 0..20 {
        let id = reader.create().await;
        assert!(reader.shows(id).await);
    }
    reader.until_state("no_standby", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_of_the_former_primary_is_left_out_although_it_has_more_log() {
    let (former, database) = primary(PostgresOptions::default()).await;
    let (promoted, behind) = (former.standby().await.unwrap(), former.standby().await.unwrap());
    let reader = Reader::new(&promoted.database_url(&database), &behind.database_url(&database));
    promoted.promote().await.unwrap();
    let on_former = Reader::new(&former.database_url(&database), &behind.database_url(&database));
    for _ in 0..50 {
        on_former.create().await;
    }
    on_former.uses_a_replica().await;
    reader.until_state("other_timeline", 1).await;
    for _ in 0..20 {
        let id = reader.create().await;
        assert!(reader.shows(id).await);
    }
    assert_eq!(reader.outcome("replica"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_reads_go_to_the_standbys_of_the_new_primary() {
    // A standby is copied from a standby.
    let settings = vec![("full_page_writes".to_owned(), "on".to_owned())];
    let (first, database) =
        primary(PostgresOptions { settings, ..PostgresOptions::default() }).await;
    let second = first.standby().await.unwrap();
    let third = second.standby().await.unwrap();
    let reader = Reader::new(
        &url(&[address(&first), address(&second)], &database),
        &url(&[address(&second), address(&third)], &database),
    );
    reader.until_state("used", 2).await;
    let before = reader.create().await;
    assert!(reader.shows(before).await);

    first.shutdown().await.unwrap();
    second.promote().await.unwrap();
    let created = until("writes work again", async || {
        let created = reader.writes.create_product(&new_product(1)).await;
        created.map(|product| product.id).map_err(|error| format!("{error:?}"))
    })
    .await;
    assert!(reader.shows(before).await && reader.shows(created).await);
    reader.until_state("no_standby", 1).await;
    reader.until_state("used", 1).await;
    reader.uses_a_replica().await;
    for _ in 0..20 {
        let id = reader.create().await;
        assert!(reader.shows(id).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_the_recovery_cancels_is_repeated_on_the_primary() {
    let settings = [("max_standby_streaming_delay", "0"), ("hot_standby_feedback", "off")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let (primary, database) =
        primary(PostgresOptions { settings, ..PostgresOptions::default() }).await;
    let standby = primary.standby().await.unwrap();
    let reader = Reader::new(&primary.database_url(&database), &standby.database_url(&database));
    let (read, changed) = (reader.create().await, reader.create().await);
    assert_eq!((read, changed), (ProductId(1), ProductId(2)));
    // Each read of products on the standby takes three seconds.
    let slow = "ALTER TABLE products RENAME TO kept_products; \
         CREATE VIEW products AS SELECT * FROM kept_products WHERE id = 1 \
         AND pg_sleep(CASE WHEN pg_is_in_recovery() THEN 3 ELSE 0 END) IS NOT NULL";
    execute(&primary, &database, slow).await;
    reader.uses_a_replica().await;

    let (served, conflicts) = (reader.outcome("replica"), reader.outcome("conflict"));
    let mut look = PgConnection::connect(&standby.database_url(&database)).await.unwrap();
    let reading = reader.reads.stock_levels(None, 10);
    let conflict = async {
        until("it reads on the standby", async || {
            let reads = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')";
            sqlx::query_scalar::<_, bool>(reads).fetch_one(&mut look).await.unwrap()
        })
        .await;
        let update = "UPDATE kept_products SET name = 'Lantern' WHERE id = 2";
        execute(&primary, &database, update).await;
        execute(&primary, &database, "VACUUM kept_products").await;
    };
    let (found, ()) = join(reading, conflict).await;
    let found: Vec<_> = found.unwrap().items.iter().map(|level| level.id).collect();
    assert_eq!(found, [read]);
    assert_eq!(reader.outcome("conflict"), conflicts + 1);
    assert_eq!((reader.outcome("replica"), reader.state("used")), (served, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_fail_while_the_primary_does_not_tell_its_position() {
    let (primary, database) = primary(PostgresOptions::default()).await;
    let standby = primary.standby().await.unwrap();
    let reader = Reader::new(&primary.database_url(&database), &standby.database_url(&database));
    reader.uses_a_replica().await;
    primary.kill9().await.unwrap();
    let page = ProductPage { limit: 1, ..ProductPage::default() };
    // A standby may lack commits, and nobody knows which.
    assert!(reader.reads.products(&page).await.unwrap_err().is_transient());
    assert!(reader.outcome("primary_silent") > 0);
    primary.restart().await.unwrap();
    reader.uses_a_replica().await;
}
