//! `docs/metrics.md`, from the pages of metrics that the binaries print.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::page::Family;

const HEAD: &str = "\
# Metrics

<!-- Written by a test, from the pages that the binaries print with their subcommand `metrics`. Type
     WRITE_DOCS=1 cargo test -p holdfast-observe --test it fresh
     to write it anew after the metrics have changed. -->

Each process shows its metrics at `/metrics` on its internal port (`HOLDFAST_METRICS_ADDR`), in
Prometheus's text format. A scrape reads memory only: it asks neither PostgreSQL nor Redis. Labels
are bounded: routes are templates, and no id is ever a label. Histograms are classic ones, with
buckets chosen for what they measure.

There are no exemplars, and no OpenMetrics: the crate `prometheus` carries neither. From a slow
moment to a trace the way is by time and by route, or by the trace id in the log.

`NaN` means that the value is not known at the moment; it is never shown as the last known or as 0.

What they mean together, and which dashboards and alerts are made of them: [observability.md](observability.md).
";

/// The page for these processes, each with its metrics.
pub fn render(processes: &[(&str, BTreeMap<String, Family>)]) -> String {
    let mut text = HEAD.to_owned();
    for (process, families) in processes {
        let _ = write!(
            text,
            "\n## `{process}`\n\n| metric | kind | labels | what it tells |\n|---|---|---|---|\n"
        );
        for (name, family) in families {
            let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let buckets = match (family.bounds.first(), family.bounds.last()) {
                (Some(first), Some(last)) => {
                    format!(" ({} buckets, {first} to {last})", family.bounds.len())
                }
                _ => String::new(),
            };
            let (kind, labels) = (&family.kind, labels.join(", "));
            let _ = writeln!(text, "| `{name}` | {kind}{buckets} | {labels} | {} |", family.help);
        }
    }
    text
}
