//! The phase of a sale at a given time.
//!
//! Nothing is remembered. Clock changes, an operator that was down for an hour and an edited window all lead to the
//! correct phase for the current time.

use jiff::{SignedDuration, Timestamp};

use super::resource::{FlashSaleSpec, Phase};

/// The times of a sale, in order: `warms_at` <= `starts_at` < `ends_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// When the capacity is raised.
    pub warms_at: Timestamp,
    /// When orders begin to be accepted.
    pub starts_at: Timestamp,
    /// From when no orders are accepted.
    pub ends_at: Timestamp,
}

/// Why a spec has no timeline. The API server refuses most such specs at admission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimelineError {
    /// A time cannot be read.
    #[error("spec.{0} is not a time such as 2026-11-27T10:00:00Z")]
    Unreadable(&'static str),
    /// The end is not after the start.
    #[error("spec.endsAt must be after spec.startsAt")]
    Empty,
    /// The warm-up would begin after the start or too far in the past.
    #[error("spec.warmUpSeconds must be 0 to 86400")]
    Lead,
}

impl Timeline {
    /// Reads the times of a spec.
    pub fn of(spec: &FlashSaleSpec) -> Result<Self, TimelineError> {
        let time = |field, text: &str| {
            text.parse::<Timestamp>().map_err(|_error| TimelineError::Unreadable(field))
        };
        let starts_at = time("startsAt", &spec.starts_at)?;
        let ends_at = time("endsAt", &spec.ends_at)?;
        if ends_at <= starts_at {
            return Err(TimelineError::Empty);
        }
        if !(0..=86_400).contains(&spec.warm_up_seconds) {
            return Err(TimelineError::Lead);
        }
        let warms_at = starts_at
            .checked_sub(SignedDuration::from_secs(spec.warm_up_seconds))
            .map_err(|_error| TimelineError::Lead)?;
        Ok(Self { warms_at, starts_at, ends_at })
    }

    /// The phase at a time. Each start belongs to the phase that it begins.
    pub fn phase(&self, now: Timestamp) -> Phase {
        if now >= self.ends_at {
            Phase::Closed
        } else if now >= self.starts_at {
            Phase::Open
        } else if now >= self.warms_at {
            Phase::Warming
        } else {
            Phase::Scheduled
        }
    }

    /// Whether the capacity must be ready.
    pub fn wants_capacity(&self, now: Timestamp) -> bool {
        matches!(self.phase(now), Phase::Warming | Phase::Open)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec(starts_at: &str, ends_at: &str, warm_up_seconds: i64) -> FlashSaleSpec {
        serde_json::from_value(serde_json::json!({
            "products": [1], "startsAt": starts_at, "endsAt": ends_at,
            "warmUpSeconds": warm_up_seconds, "workers": {"minReplicas": 2},
        }))
        .unwrap()
    }

    #[test]
    fn each_phase_begins_at_its_second_and_ends_before_the_next() {
        let sale = Timeline::of(&spec("2026-11-27T10:00:00Z", "2026-11-27T11:00:00+00:00", 60));
        let sale = sale.unwrap();
        for (now, phase) in [
            ("2026-11-27T09:58:59.999Z", Phase::Scheduled),
            ("2026-11-27T09:59:00Z", Phase::Warming),
            ("2026-11-27T09:59:59.999Z", Phase::Warming),
            ("2026-11-27T10:00:00Z", Phase::Open),
            ("2026-11-27T10:59:59.999Z", Phase::Open),
            ("2026-11-27T11:00:00Z", Phase::Closed),
        ] {
            assert_eq!(sale.phase(now.parse().unwrap()), phase, "{now}");
        }
    }

    #[test]
    fn a_spec_without_a_window_is_refused_and_the_field_is_named() {
        let good = "2026-11-27T10:00:00Z";
        let refused = |spec| Timeline::of(&spec).unwrap_err();
        assert_eq!(refused(spec("soon", good, 0)), TimelineError::Unreadable("startsAt"));
        assert_eq!(refused(spec(good, "later", 0)), TimelineError::Unreadable("endsAt"));
        assert_eq!(refused(spec(good, good, 0)), TimelineError::Empty);
        assert_eq!(refused(spec(good, "2026-11-27T10:00:01Z", -1)), TimelineError::Lead);
    }
}
