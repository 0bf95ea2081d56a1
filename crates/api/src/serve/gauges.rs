//! Metrics of what lives in other crates, read when they are scraped: the database's connections
//! and the cache.

use holdfast_cache::{Cache, Counter, Stats};
use holdfast_store::Store;
use prometheus::{
    Opts, Registry,
    core::{Collector, Desc},
    proto::{Counter as CounterValue, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::products::CachedProduct;

/// Registers them.
///
/// # Errors
/// A name is registered already.
pub(super) fn register(
    registry: &Registry,
    store: &Store,
    cache: &Cache<CachedProduct>,
) -> prometheus::Result<()> {
    let families = [CACHE_READS, CACHE_EVENTS, CACHE_STATE, DB_CONNECTIONS];
    let descriptions = families
        .iter()
        .map(|family| {
            let label = family.label.to_owned();
            Desc::new(
                family.name.to_owned(),
                family.help.to_owned(),
                vec![label],
                Opts::new("", "").const_labels,
            )
        })
        .collect::<prometheus::Result<_>>()?;
    registry.register(Box::new(Observed {
        store: store.clone(),
        cache: cache.clone(),
        descriptions,
    }))
}

struct Family {
    name: &'static str,
    help: &'static str,
    label: &'static str,
}

const CACHE_READS: Family = Family {
    name: "holdfast_cache_reads_total",
    help: "Product reads, by the tier that answered: process, redis, none (the database), or shared (another read's load).",
    label: "tier",
};
const CACHE_EVENTS: Family = Family {
    name: "holdfast_cache_events_total",
    help: "What the product cache has done besides answering: invalidations, fills, refusals by its fence, errors of Redis.",
    label: "event",
};
const CACHE_STATE: Family = Family {
    name: "holdfast_cache_state",
    help: "The product cache now: whether memory and Redis answer (1 or 0), products and bytes in memory, invalidations owed to Redis.",
    label: "what",
};
const DB_CONNECTIONS: Family = Family {
    name: "holdfast_db_connections",
    help: "Database connections by pool and state: the main pool's, and admission's with the most that it may have.",
    label: "state",
};

struct Observed {
    store: Store,
    cache: Cache<CachedProduct>,
    descriptions: Vec<Desc>,
}

impl Collector for Observed {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = self.cache.stats();
        let gauges = self.cache.gauges();
        let idle = self.store.pool().num_idle() as u64;
        let connections = [
            ("main_in_use", u64::from(self.store.pool().size()).saturating_sub(idle)),
            ("main_idle", idle),
            ("admission_in_use", self.store.admission_connections_in_use() as u64),
            ("admission_max", self.store.admission_connections() as u64),
        ];
        let present = [
            ("process_up", u64::from(gauges.armed)),
            ("redis_up", u64::from(gauges.redis_up)),
            ("process_products", gauges.process_entries as u64),
            ("process_bytes", gauges.process_bytes),
            ("owed", gauges.owed as u64),
        ];
        vec![
            counters(&CACHE_READS, &reads(stats)),
            counters(&CACHE_EVENTS, &events(stats)),
            gauges_of(&CACHE_STATE, &present),
            gauges_of(&DB_CONNECTIONS, &connections),
        ]
    }
}

fn reads(stats: &Stats) -> [(&'static str, &Counter); 4] {
    [
        ("process", &stats.process_hits),
        ("redis", &stats.redis_hits),
        ("none", &stats.misses),
        ("shared", &stats.shared_loads),
    ]
}

fn events(stats: &Stats) -> [(&'static str, &Counter); 11] {
    [
        ("invalidated", &stats.raised),
        ("patched", &stats.patches),
        ("peer_change", &stats.peer_changes),
        ("filled", &stats.fills),
        ("fill_refused", &stats.fill_refusals),
        ("process_refused", &stats.process_refusals),
        ("redis_error", &stats.redis_errors),
        ("owed", &stats.owed),
        ("repaid", &stats.repaid),
        ("process_reset", &stats.resets),
        ("dropped", &stats.dropped),
    ]
}

fn counters(family: &Family, values: &[(&str, &Counter)]) -> MetricFamily {
    let metrics = values.iter().map(|(value, counter)| {
        let mut metric = labelled(family, value);
        let mut shown = CounterValue::default();
        shown.set_value(to_f64(counter.get()));
        metric.set_counter(shown);
        metric
    });
    with_metrics(family, MetricType::COUNTER, metrics.collect())
}

fn gauges_of(family: &Family, values: &[(&str, u64)]) -> MetricFamily {
    let metrics = values.iter().map(|(value, number)| {
        let mut metric = labelled(family, value);
        let mut shown = Gauge::default();
        shown.set_value(to_f64(*number));
        metric.set_gauge(shown);
        metric
    });
    with_metrics(family, MetricType::GAUGE, metrics.collect())
}

fn labelled(family: &Family, value: &str) -> Metric {
    let mut label = LabelPair::default();
    label.set_name(family.label.to_owned());
    label.set_value(value.to_owned());
    let mut metric = Metric::default();
    metric.set_label(vec![label]);
    metric
}

fn with_metrics(family: &Family, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut shown = MetricFamily::default();
    shown.set_name(family.name.to_owned());
    shown.set_help(family.help.to_owned());
    shown.set_field_type(kind);
    shown.set_metric(metrics);
    shown
}

#[allow(clippy::cast_precision_loss)] // counts below 2^53
fn to_f64(count: u64) -> f64 {
    count as f64
}
