//! A trace as a tree of text, as in `docs/tracing.md`.

use std::fmt::Write as _;

use super::collector::Span;

/// The attributes of spans that are shown.
const SHOWN: [&str; 12] = [
    "http.response.status_code",
    "holdfast.cache.tier",
    "holdfast.lane",
    "holdfast.batch.orders",
    "holdfast.lock.wait_ms",
    "holdfast.queue.wait_ms",
    "holdfast.order.tries",
    "holdfast.outcome",
    "db.operation.name",
    "db.operation.batch.size",
    "messaging.operation.name",
    "error.type",
];

/// The spans below `parent`, in the order of their start.
pub fn render(spans: &[Span], parent: &str) -> String {
    let begun = spans.iter().map(|span| span.start).min().unwrap_or_default();
    let mut text = String::new();
    below(spans, parent, begun, "", &mut text);
    text
}

fn below(spans: &[Span], parent: &str, begun: u64, indent: &str, text: &mut String) {
    let mut children: Vec<_> = spans.iter().filter(|span| span.parent == parent).collect();
    children.sort_by_key(|span| (span.start, span.end));
    for (place, span) in children.iter().enumerate() {
        let last = place + 1 == children.len();
        let branch = if last { "└─ " } else { "├─ " };
        let title = format!("{indent}{branch}{}", span.name);
        let ms = |nanos: u64| std::time::Duration::from_nanos(nanos).as_secs_f64() * 1000.0;
        let shown = SHOWN.iter().filter_map(|name| {
            let value = span.attributes.get(*name)?;
            let number = value.parse::<f64>().ok().filter(|number| number.fract() != 0.0);
            let value = number.map_or_else(|| value.clone(), |number| format!("{number:.2}"));
            Some(format!("{name}={value}"))
        });
        let shown: Vec<_> = shown.collect();
        let service = span.service.trim_start_matches("holdfast-");
        let line = format!(
            "{title:<34}{service:<8}+{:>7.2} ms {:>7.2} ms  {}",
            ms(span.start - begun),
            ms(span.end - span.start),
            shown.join(" ")
        );
        let _ = writeln!(text, "{}", line.trim_end());
        let deeper = format!("{indent}{}", if last { "   " } else { "│  " });
        below(spans, &span.id, begun, &deeper, text);
    }
}

/// A tree without the values that differ between runs.
pub fn shape(tree: &str) -> Vec<String> {
    tree.lines()
        .map(|line| line.chars().take(42).collect::<String>().trim_end().to_owned())
        .collect()
}
