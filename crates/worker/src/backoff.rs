//! How long to wait before the next attempt.

use std::time::Duration;

use rand::Rng as _;

/// Exponential backoff with full jitter: a random time of up to `base × 2^(attempts − 1)` and at most `max`. <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

impl Backoff {
    /// For a server that is down. Short, because a queue that was lost is filled again within two seconds after Redis is
    /// up, and an attempt to connect alone may take one second.
    pub const RECONNECT: Self =
        Self { base: Duration::from_millis(100), max: Duration::from_millis(300) };

    /// For a row that another session has locked. Most locks are short, such as those of a lease renewal.
    pub const LOCKED: Self =
        Self { base: Duration::from_millis(20), max: Duration::from_millis(200) };

    /// The wait after the given number of attempts, at least 1.
    pub fn after(self, attempts: u32) -> Duration {
        let ceiling = self
            .base
            .saturating_mul(2u32.saturating_pow(attempts.saturating_sub(1).min(31)))
            .min(self.max);
        // At least a twentieth, so that it never becomes a busy loop.
        ceiling.mul_f64(rand::rng().random_range(0.05..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_to_its_maximum() {
        let backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_secs(3) };
        for (attempts, ceiling_ms) in [(1, 100), (2, 200), (5, 1600), (6, 3000), (u32::MAX, 3000)] {
            let longest = (0..500).map(|_| backoff.after(attempts)).max().unwrap_or_default();
            assert!(longest <= Duration::from_millis(ceiling_ms), "{attempts}: {longest:?}");
            assert!(longest >= Duration::from_millis(ceiling_ms / 2), "{attempts}: {longest:?}");
        }
    }
}
