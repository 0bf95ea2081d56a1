//! The counts of one second.

use std::collections::HashMap;

/// The most callers with separate counts in one second. Further callers share one count and one limit, so that the memory is
/// bounded.
const CALLERS_MAX: usize = 10_000;
/// The name of the shared count. No caller has it, because names have a prefix.
const OTHERS: &str = "*";

/// The counts of the current second.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    second: u64,
    callers: HashMap<Box<str>, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Of all replicas, as of the last exchange with Redis.
    all: u64,
    /// Of this one, since.
    unsaid: u64,
}

impl Counts {
    /// Counts a request, and returns the number of requests in this second including it.
    pub fn count(&mut self, caller: &str, second: u64) -> u64 {
        if second != self.second {
            // Also if the clock was set back.
            self.second = second;
            self.callers.clear();
        }
        let caller = if self.callers.len() < CALLERS_MAX || self.callers.contains_key(caller) {
            caller
        } else {
            OTHERS
        };
        let count = match self.callers.get_mut(caller) {
            Some(count) => count,
            None => self.callers.entry(caller.into()).or_default(),
        };
        count.unsaid += 1;
        count.all + count.unsaid
    }

    /// What Redis has not heard yet, and the second of it.
    pub fn unsaid(&self) -> (u64, Vec<(Box<str>, u64)>) {
        let unsaid = self.callers.iter().filter(|(_, count)| count.unsaid > 0);
        (self.second, unsaid.map(|(caller, count)| (caller.clone(), count.unsaid)).collect())
    }

    /// Redis has heard of `said` requests, and has `all`.
    pub fn told(&mut self, second: u64, caller: &str, said: u64, all: u64) {
        if second == self.second
            && let Some(count) = self.callers.get_mut(caller)
        {
            count.unsaid = count.unsaid.saturating_sub(said);
            count.all = all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_replicas_have_counted_is_added() {
        let mut counts = Counts::default();
        assert_eq!(counts.count("a", 7), 1);
        assert_eq!(counts.count("a", 7), 2);
        let (second, unsaid) = counts.unsaid();
        assert_eq!((second, &unsaid[..]), (7, &[("a".into(), 2)][..]));
        // One more comes while Redis is being told.
        counts.count("a", 7);
        counts.told(7, "a", 2, 10);
        assert_eq!(counts.count("a", 7), 12);
        assert_eq!(counts.unsaid().1, [("a".into(), 2)]);
    }

    #[test]
    fn a_new_second_begins_anew_and_hears_nothing_of_the_old() {
        let mut counts = Counts::default();
        counts.count("a", 7);
        assert_eq!(counts.count("a", 8), 1);
        counts.told(7, "a", 1, 100);
        assert_eq!(counts.count("a", 8), 2);
    }

    #[test]
    fn memory_is_bounded() {
        let mut counts = Counts::default();
        for caller in 0..2 * CALLERS_MAX {
            counts.count(&caller.to_string(), 7);
        }
        assert_eq!(counts.callers.len(), CALLERS_MAX + 1);
        assert_eq!(counts.count("0", 7), 2);
    }
}
