//! Reads a page of metrics in Prometheus's text format, version 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

/// A metric with all its samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// What it says.
    pub help: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The names of its labels, `le` left out.
    pub labels: BTreeSet<String>,
    /// The upper bounds of a histogram's buckets, `+Inf` left out.
    pub bounds: Vec<f64>,
    /// Each sample's value by the line's beginning; of a histogram, the counts only.
    pub samples: BTreeMap<String, f64>,
}

/// The metrics of a page by name.
pub fn read(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some((name, help)) =
            line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            name.clone_into(&mut current);
            help.clone_into(&mut families.entry(current.clone()).or_default().help);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            name.clone_into(&mut current);
            kind.clone_into(&mut families.entry(current.clone()).or_default().kind);
        } else if let Some((series, value)) = line.rsplit_once(' ') {
            let family = families.entry(current.clone()).or_default();
            family.sample(&current, series, value.parse().unwrap_or(f64::NAN));
        }
    }
    families
}

impl Family {
    fn sample(&mut self, name: &str, series: &str, value: f64) {
        let labels = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
        // No label value of ours holds a comma or a quote.
        let mut bound = None;
        for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
            if label == "le" {
                bound = value.trim_matches('"').parse::<f64>().ok();
            } else {
                self.labels.insert(label.to_owned());
            }
        }
        if let Some(bound) = bound {
            if bound.is_finite() && !self.bounds.contains(&bound) {
                self.bounds.push(bound);
            }
        } else if self.kind != "histogram" || series.starts_with(&format!("{name}_count")) {
            self.samples.insert(series.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let families = read(
            "# HELP a_total How many.\n# TYPE a_total counter\n\
             a_total{b=\"c\"} 3\n# HELP d_seconds How long.\n# TYPE d_seconds histogram\n\
             d_seconds_bucket{e=\"f\",le=\"0.5\"} 1\nd_seconds_bucket{e=\"f\",le=\"+Inf\"} 2\n\
             d_seconds_sum{e=\"f\"} 9\nd_seconds_count{e=\"f\"} 2\n",
        );
        let counter = &families["a_total"];
        assert_eq!((counter.kind.as_str(), counter.help.as_str()), ("counter", "How many."));
        assert_eq!(counter.samples["a_total{b=\"c\"}"].to_bits(), 3_f64.to_bits());
        let histogram = &families["d_seconds"];
        assert_eq!(histogram.bounds, [0.5]);
        assert_eq!(histogram.labels.iter().collect::<Vec<_>>(), ["e"]);
        assert_eq!(histogram.samples.len(), 1, "{histogram:?}");
    }
}
