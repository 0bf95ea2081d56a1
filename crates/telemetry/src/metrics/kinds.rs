//! The kinds of metrics, each alone and with labels.

use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, core::Collector,
};

use super::Declaration;

/// A metric that can be declared.
pub trait Declarable: Collector + Clone + 'static {
    /// `counter`, `gauge` or `histogram`.
    const KIND: &'static str;

    /// Creates it, with all series whose labels are known.
    ///
    /// # Errors
    /// Prometheus does not allow the name or a label.
    fn make(declaration: &Declaration) -> Result<Self, Error>;
}

/// A metric with labels.
pub trait Family: Declarable {
    type Series;

    /// The series with these label values.
    fn series(&self, values: &[&str]) -> Self::Series;
}

/// A metric without labels, which is also a series of a metric that has them.
pub trait Single: Declarable {
    /// The same with labels.
    type Family: Family<Series = Self>;
}

macro_rules! kinds {
    ($($kind:literal $single:ident $family:ident $options:expr;)+) => {$(
        impl Declarable for $single {
            const KIND: &'static str = $kind;

            fn make(declaration: &Declaration) -> Result<Self, Error> {
                Self::with_opts($options(declaration))
            }
        }

        impl Single for $single {
            type Family = $family;
        }

        impl Declarable for $family {
            const KIND: &'static str = $kind;

            fn make(declaration: &Declaration) -> Result<Self, Error> {
                let family = Self::new($options(declaration), &declaration.label_names())?;
                for values in declaration.series() {
                    family.with_label_values(&values);
                }
                Ok(family)
            }
        }

        impl Family for $family {
            type Series = $single;

            fn series(&self, values: &[&str]) -> $single {
                self.with_label_values(values)
            }
        }
    )+};
}

fn histogram(declaration: &Declaration) -> HistogramOpts {
    HistogramOpts::from(declaration.opts()).buckets(declaration.bounds())
}

kinds! {
    "counter" IntCounter IntCounterVec Declaration::opts;
    "gauge" IntGauge IntGaugeVec Declaration::opts;
    "gauge" Gauge GaugeVec Declaration::opts;
    "histogram" Histogram HistogramVec histogram;
}
