//! What the worker knows of the servers it needs, for `/readyz` and for the log.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use holdfast_telemetry::Readiness;

use crate::maintenance::Task;

/// Not heard of yet: so that the first answer is a change, be it good or bad.
const UNKNOWN: u8 = 0;
const WELL: u8 = 1;
const UNWELL: u8 = 2;

/// Whether PostgreSQL and Redis answered the last time. A change is logged once.
pub(crate) struct Health {
    database: AtomicU8,
    redis: AtomicU8,
    /// Tasks of maintenance whose last run failed, a bit each: Redis may answer some and refuse others.
    failing: AtomicU8,
    ending: AtomicBool,
    readiness: Readiness,
}

impl Health {
    /// The schema has been seen, so the database is there; Redis has not been asked yet.
    pub fn new(readiness: Readiness) -> Self {
        Self {
            database: AtomicU8::new(WELL),
            redis: AtomicU8::new(UNKNOWN),
            failing: AtomicU8::new(0),
            ending: AtomicBool::new(false),
            readiness,
        }
    }

    pub fn database(&self, error: Option<&dyn std::error::Error>) {
        self.heard(&self.database, "PostgreSQL", error);
    }

    pub fn redis(&self, error: Option<&dyn std::error::Error>) {
        self.heard(&self.redis, "Redis", error);
    }

    pub fn maintenance(&self, task: Task, error: Option<&(dyn std::error::Error + 'static)>) {
        let bit = 1 << task as u8;
        let before = match error {
            Some(_) => self.failing.fetch_or(bit, Ordering::SeqCst),
            None => self.failing.fetch_and(!bit, Ordering::SeqCst),
        };
        if (before & bit != 0) == error.is_some() {
            return;
        }
        let task = task.label();
        if let Some(error) = error {
            let error = holdfast_telemetry::Chain(error);
            tracing::warn!(task, %error, "a maintenance task fails; it is tried again until it succeeds");
        } else {
            tracing::info!(task, "a maintenance task succeeds again");
        }
        self.show();
    }

    /// From now on the worker wants no work, whatever it hears.
    pub fn ending(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.show();
    }

    fn heard(&self, state: &AtomicU8, server: &str, error: Option<&dyn std::error::Error>) {
        let now = if error.is_none() { WELL } else { UNWELL };
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
        } else if self.database.load(Ordering::SeqCst) != WELL {
            self.readiness.not_ready("PostgreSQL does not answer");
        } else if self.redis.load(Ordering::SeqCst) != WELL {
            self.readiness.not_ready("Redis does not answer");
        } else if self.failing.load(Ordering::SeqCst) != 0 {
            self.readiness.not_ready("a maintenance task fails");
        } else {
            self.readiness.ready();
        }
    }
}
