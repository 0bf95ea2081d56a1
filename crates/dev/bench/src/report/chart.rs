//! `docs/benchmarks.svg`: orders per second against connections, ours and the baselines.
//!
//! Both axes are logarithmic: the lines span two powers of ten, and connections double.

use std::fmt::Write as _;

use super::model::{Point, Run, median, part};
use super::numbers::{figure, thousands};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 540.0;
/// The plot itself; the labels of the lines stand to the right of it.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 640.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 470.0;
/// Between two labels.
const LABEL_GAP: f64 = 19.0;

/// A line of the chart.
struct Series {
    label: &'static str,
    colour: &'static str,
    dashed: bool,
    part: &'static str,
    products: u32,
    replicas: u32,
}

const fn series(
    label: &'static str,
    colour: &'static str,
    dashed: bool,
    part: &'static str,
    (products, replicas): (u32, u32),
) -> Series {
    Series { label, colour, dashed, part, products, replicas }
}

/// Ours in blue and green, the baselines in warm colours, the ceiling in grey.
const SERIES: [Series; 8] = [
    series("a POST that does nothing", "#6b7280", true, part::NOTHING_POST, (0, 0)),
    series("Holdfast, one hot product", "#1d4ed8", false, part::HOT, (1, 1)),
    series("Holdfast, one hot product, 2 replicas", "#60a5fa", false, part::HOT, (1, 2)),
    series("Holdfast, 1,000 products", "#047857", false, part::UNIFORM, (1_000, 1)),
    series("pgbench, one statement, 1,000 rows", "#b45309", true, part::PGBENCH_CTE, (1_000, 0)),
    series(
        "pgbench, FOR UPDATE, 1,000 rows",
        "#f59e0b",
        true,
        part::PGBENCH_FOR_UPDATE,
        (1_000, 0),
    ),
    series("pgbench, one statement, one row", "#b91c1c", true, part::PGBENCH_CTE, (1, 0)),
    series("pgbench, FOR UPDATE, one row", "#f472b6", true, part::PGBENCH_FOR_UPDATE, (1, 0)),
];

/// Draws the chart as a whole SVG file.
pub fn render(run: &Run) -> String {
    let lines: Vec<(&Series, Vec<(f64, f64)>)> =
        SERIES.iter().map(|series| (series, points(run, series))).collect();
    let values = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let most = values().map(|(_, per_s)| per_s).fold(10_000.0, f64::max);
    let least = values().map(|(_, per_s)| per_s).fold(1_000.0, f64::min);
    let scale = Scale {
        connections: (0.0, values().map(|(x, _)| x).fold(1_024.0, f64::max).log2()),
        // Whole powers of ten below, and some room above the highest line.
        per_s: (least.log10().floor(), (most * 1.3).log10()),
    };
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = write_chart(&mut svg, &lines, &scale);
    svg
}

/// The median of each number of connections, in their order.
fn points(run: &Run, series: &Series) -> Vec<(f64, f64)> {
    let like = |point: &Point| {
        // The do-nothing server has no products.
        (series.part == part::NOTHING_POST || point.products == series.products)
            && point.replicas == series.replicas
    };
    let mut connections: Vec<u32> =
        run.points(series.part, like).map(|point| point.connections).collect();
    connections.sort_unstable();
    connections.dedup();
    connections
        .into_iter()
        .filter_map(|connections| {
            let rates = run
                .points(series.part, like)
                .filter(|point| point.connections == connections)
                .map(|point| point.orders_per_s)
                .filter(|per_s| *per_s > 0.0);
            Some((f64::from(connections), median(rates.collect())?))
        })
        .collect()
}

/// Logarithms at both ends of each axis.
struct Scale {
    connections: (f64, f64),
    per_s: (f64, f64),
}

impl Scale {
    fn x(&self, connections: f64) -> f64 {
        let (from, to) = self.connections;
        LEFT + (connections.log2() - from) / (to - from) * (RIGHT - LEFT)
    }

    fn y(&self, per_s: f64) -> f64 {
        let (from, to) = self.per_s;
        BOTTOM - (per_s.log10() - from) / (to - from) * (BOTTOM - TOP)
    }
}

fn write_chart(
    svg: &mut String,
    lines: &[(&Series, Vec<(f64, f64)>)],
    scale: &Scale,
) -> std::fmt::Result {
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="Orders per second against connections: Holdfast and the baselines">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{LEFT}" y="28" font-size="18" font-weight="600" fill="#111827">Orders per second against connections</text>
<text x="{LEFT}" y="49" fill="#4b5563">Load generator, API and PostgreSQL on the same processors; both axes logarithmic; dashed: not Holdfast</text>"##
    )?;
    write_axes(svg, scale)?;
    for (series, points) in lines {
        write_line(svg, series, points, scale)?;
    }
    write_labels(svg, lines, scale)?;
    writeln!(svg, "</svg>")
}

