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
    /// Of this replica since then.
    unsent: u64,
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
        count.unsent += 1;
        count.all + count.unsent
    }

    /// The counts that Redis does not have yet, and their second.
    pub fn unsent(&self) -> (u64, Vec<(Box<str>, u64)>) {
        let unsent = self.callers.iter().filter(|(_, count)| count.unsent > 0);
        (self.second, unsent.map(|(caller, count)| (caller.clone(), count.unsent)).collect())
    }

    /// Records that Redis has added `sent` requests, and that the total is `all`.
    pub fn sent(&mut self, second: u64, caller: &str, sent: u64, all: u64) {
        if second == self.second
            && let Some(count) = self.callers.get_mut(caller)
        {
            count.unsent = count.unsent.saturating_sub(sent);
            count.all = all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_other_replicas_are_added() {
        let mut counts = Counts::default();
        assert_eq!(counts.count("a", 7), 1);
        assert_eq!(counts.count("a", 7), 2);
        let (second, unsent) = counts.unsent();
        assert_eq!((second, &unsent[..]), (7, &[("a".into(), 2)][..]));
        // Another request arrives during the exchange.
        counts.count("a", 7);
        counts.sent(7, "a", 2, 10);
        assert_eq!(counts.count("a", 7), 12);
        assert_eq!(counts.unsent().1, [("a".into(), 2)]);
    }

    #[test]
    fn a_new_second_starts_at_zero_and_ignores_the_old_one() {
        let mut counts = Counts::default();
        counts.count("a", 7);
        assert_eq!(counts.count("a", 8), 1);
        counts.sent(7, "a", 1, 100);
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
