//! The metrics of read replicas.

use std::{sync::Arc, time::Duration};

use holdfast_telemetry::{Registry, metrics};

use super::{LeftOut, ReadReplicas};

/// How a read ended that a replica could have served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// A replica served it.
    Replica,
    /// The primary served it, because all replicas are left out.
    NoReplica,
    /// The primary served it, because the primary did not report its position in time.
    PrimarySilent,
    /// The primary served it, because the replica had no free connection in time.
    Busy,
    /// The primary served it, because the replica had not replayed enough in time.
    Behind,
    /// The primary served it, because the read conflicted with the replica's recovery.
    Conflict,
    /// The primary served it, because the replica failed.
    Failed,
}

/// The states of replicas, as in the label.
const STATES: [&str; LeftOut::ALL.len() + 1] = [
    "used",
    LeftOut::ALL[0].word(),
    LeftOut::ALL[1].word(),
    LeftOut::ALL[2].word(),
    LeftOut::ALL[3].word(),
    LeftOut::ALL[4].word(),
    LeftOut::ALL[5].word(),
];

/// From 100 µs to 1 s.
const WAITS: [f64; 9] = [0.000_1, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 1.0];

holdfast_telemetry::metrics! {
    /// The metrics of the read replicas of a store.
    pub struct ReadReplicaMetrics {
        /// Reads that a read replica could serve, by where they were served or why the primary served them: it served
        /// them because all replicas are left out (`no_replica`), because it did not tell its position
        /// (`primary_silent`), or because the replica had no free connection (`busy`), had not replayed enough
        /// (`behind`), cancelled the read for its recovery (`conflict`) or failed (`failed`).
        "holdfast_read_replica_reads_total" by outcome {
            replica: IntCounter = "replica",
            no_replica: IntCounter = "no_replica",
            primary_silent: IntCounter = "primary_silent",
            busy: IntCounter = "busy",
            behind: IntCounter = "behind",
            conflict: IntCounter = "conflict",
            failed: IntCounter = "failed",
        },
        /// Time until a replica could serve a read: the question to the primary, and the wait until the replica had
        /// replayed enough.
        wait: Histogram = "holdfast_read_replica_wait_seconds" [WAITS],
        /// Questions to the primary for its position. Reads that wait at the same time share one.
        questions: IntCounter = "holdfast_read_replica_questions_total",
        /// Read replicas, by state: used, or the reason why they are left out.
        replicas: IntGaugeVec = "holdfast_read_replicas" { state: STATES },
        /// The largest distance of a read replica from the primary, when each was asked last.
        lag: IntGauge = "holdfast_read_replica_lag_bytes",
    }
}

impl ReadReplicaMetrics {
    /// Creates and registers the metrics. From then on, the reads are counted.
    ///
    /// # Errors
    /// A name is registered already.
    pub(crate) fn register(
        registry: &Registry,
        replicas: Option<&Arc<ReadReplicas>>,
    ) -> Result<(), metrics::Error> {
        let metrics = Self::new(registry)?;
        let Some(replicas) = replicas.cloned() else { return Ok(()) };
        // Fails if the store is registered already.
        let _ = replicas.metrics.set(metrics.clone());
        registry.before_each_page(move || metrics.show(&replicas));
        Ok(())
    }

    pub(super) fn count(&self, outcome: ReadOutcome) {
        match outcome {
            ReadOutcome::Replica => &self.replica,
            ReadOutcome::NoReplica => &self.no_replica,
            ReadOutcome::PrimarySilent => &self.primary_silent,
            ReadOutcome::Busy => &self.busy,
            ReadOutcome::Behind => &self.behind,
            ReadOutcome::Conflict => &self.conflict,
            ReadOutcome::Failed => &self.failed,
        }
        .inc();
    }

    pub(super) fn waited(&self, waited: Duration) {
        self.wait.observe(waited.as_secs_f64());
    }

    fn show(&self, replicas: &Arc<ReadReplicas>) {
        let states: Vec<_> = replicas.each.iter().map(super::ReadReplica::left_out).collect();
        let show = |word, state| {
            let count = states.iter().filter(|found| **found == state).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.replicas.with_label_values(&[word]).set(count);
        };
        show("used", None);
        for reason in LeftOut::ALL {
            show(reason.word(), Some(reason));
        }
        self.lag.set(replicas.each.iter().map(super::ReadReplica::lag).max().unwrap_or(0));
        let asked = replicas.position.questions();
        self.questions.inc_by(asked.saturating_sub(self.questions.get()));
    }
}
