//! Which minimum an autoscaler gets while sales want capacity, and how it gets back what it had.
//!
//! What was found is recorded on the autoscaler itself, next to what we set. So sales compose (the
//! highest wins, and one that ends or vanishes takes only its own part along), an operator that
//! dies is replaced by one that reads the same record, and no `FlashSale` needs a finalizer.
//!
//! A minimum that is not what we set was set by somebody else: a hand, or a `helm upgrade`. Theirs
//! is then what is restored in the end.

use serde::{Deserialize, Serialize};

/// The annotation with the [`Record`].
pub const ANNOTATION: &str = "sales.holdfast.dev/minimum";

/// What we did to an autoscaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The minimum that was found, and will be restored.
    pub found: i32,
    /// The minimum that we set.
    pub set: i32,
}

/// An autoscaler, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its minimum.
    pub minimum: i32,
    /// Its maximum, which no minimum may exceed.
    pub maximum: i32,
    /// What we did to it.
    pub record: Option<Record>,
}

/// What has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinimumChange {
    /// Nothing: it is as it should be.
    Keep,
    /// This minimum, which is the record's `set`, together with the record.
    Raise(Record),
    /// This minimum, and the record goes.
    Restore(i32),
}

/// What has to be done to an autoscaler of which the sales want these minimums now.
pub fn plan(observed: Observed, wanted: impl IntoIterator<Item = i32>) -> MinimumChange {
    let found = match observed.record {
        Some(record) if record.set == observed.minimum => record.found,
        _ => observed.minimum,
    };
    match wanted.into_iter().max() {
        Some(wanted) => {
            // Somebody may have set a minimum above the maximum's former value: never lower it.
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
        /// Sales come and go, people set minimums, and the operator misses any of it.
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
                // Setting what is there already is nothing that anybody can see.
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
