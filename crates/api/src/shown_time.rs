//! A time as the API shows it.

use holdfast_domain::time;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// A time, always with six digits and in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownTime(pub Timestamp);

impl From<Timestamp> for ShownTime {
    fn from(time: Timestamp) -> Self {
        Self(time)
    }
}

impl Serialize for ShownTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        time::serialize(&self.0, serializer)
    }
}