fn write_axes(svg: &mut String, scale: &Scale) -> std::fmt::Result {
    for power in scale.per_s.0 as i32..=scale.per_s.1 as i32 {
        for (times, line) in [(1.0, "#d1d5db"), (2.0, "#eef0f3"), (5.0, "#eef0f3")] {
            let per_s = times * 10_f64.powi(power);
            if per_s.log10() > scale.per_s.1 {
                continue;
            }
            let (y, label) = (scale.y(per_s), thousands(per_s as u64));
            writeln!(
                svg,
                r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="{line}"/><text x="{:.1}" y="{:.1}" text-anchor="end" fill="#4b5563">{label}</text>"##,
                LEFT - 8.0,
                y + 4.5,
            )?;
        }
    }
    for exponent in 0..=scale.connections.1 as i32 {
        let connections = 2_f64.powi(exponent);
        let x = scale.x(connections);
        writeln!(
            svg,
            r##"<path d="M{x:.1} {BOTTOM}v5" stroke="#9ca3af"/><text x="{x:.1}" y="{:.1}" text-anchor="middle" fill="#4b5563">{}</text>"##,
            BOTTOM + 20.0,
            thousands(connections as u64),
        )?;
    }
    writeln!(
        svg,
        r##"<path d="M{LEFT} {BOTTOM}H{RIGHT}" stroke="#9ca3af"/><text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#4b5563">HTTP connections, or clients of pgbench</text>"##,
        f64::midpoint(LEFT, RIGHT),
        BOTTOM + 46.0,
    )
}

fn write_line(
    svg: &mut String,
    series: &Series,
    points: &[(f64, f64)],
    scale: &Scale,
) -> std::fmt::Result {
    let colour = series.colour;
    let path: Vec<String> =
        points.iter().map(|(x, y)| format!("{:.1} {:.1}", scale.x(*x), scale.y(*y))).collect();
    if path.is_empty() {
        return Ok(());
    }
    let dash = if series.dashed { r#" stroke-dasharray="5 4""# } else { "" };
    writeln!(
        svg,
        r#"<path d="M{}" fill="none" stroke="{colour}" stroke-width="2.5"{dash}/>"#,
        path.join("L")
    )?;
    for (connections, per_s) in points {
        writeln!(
            svg,
            r#"<circle cx="{:.1}" cy="{:.1}" r="3.5" fill="{colour}"><title>{}: {} orders/s at {}</title></circle>"#,
            scale.x(*connections),
            scale.y(*per_s),
            series.label,
            figure(*per_s),
            thousands(*connections as u64),
        )?;
    }
    Ok(())
}

/// At the height of each line's end, pushed apart where they would touch.
fn write_labels(
    svg: &mut String,
    lines: &[(&Series, Vec<(f64, f64)>)],
    scale: &Scale,
) -> std::fmt::Result {
    let mut labels: Vec<(f64, &Series, (f64, f64))> = lines
        .iter()
        .filter_map(|(series, points)| {
            let end = *points.last()?;
            Some((scale.y(end.1), *series, end))
        })
        .collect();
    labels.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut heights: Vec<f64> = Vec::new();
    for (height, _, _) in &labels {
        let least = heights.last().map_or(TOP, |above| above + LABEL_GAP);
        heights.push(height.max(least));
    }
    for ((_, series, (connections, per_s)), height) in labels.into_iter().zip(heights) {
        let (x, y) = (scale.x(connections), scale.y(per_s));
        let colour = series.colour;
        writeln!(
            svg,
            r#"<path d="M{:.1} {y:.1}L{:.1} {height:.1}" stroke="{colour}" stroke-opacity="0.35" fill="none"/><text x="{:.1}" y="{:.1}" fill="{colour}">{}</text>"#,
            x + 6.0,
            RIGHT + 12.0,
            RIGHT + 16.0,
            height + 4.5,
            series.label,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::tests::sample;

    #[test]
    fn each_line_is_drawn_within_the_frame() {
        let svg = render(&sample());
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("Holdfast, one hot product: 40,000 orders/s at 256"), "{svg}");
        assert!(svg.contains("pgbench, one statement, one row: 2,000 orders/s at 16"), "{svg}");
        // A line without points is left out.
        assert!(!svg.contains("2 replicas"));
        for circle in svg.lines().filter(|line| line.starts_with("<circle")) {
            let at = |key: &str| {
                let rest = circle.split_once(key).unwrap().1;
                rest.split_once('"').unwrap().0.parse::<f64>().unwrap()
            };
            assert!((LEFT..=RIGHT).contains(&at("cx=\"")), "{circle}");
            assert!((TOP..=BOTTOM).contains(&at("cy=\"")), "{circle}");
        }
    }
}
