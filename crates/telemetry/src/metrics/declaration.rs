//! What the declaration of a metric states.

use std::fmt::Write as _;

use prometheus::Opts;

/// A metric as it was declared.
#[derive(Clone, Debug)]
pub struct Declaration {
    pub(super) name: &'static str,
    help: &'static str,
    labels: Vec<(&'static str, Vec<&'static str>)>,
    buckets: Vec<f64>,
}

impl Declaration {
    /// Without labels and buckets.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help: help.trim(), labels: Vec::new(), buckets: Vec::new() }
    }

    /// Adds a label and its values, none if they are not known beforehand.
    #[must_use]
    pub fn label(mut self, name: &'static str, values: &[&'static str]) -> Self {
        self.labels.push((name, values.to_vec()));
        self
    }

    /// Sets the upper bounds of a histogram's buckets.
    #[must_use]
    pub fn buckets(mut self, bounds: &[f64]) -> Self {
        self.buckets = bounds.to_vec();
        self
    }

    pub(super) fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    pub(super) fn bounds(&self) -> Vec<f64> {
        self.buckets.clone()
    }

    pub(super) fn label_names(&self) -> Vec<&str> {
        self.labels.iter().map(|(name, _)| *name).collect()
    }

    /// The label values of each series, if those of all labels are known.
    pub(super) fn series(&self) -> Vec<Vec<&'static str>> {
        self.labels.iter().fold(vec![Vec::new()], |series, (_, values)| {
            series
                .iter()
                .flat_map(|before| values.iter().map(|value| [before, &[*value][..]].concat()))
                .collect()
        })
    }

    /// The row of the reference page.
    pub(super) fn row(&self, kind: &str) -> String {
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|(name, values)| match values.as_slice() {
                [] => format!("`{name}`"),
                values => format!("`{name}`: {}", values.join(", ")),
            })
            .collect();
        row(self.name, kind, &self.buckets, &labels.join("; "), self.help)
    }
}

/// A row of the reference page.
pub(super) fn row(name: &str, kind: &str, buckets: &[f64], labels: &str, help: &str) -> String {
    let mut row = format!("| `{name}` | {kind}");
    if let [first, .., last] = buckets {
        let _ = write!(row, " ({} buckets, {first} to {last})", buckets.len());
    }
    let _ = writeln!(row, " | {labels} | {help} |");
    row
}
