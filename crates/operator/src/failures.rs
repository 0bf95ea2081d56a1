//! Failures that are retried. Each is counted. It is logged when it begins, when its cause changes and when it ends.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use holdfast_telemetry::{Chain, metrics::IntCounterVec};
use parking_lot::Mutex;

/// The most subjects that are remembered, because they include the names of sales.
const SUBJECTS_MAX: usize = 1000;

/// Cheap to clone; all clones share the state.
#[derive(Clone)]
pub struct Failures(Arc<FailureState>);

struct FailureState {
    /// By the label `step`.
    counted: IntCounterVec,
    /// The cause of each failure that has not ended.
    failing: Mutex<BTreeMap<(&'static str, String), String>>,
}

impl Failures {
    pub fn new(counted: IntCounterVec) -> Self {
        Self(Arc::new(FailureState { counted, failing: Mutex::default() }))
    }

    /// Records the result of a step for a subject, and returns its value.
    pub fn heard<T, E: Error>(
        &self,
        step: &'static str,
        subject: &str,
        outcome: Result<T, E>,
    ) -> Option<T> {
        let mut failing = self.0.failing.lock();
        let key = (step, subject.to_owned());
        match outcome {
            Ok(value) => {
                if failing.remove(&key).is_some() {
                    tracing::info!(step, subject, "works again");
                }
                Some(value)
            }
            Err(error) => {
                self.0.counted.with_label_values(&[step]).inc();
                let cause = Chain(&error).to_string();
                if failing.get(&key) != Some(&cause) {
                    tracing::warn!(step, subject, error = cause, "failed; trying again");
                    if failing.len() >= SUBJECTS_MAX {
                        failing.clear();
                    }
                    failing.insert(key, cause);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OperatorMetrics;

    #[test]
    fn each_failure_is_counted_and_remembered_until_it_ends() {
        let registry = holdfast_telemetry::Registry::default();
        let counted = OperatorMetrics::unmeasured(&registry).unwrap().sync_failures.clone();
        let failures = Failures::new(counted.clone());
        for outcome in [Err(std::fmt::Error), Err(std::fmt::Error), Ok(1)] {
            assert_eq!(failures.heard("sales", "a", outcome), outcome.ok());
        }
        assert_eq!(counted.with_label_values(&["sales"]).get(), 2);
        assert!(failures.0.failing.lock().is_empty());
    }
}
