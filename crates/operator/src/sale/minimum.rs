//! The minimum of an autoscaler while sales want capacity, and how the original minimum is restored.
//!
//! The original minimum is recorded on the autoscaler itself, next to the one that was set. Therefore sales can overlap
//! (the highest minimum wins, and the end of a sale only removes its own part), another operator can continue with the
//! same record, and no `FlashSale` needs a finalizer.
//!
//! If the minimum differs from the one that was set, a user or a `helm upgrade` has changed it. Then that value is
//! restored in the end.

use serde::{Deserialize, Serialize};

/// The annotation with the [`Record`].
pub const ANNOTATION: &str = "sales.holdfast.dev/minimum";

/// What the operator has done to an autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The original minimum, which will be restored.
    pub found: i32,
    /// The minimum that was set.
    pub set: i32,
}

/// The state of an autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    pub minimum: i32,
    /// Its maximum, which no minimum may exceed.
    pub maximum: i32,
    /// The record, if there is one.
    pub record: Option<Record>,
}

/// What has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinimumChange {
    /// Nothing.
    Keep,
    /// This minimum, which is the record's `set`, and the record.
    Raise(Record),
    /// This minimum. The record is removed.
    Restore(i32),
}

/// What has to be written to an autoscaler if the sales want these minimums now.
pub fn plan(observed: Observed, wanted: impl IntoIterator<Item = i32>) -> MinimumChange {
    let found = match observed.record {
        Some(record) if record.set == observed.minimum => record.found,
        _ => observed.minimum,
    };
    match wanted.into_iter().max() {
        Some(wanted) => {
            // The minimum may have been above the former maximum. It is never lowered.
            let record = Record { found, set: wanted.min(observed.maximum).max(found) };
            if observed.record == Some(record) && observed.minimum == record.set {
                MinimumChange::Keep
            } else {
                MinimumChange::Raise(record)
            }
        }
        None if observed.record.is_some() => MinimumChange::Restore(found),
        None => MinimumChange::Keep,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(observed: &mut Observed, wanted: &[i32]) {
        match plan(*observed, wanted.iter().copied()) {
            MinimumChange::Keep => {}
            MinimumChange::Raise(record) => {
                observed.minimum = record.set;
                observed.record = Some(record);
            }
            MinimumChange::Restore(minimum) => {
                observed.minimum = minimum;
                observed.record = None;
            }
        }
    }

    proptest! {
        /// Sales begin and end, users set minimums, and the operator misses some of it.
        #[test]
        fn the_last_manual_setting_is_restored_and_no_sale_gets_less_than_it_needs(
            first in 1..20_i32,
            steps in prop::collection::vec(
                (prop::collection::vec(1..150_i32, 0..4), prop::option::weighted(0.3, 1..20_i32)),
                0..12,
            ),
        ) {
            let mut theirs = first;
            let mut now = Observed { minimum: first, maximum: 100, record: None };
            for (wanted, edit) in steps {
                // Setting the same value again cannot be noticed.
                if let Some(edit) = edit.filter(|edit| *edit != now.minimum) {
                    now.minimum = edit;
                    theirs = edit;
                }
                write(&mut now, &wanted);
                let highest = wanted.iter().copied().max().unwrap_or(0).min(100);
                prop_assert_eq!(now.minimum, highest.max(theirs));
                prop_assert_eq!(now.record.is_some(), !wanted.is_empty());
                prop_assert_eq!(plan(now, wanted), MinimumChange::Keep, "the second round changes nothing");
            }
            write(&mut now, &[]);
            prop_assert_eq!(now, Observed { minimum: theirs, maximum: 100, record: None });
        }
    }

    #[test]
    fn a_sale_that_ends_removes_only_its_own_part() {
        let mut now = Observed { minimum: 2, maximum: 50, record: None };
        for (wanted, minimum) in [(&[10][..], 10), (&[10, 20], 20), (&[10], 10), (&[], 2)] {
            write(&mut now, wanted);
            assert_eq!(now.minimum, minimum, "{wanted:?}");
        }
    }

    #[test]
    fn a_minimum_stays_between_the_original_minimum_and_the_maximum() {
        let mut now = Observed { minimum: 5, maximum: 8, record: None };
        write(&mut now, &[20]);
        assert_eq!(now.minimum, 8);
        write(&mut now, &[3]);
        assert_eq!(now.minimum, 5);
    }
}
