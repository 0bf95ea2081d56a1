//! Metrics of the product cache, which counts by itself and knows nothing of metrics; read from its
//! memory when they are scraped.

use holdfast_cache::{Cache, Gauges, Stats};
use prometheus::{
    Opts, Registry,
    core::{Collector, Desc},
    proto::{Counter as CounterValue, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::products::CachedProduct;

/// The metrics of a cache.
pub(super) struct CacheMetrics {
    cache: Cache<CachedProduct>,
    descriptions: Vec<Desc>,
}

/// A metric: its name, its help, its label (none if empty), and how its values are read.
struct Family {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: Values,
}

/// Each value of the label, and how its number is read.
type Readings<T> = &'static [(&'static str, fn(&T) -> u64)];

enum Values {
    Counters(Readings<Stats>),
    Gauges(Readings<Gauges>),
}

const FAMILIES: [Family; 15] = [
    Family {
        name: "holdfast_cache_reads_total",
        help: "Product reads, by the tier that answered: process, redis, none (the database), or shared (another read's load).",
        label: "tier",
        values: Values::Counters(&[
            ("process", |stats| stats.process_hits.get()),
            ("redis", |stats| stats.redis_hits.get()),
            ("none", |stats| stats.misses.get()),
            ("shared", |stats| stats.shared_loads.get()),
        ]),
    },
    counter(
        "holdfast_cache_invalidations_total",
        "Products fenced by this replica, because it changed them.",
        &[("", |stats| stats.raised.get())],
    ),
    Family {
        name: "holdfast_cache_fence_rejections_total",
        help: "Values that were not kept, by tier: a newer version was known, or nothing could vouch for them.",
        label: "tier",
        values: Values::Counters(&[
            ("process", |stats| stats.process_refusals.get()),
            ("redis", |stats| stats.fill_refusals.get()),
        ]),
    },
    counter(
        "holdfast_cache_fills_total",
        "Values that Redis took.",
        &[("", |stats| stats.fills.get())],
    ),
    counter(
        "holdfast_cache_peer_changes_total",
        "Changes of other replicas that arrived here.",
        &[("", |stats| stats.peer_changes.get())],
    ),
    counter(
        "holdfast_cache_patches_total",
        "Stock that was brought up to date in memory, without a load.",
        &[("", |stats| stats.patches.get())],
    ),
    counter(
        "holdfast_cache_redis_errors_total",
        "Calls of the cache to Redis that failed or took too long.",
        &[("", |stats| stats.redis_errors.get())],
    ),
    counter(
        "holdfast_cache_owed_total",
        "Invalidations that could not be delivered to Redis at once.",
        &[("", |stats| stats.owed.get())],
    ),
    counter(
        "holdfast_cache_repaid_total",
        "Owed invalidations that were delivered after all.",
        &[("", |stats| stats.repaid.get())],
    ),
    counter(
        "holdfast_cache_process_resets_total",
        "Times that the process's memory was discarded, because its subscription could not vouch for it.",
        &[("", |stats| stats.resets.get())],
    ),
    counter(
        "holdfast_cache_dropped_total",
        "Fills and messages that were dropped, because too many waited for Redis.",
        &[("", |stats| stats.dropped.get())],
    ),
    Family {
        name: "holdfast_cache_up",
        help: "Whether a tier answers reads now: 1 or 0.",
        label: "tier",
        values: Values::Gauges(&[
            ("process", |gauges| u64::from(gauges.armed)),
            ("redis", |gauges| u64::from(gauges.redis_up)),
        ]),
    },
    gauge(
        "holdfast_cache_process_products",
        "Products in the process's memory.",
        &[("", |gauges| gauges.process_entries as u64)],
    ),
    gauge(
        "holdfast_cache_process_bytes",
        "Size of the products in the process's memory, bookkeeping included.",
        &[("", |gauges| gauges.process_bytes)],
    ),
    gauge(
        "holdfast_cache_owed_invalidations",
        "Invalidations that Redis has not got yet.",
        &[("", |gauges| gauges.owed as u64)],
    ),
];

const fn counter(name: &'static str, help: &'static str, values: Readings<Stats>) -> Family {
    Family { name, help, label: "", values: Values::Counters(values) }
}

const fn gauge(name: &'static str, help: &'static str, values: Readings<Gauges>) -> Family {
    Family { name, help, label: "", values: Values::Gauges(values) }
}

impl CacheMetrics {
    /// Registers the metrics of `cache`.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry, cache: &Cache<CachedProduct>) -> prometheus::Result<()> {
        let descriptions = FAMILIES
            .iter()
            .map(|family| {
                let labels =
                    if family.label.is_empty() { vec![] } else { vec![family.label.into()] };
                let none = Opts::new("", "").const_labels;
                Desc::new(family.name.to_owned(), family.help.to_owned(), labels, none)
            })
            .collect::<prometheus::Result<_>>()?;
        registry.register(Box::new(Self { cache: cache.clone(), descriptions }))
    }
}

impl Collector for CacheMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (stats, gauges) = (self.cache.stats(), self.cache.gauges());
        FAMILIES.iter().map(|family| family.read(stats, &gauges)).collect()
    }
}

impl Family {
    fn read(&self, stats: &Stats, gauges: &Gauges) -> MetricFamily {
        let (kind, metrics) = match self.values {
            Values::Counters(values) => {
                let counted = values.iter().map(|(value, read)| {
                    let mut metric = self.labelled(value);
                    let mut shown = CounterValue::default();
                    shown.set_value(to_f64(read(stats)));
                    metric.set_counter(shown);
                    metric
                });
                (MetricType::COUNTER, counted.collect())
            }
            Values::Gauges(values) => {
                let present = values.iter().map(|(value, read)| {
                    let mut metric = self.labelled(value);
                    let mut shown = Gauge::default();
                    shown.set_value(to_f64(read(gauges)));
                    metric.set_gauge(shown);
                    metric
                });
                (MetricType::GAUGE, present.collect())
            }
        };
        let mut shown = MetricFamily::default();
        shown.set_name(self.name.to_owned());
        shown.set_help(self.help.to_owned());
        shown.set_field_type(kind);
        shown.set_metric(metrics);
        shown
    }

    fn labelled(&self, value: &str) -> Metric {
        let mut metric = Metric::default();
        if !self.label.is_empty() {
            let mut label = LabelPair::default();
            label.set_name(self.label.to_owned());
            label.set_value(value.to_owned());
            metric.set_label(vec![label]);
        }
        metric
    }
}

#[allow(clippy::cast_precision_loss)] // counts below 2^53
fn to_f64(count: u64) -> f64 {
    count as f64
}
