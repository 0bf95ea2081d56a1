//! The registry of a process: its metrics, and how they were declared.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{Error, TextEncoder, core::Collector, proto::MetricFamily};

use super::{Declarable, Declaration, Family, Single, declaration};

/// Metrics that are shown together. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    metrics: prometheus::Registry,
    declared: Arc<Mutex<Declared>>,
}

#[derive(Default)]
struct Declared {
    /// The rows of the reference page, by name.
    rows: BTreeMap<&'static str, String>,
    /// Functions that update gauges before they are shown.
    refreshes: Vec<Arc<dyn Fn() + Send + Sync>>,
    included: Vec<Registry>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// Creates a metric and registers it. Called by [`metrics!`](crate::metrics!).
    ///
    /// # Errors
    /// The name is already registered, or Prometheus does not allow it.
    pub fn declare<M: Declarable>(&self, declaration: &Declaration) -> Result<M, Error> {
        let metric = M::make(declaration)?;
        self.metrics.register(Box::new(metric.clone()))?;
        self.with(|declared| {
            declared.rows.insert(declaration.name, declaration.row(M::KIND));
        });
        Ok(metric)
    }

    /// Creates a metric with one label, registers it, and returns the series with these values. Called by
    /// [`metrics!`](crate::metrics!).
    ///
    /// # Errors
    /// The name is already registered, or Prometheus does not allow it.
    pub fn declare_each<M: Single, const N: usize>(
        &self,
        declaration: &Declaration,
        values: [&str; N],
    ) -> Result<[M; N], Error> {
        let family: M::Family = self.declare(declaration)?;
        Ok(values.map(|value| family.series(&[value])))
    }

    /// Runs `refresh` before the metrics are shown. It must not block.
    pub fn before_each_page(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.with(|declared| declared.refreshes.push(Arc::new(refresh)));
    }

    /// Shows the metrics of `other` too.
    pub fn include(&self, other: &Self) {
        self.with(|declared| declared.included.push(other.clone()));
    }

    /// All metrics in Prometheus's text format, version 0.0.4.
    ///
    /// # Errors
    /// The format cannot show a metric, which does not happen with the metrics of Holdfast.
    pub fn page(&self) -> Result<String, Error> {
        let mut page = String::with_capacity(32 * 1024);
        TextEncoder::new().encode_utf8(&self.families(), &mut page)?;
        Ok(page)
    }

    /// The reference of all metrics: a Markdown table, by name.
    pub fn reference(&self) -> String {
        // Those of the process itself are declared by the crate `prometheus`.
        let mut rows: BTreeMap<String, String> = self
            .families()
            .iter()
            .map(|family| {
                let kind = format!("{:?}", family.get_field_type()).to_lowercase();
                let row = declaration::row(family.name(), &kind, &[], "", family.help());
                (family.name().to_owned(), row)
            })
            .collect();
        self.add_rows(&mut rows);
        rows.into_values().fold(
            "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned(),
            |page, row| page + &row,
        )
    }

    fn add_rows(&self, rows: &mut BTreeMap<String, String>) {
        let included = self.with(|declared| {
            rows.extend(declared.rows.iter().map(|(name, row)| ((*name).to_owned(), row.clone())));
            declared.included.clone()
        });
        for registry in included {
            registry.add_rows(rows);
        }
    }

    fn families(&self) -> Vec<MetricFamily> {
        let (refreshes, included) =
            self.with(|declared| (declared.refreshes.clone(), declared.included.clone()));
        for refresh in refreshes {
            refresh();
        }
        let mut families = self.metrics.gather();
        families.extend(included.iter().flat_map(Self::families));
        families.sort_by(|one, other| one.name().cmp(other.name()));
        families
    }

    /// Registers metrics that another crate declares.
    pub(crate) fn add_undeclared(&self, metrics: Box<dyn Collector>) -> Result<(), Error> {
        self.metrics.register(metrics)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Declared) -> T) -> T {
        act(&mut self.declared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
