//! What the worker knows of the servers it needs, for `/readyz` and for the log.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use holdfast_telemetry::Readiness;

/// Not heard of yet: so that the first answer is a change, be it good or bad.
const UNKNOWN: u8 = 0;
const WELL: u8 = 1;
const UNWELL: u8 = 2;

/// Whether PostgreSQL and Redis answered the last time. A change is logged once.
pub(crate) struct Health {
    database: AtomicU8,
    redis: AtomicU8,
    /// Whether the last round of upkeep was broken off: Redis may answer some and refuse others.
    upkeep: AtomicU8,
    ending: AtomicBool,
    readiness: Readiness,
}

impl Health {
    /// The schema has been seen, so the database is there; Redis has not been asked yet.
    pub fn new(readiness: Readiness) -> Self {
        Self {
            database: AtomicU8::new(WELL),
            redis: AtomicU8::new(UNKNOWN),
            upkeep: AtomicU8::new(WELL),
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

    pub fn upkeep(&self, error: Option<&(dyn std::error::Error + 'static)>) {
        let now = if error.is_none() { WELL } else { UNWELL };
        if self.upkeep.swap(now, Ordering::SeqCst) == now {
            return;
        }
        if let Some(error) = error {
            let error = holdfast_telemetry::Chain(error);
            tracing::warn!(%error, "the upkeep is broken off: lost orders and retries that are due wait until it is not");
        } else {
            tracing::info!("the upkeep goes on");
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
        } else if self.upkeep.load(Ordering::SeqCst) != WELL {
            self.readiness.not_ready("the upkeep is broken off");
        } else {
            self.readiness.ready();
        }
    }
}
