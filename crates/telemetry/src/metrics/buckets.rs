//! The counts of a histogram.

use prometheus::{Histogram, core::Metric as _};

/// The counts of a histogram up to a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// The upper bound of each bucket, and the number of observations that do not exceed it.
    cumulative: Vec<(f64, u64)>,
    count: u64,
    sum: f64,
}

impl Buckets {
    /// The counts of a histogram until now.
    pub fn of(histogram: &Histogram) -> Self {
        let metric = histogram.metric();
        let counted = metric.get_histogram();
        let buckets = counted.get_bucket().iter();
        Self {
            cumulative: buckets
                .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
                .collect(),
            count: counted.get_sample_count(),
            sum: counted.get_sample_sum(),
        }
    }

    /// The counts since `earlier`, a state of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |index: usize| earlier.cumulative.get(index).map_or(0, |bucket| bucket.1);
        let buckets = self.cumulative.iter().enumerate();
        Self {
            cumulative: buckets
                .map(|(index, (bound, count))| (*bound, count.saturating_sub(before(index))))
                .collect(),
            count: self.count.saturating_sub(earlier.count),
            sum: self.sum - earlier.sum,
        }
    }

    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean of the observations; `None` if there were none.
    #[allow(clippy::cast_precision_loss)] // counts are far below 2^53
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The value that a fraction of the observations, such as 0.99, did not exceed, as in Prometheus's
    /// `histogram_quantile`: observations count as spread evenly within a bucket. Beyond the last bound, it is that
    /// bound. `None` if there were none.
    #[allow(clippy::cast_precision_loss)] // counts are far below 2^53
    pub fn quantile(&self, part: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = part * self.count as f64;
        let mut below = (0.0, 0);
        for (bound, count) in self.cumulative.iter().copied().filter(|(bound, _)| bound.is_finite())
        {
            if count as f64 >= rank {
                let within = (count - below.1) as f64;
                let share = if within > 0.0 { (rank - below.1 as f64) / within } else { 1.0 };
                return Some(below.0 + (bound - below.0) * share);
            }
            below = (bound, count);
        }
        Some(below.0)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::HistogramOpts;

    use super::*;

    fn histogram(values: &[f64]) -> Histogram {
        let options = HistogramOpts::new("waits", "Waits.").buckets(vec![1.0, 2.0, 4.0]);
        let histogram = Histogram::with_opts(options).unwrap();
        for value in values {
            histogram.observe(*value);
        }
        histogram
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let buckets = Buckets::of(&histogram(&[0.5, 1.5, 1.6, 3.0]));
        assert_eq!(buckets.quantile(0.25), Some(1.0));
        assert_eq!(buckets.quantile(0.5), Some(1.5));
        assert_eq!(buckets.quantile(1.0), Some(4.0));
        assert_eq!(buckets.mean(), Some(1.65));
    }

    #[test]
    fn values_beyond_the_last_bound_count_as_that_bound() {
        assert_eq!(Buckets::of(&histogram(&[100.0])).quantile(0.99), Some(4.0));
    }

    #[test]
    fn without_observations_there_is_no_quantile() {
        let buckets = Buckets::of(&histogram(&[]));
        assert_eq!((buckets.quantile(0.99), buckets.mean(), buckets.count()), (None, None, 0));
    }

    #[test]
    fn only_later_observations_count_since_an_earlier_state() {
        let histogram = histogram(&[0.5, 0.5]);
        let earlier = Buckets::of(&histogram);
        histogram.observe(3.0);
        let since = Buckets::of(&histogram).since(&earlier);
        assert_eq!((since.count(), since.quantile(0.5)), (1, Some(3.0)));
        assert_eq!(since.mean(), Some(3.0));
    }
}
