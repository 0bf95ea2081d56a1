//! Numbers of the whole system, from Redis and PostgreSQL.

use std::{sync::Arc, time::Duration};

use holdfast_queue::{Depth, Queue, QueueError};
use holdfast_store::{Store, StoreError};
use holdfast_telemetry::Chain;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// The time between two queries while there is a viewer, and otherwise.
const WATCHED: Duration = Duration::from_secs(1);
const UNWATCHED: Duration = Duration::from_secs(10);
/// How long a viewer counts after its last request.
const LOOKS: Duration = Duration::from_secs(10);
/// The age at which a number becomes unknown.
const STALE: Duration = Duration::from_secs(15);
/// A worker that has not read from the queue for this time is not counted.
pub const WORKER_SEEN: Duration = Duration::from_secs(30);
/// The number at which counting stops.
pub const COUNTED_MAX: u32 = 10_000;

/// The state of the queue in Redis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueNumbers {
    pub depth: Depth,
    /// The age of the oldest order that has not been delivered; `None` if there is none.
    pub oldest: Option<Duration>,
    pub workers: u64,
}

/// The numbers of orders in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Orders that are neither completed nor failed nor cancelled, counted up to [`COUNTED_MAX`].
    pub unfinished: u64,
    /// Failed orders, counted up to [`COUNTED_MAX`].
    pub dead_letters: u32,
}

/// Follows both. Cheap to clone.
#[derive(Clone)]
pub struct System {
    viewers: Arc<Viewers>,
    queue: Arc<LatestAnswer<QueueNumbers>>,
    backlog: Arc<LatestAnswer<Backlog>>,
    _following: Arc<[AbortOnDropHandle<()>; 2]>,
}

impl System {
    /// Must be called within a tokio runtime.
    pub fn follow(store: Store, queue: Queue) -> Self {
        let viewers = Arc::<Viewers>::default();
        let numbers = Arc::<LatestAnswer<QueueNumbers>>::default();
        let backlog = Arc::<LatestAnswer<Backlog>>::default();
        let asking_redis = follow(Arc::clone(&viewers), Arc::clone(&numbers), async move || {
            ask_redis(&queue).await.inspect_err(|error| tell("Redis", error)).ok()
        });
        let asking_database = follow(Arc::clone(&viewers), Arc::clone(&backlog), async move || {
            ask_database(&store).await.inspect_err(|error| tell("PostgreSQL", error)).ok()
        });
        let following = [
            AbortOnDropHandle::new(tokio::spawn(asking_redis)),
            AbortOnDropHandle::new(tokio::spawn(asking_database)),
        ];
        Self { viewers, queue: numbers, backlog, _following: Arc::new(following) }
    }

    /// Records a request of a viewer.
    pub fn asked(&self) {
        self.viewers.looked();
    }

    /// The queue; `None` if Redis did not answer.
    pub fn queue(&self) -> Option<QueueNumbers> {
        self.queue.get()
    }

    /// The orders; `None` if the database did not answer.
    pub fn backlog(&self) -> Option<Backlog> {
        self.backlog.get()
    }
}

fn tell(server: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::debug!(server, error = %Chain(error), "the console shows some numbers as unknown");
}

async fn ask_redis(queue: &Queue) -> Result<QueueNumbers, QueueError> {
    Ok(QueueNumbers {
        depth: queue.depth().await?,
        oldest: queue.oldest_waiting().await?,
        workers: queue.workers_seen(WORKER_SEEN).await?,
    })
}

async fn ask_database(store: &Store) -> Result<Backlog, StoreError> {
    Ok(Backlog {
        unfinished: store.count_unfinished(Some(COUNTED_MAX)).await?,
        dead_letters: store.count_dead_letters(COUNTED_MAX).await?,
    })
}

/// Queries periodically, one query at a time. Each query has the time limits of its client.
async fn follow<T: Copy>(
    viewers: Arc<Viewers>,
    latest: Arc<LatestAnswer<T>>,
    ask: impl AsyncFn() -> Option<T>,
) {
    loop {
        let begun = Instant::now();
        latest.set(ask().await);
        viewers.next(begun).await;
    }
}

/// An answer and its time.
struct LatestAnswer<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for LatestAnswer<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Copy> LatestAnswer<T> {
    fn set(&self, answer: Option<T>) {
        *self.0.lock() = answer.map(|answer| (Instant::now(), answer));
    }

    /// The answer; `None` if it is too old.
    fn get(&self) -> Option<T> {
        let latest = *self.0.lock();
        latest.filter(|(came, _)| came.elapsed() < STALE).map(|(_, answer)| answer)
    }
}

/// Whether there is a viewer.
#[derive(Default)]
struct Viewers {
    looked: Mutex<Option<Instant>>,
    came: Notify,
}

impl Viewers {
    fn looked(&self) {
        *self.looked.lock() = Some(Instant::now());
        self.came.notify_waiters();
    }

    fn are_there(&self) -> bool {
        self.looked.lock().is_some_and(|looked| looked.elapsed() < LOOKS)
    }

    /// Waits until the next query is due.
    async fn next(&self, begun: Instant) {
        tokio::time::sleep_until(begun + WATCHED).await;
        let came = self.came.notified();
        if !self.are_there() {
            let _either = tokio::time::timeout_at(begun + UNWATCHED, came).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// The number of queries in a minute while each of `viewers` sends ten requests per second.
    async fn asked_in_a_minute(viewers: u32) -> u32 {
        let (there, latest) = (Arc::<Viewers>::default(), Arc::<LatestAnswer<u32>>::default());
        let asked = Arc::new(AtomicU32::new(0));
        let counting = Arc::clone(&asked);
        let ask = async move || Some(counting.fetch_add(1, Ordering::Relaxed));
        let _following =
            AbortOnDropHandle::new(tokio::spawn(follow(Arc::clone(&there), latest, ask)));
        for _ in 0..600 {
            for _ in 0..viewers {
                there.looked();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        asked.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_viewers_causes_one_query_per_second() {
        for viewers in [1, 100] {
            let asked = asked_in_a_minute(viewers).await;
            assert!((58..=61).contains(&asked), "{viewers} viewers: {asked}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_viewers_there_are_few_queries() {
        let asked = asked_in_a_minute(0).await;
        assert!((5..=7).contains(&asked), "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_too_old_is_unknown() {
        let latest = LatestAnswer::default();
        assert_eq!(latest.get(), None);
        latest.set(Some(7));
        assert_eq!(latest.get(), Some(7));
        // The passing of time is the subject.
        tokio::time::sleep(STALE).await;
        assert_eq!(latest.get(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_without_an_answer_makes_the_number_unknown() {
        let latest = LatestAnswer::default();
        latest.set(Some(7));
        latest.set(None);
        assert_eq!(latest.get(), None);
    }
}
