//! Reads pages of metrics in tests.
#![allow(clippy::panic)] // this is how a test fails

/// The sum of the series of a metric on a `/metrics` page: all series of `name`, or those of `name{label="value"}` with
/// these labels.
///
/// # Panics
/// There is no such series, because a missing metric is not 0.
#[track_caller]
pub fn metric(page: &str, series: &str) -> f64 {
    find_metric(page, series).unwrap_or_else(|| panic!("there is no {series} in\n{page}"))
}

/// Like [`metric`]; `None` if there is no such series. For metrics whose series begin with the first event.
pub fn find_metric(page: &str, series: &str) -> Option<f64> {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels: Vec<_> =
        labels.trim_end_matches('}').split(',').filter(|it| !it.is_empty()).collect();
    let values = page.lines().filter_map(|line| {
        let (this, value) = line.rsplit_once(' ')?;
        let (this_name, these) = this.split_once('{').unwrap_or((this, ""));
        let matches = this_name == name && labels.iter().all(|label| these.contains(label));
        matches.then(|| value.parse::<f64>().ok())?
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE a_total counter\na_total{x=\"1\",y=\"1\"} 2\na_total{x=\"1\",y=\"2\"} 3\nab_total 7\n";

    #[test]
    fn series_are_summed_up() {
        let close = |value: f64, other: f64| (value - other).abs() < 1e-9;
        assert!(close(metric(PAGE, "a_total"), 5.0));
        assert!(close(metric(PAGE, "a_total{y=\"2\"}"), 3.0));
        assert!(close(metric(PAGE, "ab_total"), 7.0));
    }

    #[test]
    #[should_panic(expected = "there is no b_total")]
    fn a_missing_series_is_not_0() {
        metric(PAGE, "b_total");
    }
}
