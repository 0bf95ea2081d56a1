//! Another Redis server becomes the primary while workers work.

use std::time::Duration;

use holdfast_queue::{Queue, QueueSettings};
use holdfast_sandbox::{RedisSentinels, until};
use holdfast_worker::{Simulated, WorkerSettings};

use crate::fixture::{WorkerFixture, quick};

/// No order has been pending long enough for the sweep, so missing orders are published because the primary is new.
#[tokio::test]
async fn orders_are_completed_over_a_failover() {
    let group = RedisSentinels::start(&[], "").await.unwrap();
    group.until_complete("").await;
    let block = Duration::from_millis(200);
    let queue = Queue::connect(QueueSettings { block, ..QueueSettings::new(group.url()) }).unwrap();
    let shop = WorkerFixture { queue, ..WorkerFixture::open().await };
    let settings = WorkerSettings { sweep_after: Duration::from_hours(1), ..quick() };
    let slow = Simulated { duration: Duration::from_millis(20), fail_percent: 0 };
    let _workers = [shop.worker(settings, slow), shop.worker(settings, slow)];
    let ids = shop.orders(2_000).await;
    shop.publish(&ids).await;
    until("some orders are completed", async || shop.count("completed").await > 50).await;
    group.servers()[0].kill9().await.unwrap();
    shop.until("completed", 2_000).await;
    until("the depth is known again", async || {
        let depth = shop.queue.whole_depth().await.map_err(|error| error.to_string())?;
        if depth.total() == 0 { Ok(()) } else { Err(format!("{depth:?}")) }
    })
    .await;
}
