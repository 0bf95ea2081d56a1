//! Metrics, each declared once: the [`metrics!`](crate::metrics!) macro creates the struct that code uses, registers
//! it, and keeps the declaration for the reference page.
//!
//! ```
//! holdfast_telemetry::metrics! {
//!     /// The metrics of the post room.
//!     pub struct PostMetrics {
//!         /// Letters that were sent.
//!         pub sent: IntCounter = "post_sent_total",
//!         /// Letters that were refused.
//!         pub refused: IntCounterVec = "post_refused_total" { reason: ["address", "weight"] },
//!         /// Time from the letter box to the door.
//!         pub transit: Histogram = "post_transit_seconds" [[3600.0, 86_400.0]],
//!         /// Letters in the room.
//!         "post_letters" by state { pub sorted: IntGauge = "sorted", pub unsorted: IntGauge = "unsorted" },
//!     }
//! }
//!
//! let registry = holdfast_telemetry::metrics::Registry::default();
//! let metrics = PostMetrics::new(&registry)?;
//! metrics.sent.inc();
//! metrics.unsorted.set(3);
//! assert!(registry.page()?.contains("# HELP post_sent_total Letters that were sent.\n"));
//! assert!(registry.reference().contains("| `post_refused_total` | counter | `reason`: address, weight |"));
//! # Ok::<(), holdfast_telemetry::metrics::Error>(())
//! ```
//!
//! Labels follow the name in braces. A label whose values are listed has all its series from the start: a counter that is
//! absent cannot be told from one that is 0. The buckets of a histogram follow in brackets.

mod buckets;
mod declaration;
mod kinds;
mod registry;

pub use buckets::Buckets;
pub use declaration::Declaration;
pub use kinds::{Declarable, Family, Single};
pub use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec,
};
pub use registry::Registry;

/// Buckets of a histogram: `N` bounds from `first` up, each twice the one before.
pub const fn doubling<const N: usize>(first: f64) -> [f64; N] {
    let mut bounds = [first; N];
    let mut next = 1;
    while next < N {
        bounds[next] = bounds[next - 1] * 2.0;
        next += 1;
    }
    bounds
}

/// Declares metrics; the [module](crate::metrics) shows how.
#[macro_export]
macro_rules! metrics {
    // All metrics have been processed.
    (@take [$(#[$about:meta])* $vis:vis $name:ident]
        [$($fields:tt)*] [$registry:ident $($statements:tt)*] [$($names:ident)*]) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        $vis struct $name { $($fields)* }

        impl $name {
            /// Creates and registers the metrics.
            ///
            /// # Errors
            /// A name is already registered.
            $vis fn new(
                $registry: &$crate::metrics::Registry,
            ) -> ::std::result::Result<Self, $crate::metrics::Error> {
                $($statements)*
                Ok(Self { $($names),* })
            }
        }
    };
    // A metric that is one field, with or without labels.
    (@take $head:tt [$($fields:tt)*] [$registry:ident $($statements:tt)*] [$($names:ident)*]
        $(#[doc = $help:literal])+
        $vis:vis $field:ident: $kind:ident = $metric:literal
        $({ $($label:ident $(: $values:expr)?),+ })? $([$buckets:expr])?,
        $($rest:tt)*) => {
        $crate::metrics!(@take $head
            [$($fields)* $(#[doc = $help])+ $vis $field: $crate::metrics::$kind,]
            [$registry $($statements)*
                let $field = $registry.declare::<$crate::metrics::$kind>(
                    &$crate::metrics::Declaration::new($metric, concat!($($help),+))
                        $($(.label(stringify!($label), $crate::metrics!(@values $($values)?)))+)?
                        $(.buckets(&$buckets))?
                )?;
            ]
            [$($names)* $field]
            $($rest)*);
    };
    // A metric that has a field for each value of its only label.
    (@take $head:tt [$($fields:tt)*] [$registry:ident $($statements:tt)*] [$($names:ident)*]
        $(#[doc = $help:literal])+
        $metric:literal by $label:ident {
            $($vis:vis $field:ident: $kind:ident = $value:literal),+ $(,)?
        } $([$buckets:expr])?,
        $($rest:tt)*) => {
        $crate::metrics!(@take $head
            [$($fields)* $(
                #[doc = concat!("`", $metric, "` where the label is `", $value, "`.")]
                $vis $field: $crate::metrics::$kind,
            )+]
            [$registry $($statements)*
                let [$($field),+] = $registry.declare_each(
                    &$crate::metrics::Declaration::new($metric, concat!($($help),+))
                        .label(stringify!($label), &[$($value),+])
                        $(.buckets(&$buckets))?,
                    [$($value),+],
                )?;
            ]
            [$($names)* $($field)+]
            $($rest)*);
    };
    (@values) => { &[] };
    (@values $values:expr) => { &$values };
    ($(#[$about:meta])* $vis:vis struct $name:ident { $($metrics:tt)+ }) => {
        $crate::metrics!(@take [$(#[$about])* $vis $name] [] [registry] [] $($metrics)+);
    };
}
