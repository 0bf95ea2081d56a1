//! The console: a page on the admin port that shows operators the current state of the system.
//!
//! The console is not on the path of an order. Once per second, a task reads this process's metrics from memory and keeps
//! the last five minutes. Two other tasks read numbers of the whole system from Redis and PostgreSQL: once per second
//! while there is a viewer, and rarely otherwise. Requests are answered from memory, so the number of viewers does not
//! affect either server.
//!
//! | file | subject |
//! |---|---|
//! | `history` | the last five minutes of this process |
//! | `system` | the numbers of the whole system |
//! | `snapshot` | current statistics, as `GET /stats` shows them |
//! | `charts` | the history as SVG |
//! | `page` | the page and its files |

pub mod charts;
mod history;
pub mod page;
mod snapshot;
mod system;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use holdfast_admission::AdmissionMetrics;
use holdfast_queue::Queue;
use holdfast_store::Store;
use holdfast_telemetry::Readiness;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use self::{
    charts::{Chart, Rendered},
    history::ConsoleHistory,
    system::System,
};

pub use self::snapshot::StatsBody;

/// The time between two reads of this process's metrics.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The data of the console. Cheap to clone. Its tasks end when the last clone is dropped.
#[derive(Clone)]
pub struct Console(Arc<ConsoleParts>);

struct ConsoleParts {
    replica: ConsoleReplica,
    readiness: Readiness,
    history: Arc<Mutex<ConsoleHistory>>,
    system: System,
    rendered: Mutex<Rendered>,
    _sampling: AbortOnDropHandle<()>,
}

/// The process that the numbers are from.
#[derive(Clone, Debug)]
struct ConsoleReplica {
    /// The host name, which is the name of the pod in Kubernetes.
    name: String,
    started_at: Timestamp,
}

impl ConsoleReplica {
    fn this() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = match host.trim() {
            "" => "unnamed host",
            host => host,
        };
        let name = format!("{host} (process {})", std::process::id());
        Self { name, started_at: Timestamp::now() }
    }
}

impl Console {
    /// Starts to follow the metrics of this process, the queue and the database. `queue` should have its own connection, so
    /// that nothing waits for the console's queries. Must be called within a tokio runtime.
    pub fn start(
        metrics: Arc<AdmissionMetrics>,
        store: Store,
        queue: Queue,
        readiness: Readiness,
    ) -> Self {
        let history = Arc::new(Mutex::new(ConsoleHistory::default()));
        let system = System::follow(store, queue);
        let sampling = sample(metrics, Arc::clone(&history), system.clone());
        Self(Arc::new(ConsoleParts {
            replica: ConsoleReplica::this(),
            readiness,
            history,
            system,
            rendered: Mutex::default(),
            _sampling: AbortOnDropHandle::new(tokio::spawn(sampling)),
        }))
    }

    /// Current statistics.
    pub fn stats(&self) -> StatsBody {
        let ConsoleParts { replica, readiness, history, system, .. } = &*self.0;
        system.asked();
        StatsBody::new(replica, readiness, &history.lock(), system)
    }

    /// A chart of the last five minutes, drawn at most once for each sample.
    ///
    /// # Errors
    /// The chart could not be drawn.
    pub fn chart(&self, chart: Chart, width: u32) -> Result<Bytes, charts::DrawError> {
        let ConsoleParts { history, system, rendered, .. } = &*self.0;
        system.asked();
        rendered.lock().chart(&history.lock(), chart, width)
    }
}

/// Reads the metrics periodically.
async fn sample(
    metrics: Arc<AdmissionMetrics>,
    history: Arc<Mutex<ConsoleHistory>>,
    system: System,
) {
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        let (counts, queue) = (metrics.counts(), system.queue());
        history.lock().push(now, counts, queue);
    }
}
