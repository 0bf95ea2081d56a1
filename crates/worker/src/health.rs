//! Whether the servers that the worker needs answer, for `/readyz` and the log.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use holdfast_telemetry::Readiness;

use crate::maintenance_task::MaintenanceTask;

/// No answer yet, so that the first answer is a change in any case.
const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// Whether PostgreSQL and Redis answered the last call. A change is logged once.
pub(crate) struct WorkerHealth {
    database: AtomicU8,
    redis: AtomicU8,
    /// One bit per maintenance task whose last run failed. Redis may answer some of them and refuse others.
    failing: AtomicU8,
    ending: AtomicBool,
    readiness: Readiness,
}

impl WorkerHealth {
    /// The database counts as up, because the worker calls nothing before it has checked the schema. Redis is unknown.
    pub fn new(readiness: Readiness) -> Self {
        Self {
            database: AtomicU8::new(UP),
            redis: AtomicU8::new(UNKNOWN),
            failing: AtomicU8::new(0),
            ending: AtomicBool::new(false),
            readiness,
        }
    }

    pub fn database(&self, error: Option<&dyn std::error::Error>) {
        self.answered(&self.database, "PostgreSQL", error);
    }

    pub fn redis(&self, error: Option<&dyn std::error::Error>) {
        self.answered(&self.redis, "Redis", error);
    }

    pub fn maintenance(
        &self,
        task: MaintenanceTask,
        error: Option<&(dyn std::error::Error + 'static)>,
    ) {
        let bit = 1 << task as u8;
        let before = match error {
            Some(_) => self.failing.fetch_or(bit, Ordering::SeqCst),
            None => self.failing.fetch_and(!bit, Ordering::SeqCst),
        };
        if (before & bit != 0) == error.is_some() {
            return;
        }
        let task = task.as_str();
        if let Some(error) = error {
            let error = holdfast_telemetry::Chain(error);
            tracing::warn!(task, %error, "a maintenance task fails; trying again until it succeeds");
        } else {
            tracing::info!(task, "a maintenance task succeeds again");
        }
        self.show();
    }

    /// From now on the worker is not ready, whatever else happens.
    pub fn ending(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.show();
    }

    fn answered(&self, state: &AtomicU8, server: &str, error: Option<&dyn std::error::Error>) {
        let now = if error.is_none() { UP } else { DOWN };
        if state.swap(now, Ordering::SeqCst) == now {
            return;
        }
        if let Some(error) = error {
            let error = holdfast_telemetry::Chain(error);
            tracing::warn!(%error, "{server} does not answer; trying again until it does");
        } else {
            tracing::info!("{server} answers");
        }
        self.show();
    }

    fn show(&self) {
        if self.ending.load(Ordering::SeqCst) {
            self.readiness.not_ready("ending");
        } else if self.database.load(Ordering::SeqCst) != UP {
            self.readiness.not_ready("PostgreSQL does not answer");
        } else if self.redis.load(Ordering::SeqCst) != UP {
            self.readiness.not_ready("Redis does not answer");
        } else if self.failing.load(Ordering::SeqCst) != 0 {
            self.readiness.not_ready("a maintenance task fails");
        } else {
            self.readiness.ready();
        }
    }
}
