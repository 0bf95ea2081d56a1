//! Short forms of `PromQL` that several panels use.
//!
//! Every selector contains [`SCOPE`]: the namespaces and releases that are selected above the dashboard. If all are
//! selected, it also matches series without these labels, such as those of compose.

/// The selection above the dashboard.
pub const SCOPE: &str = r#"namespace=~"$namespace",release=~"$release""#;

/// The series of `metric` with these `labels` (`a="b",c="d"`; empty for all).
pub fn select(metric: &str, labels: &str) -> String {
    let comma = if labels.is_empty() { "" } else { "," };
    format!("{metric}{{{SCOPE}{comma}{labels}}}")
}

/// The increase of a counter per second, summed by `by` (empty for one number).
pub fn rate(metric: &str, labels: &str, by: &str) -> String {
    format!("{}(rate({}[$__rate_interval]))", sum(by), select(metric, labels))
}

/// A gauge, summed by `by` (empty for one number).
pub fn total(metric: &str, labels: &str, by: &str) -> String {
    format!("{}({})", sum(by), select(metric, labels))
}

/// The maximum of a gauge by `by` (empty for one number), for values that every replica reports.
pub fn largest(metric: &str, labels: &str, by: &str) -> String {
    let by = if by.is_empty() { String::new() } else { format!(" by ({by}) ") };
    format!("max{by}({})", select(metric, labels))
}

/// A quantile (0 to 1) of a histogram by `by` (empty for one number).
pub fn quantile(quantile: f64, histogram: &str, labels: &str, by: &str) -> String {
    let le = if by.is_empty() { "le".to_owned() } else { format!("{by}, le") };
    let buckets = select(&format!("{histogram}_bucket"), labels);
    format!("histogram_quantile({quantile}, sum by ({le}) (rate({buckets}[$__rate_interval])))")
}

/// The mean of the values of a histogram.
pub fn mean(histogram: &str) -> String {
    let sum = rate(&format!("{histogram}_sum"), "", "");
    let count = rate(&format!("{histogram}_count"), "", "");
    format!("{sum} / ({count} > 0)")
}

fn sum(by: &str) -> String {
    if by.is_empty() { "sum".to_owned() } else { format!("sum by ({by}) ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_the_scope_in_every_selector() {
        assert_eq!(
            rate("a_total", "b=\"c\"", "d"),
            "sum by (d) (rate(a_total{namespace=~\"$namespace\",release=~\"$release\",b=\"c\"}[$__rate_interval]))"
        );
        assert_eq!(
            quantile(0.99, "a_seconds", "", ""),
            "histogram_quantile(0.99, sum by (le) (rate(a_seconds_bucket{namespace=~\"$namespace\",release=~\"$release\"}[$__rate_interval])))"
        );
        assert_eq!(total("a", "", ""), "sum(a{namespace=~\"$namespace\",release=~\"$release\"})");
        assert!(mean("a_seconds").contains("a_seconds_count{namespace"));
    }
}
