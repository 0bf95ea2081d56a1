//! `docs/benchmarks.svg`: orders per second by the number of connections, for Holdfast and the baselines, on
//! logarithmic axes.

use plotters::prelude::*;

use super::model::{Point, Run, median, part};
use super::numbers::thousands;

const SIZE: (u32, u32) = (960, 600);
const FONT: &str = "sans-serif";

struct ChartLine {
    label: &'static str,
    colour: RGBColor,
    part: &'static str,
    products: u32,
    replicas: u32,
}

const fn line(
    label: &'static str,
    (red, green, blue): (u8, u8, u8),
    part: &'static str,
    (products, replicas): (u32, u32),
) -> ChartLine {
    ChartLine { label, colour: RGBColor(red, green, blue), part, products, replicas }
}

/// Holdfast in blue and green, the baselines dashed in warm colours, the upper bound in grey.
const LINES: [ChartLine; 8] = [
    line("a POST that does nothing", (107, 114, 128), part::NOTHING_POST, (0, 0)),
    line("Holdfast, one hot product", (29, 78, 216), part::HOT, (1, 1)),
    line("Holdfast, one hot product, 2 replicas", (96, 165, 250), part::HOT, (1, 2)),
    line("Holdfast, 1,000 products", (4, 120, 87), part::UNIFORM, (1_000, 1)),
    line("pgbench, one statement, 1,000 rows", (180, 83, 9), part::PGBENCH_CTE, (1_000, 0)),
    line("pgbench, FOR UPDATE, 1,000 rows", (245, 158, 11), part::PGBENCH_FOR_UPDATE, (1_000, 0)),
    line("pgbench, one statement, one row", (185, 28, 28), part::PGBENCH_CTE, (1, 0)),
    line("pgbench, FOR UPDATE, one row", (244, 114, 182), part::PGBENCH_FOR_UPDATE, (1, 0)),
];

/// Draws the chart as an SVG file. Lines without points are omitted.
///
/// # Errors
/// Something cannot be drawn.
pub fn render(run: &Run) -> anyhow::Result<String> {
    let mut lines: Vec<_> = LINES.iter().map(|line| (line, points(run, line))).collect();
    lines.retain(|(_, points)| !points.is_empty());
    let rates = lines.iter().flat_map(|(_, points)| points.iter().map(|point| point.1));
    let (least, most) =
        rates.fold((1_000.0_f64, 10_000.0_f64), |(least, most), it| (least.min(it), most.max(it)));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("Orders per second against connections", (FONT, 20))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(80)
            .build_cartesian_2d(
                (1.0..1_100.0).log_scale().base(2.0),
                (least..most * 1.3).log_scale(),
            )?;
        chart
            .configure_mesh()
            .label_style((FONT, 13))
            .x_desc("HTTP connections, or clients of pgbench")
            .y_desc("load generator, API and PostgreSQL on the same processors")
            .x_label_formatter(&|x| thousands(*x as u64))
            .y_label_formatter(&|y| thousands(*y as u64))
            .draw()?;
        for (line, points) in lines {
            let style = line.colour.stroke_width(2);
            let series = if line.label.starts_with("Holdfast") {
                chart.draw_series(LineSeries::new(points, style.filled()).point_size(3))?
            } else {
                chart.draw_series(DashedLineSeries::new(points, 6, 4, style))?
            };
            series
                .label(line.label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .label_font((FONT, 13))
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// The median for each number of connections, in ascending order.
fn points(run: &Run, line: &ChartLine) -> Vec<(f64, f64)> {
    let wanted = |point: &Point| {
        // The do-nothing server has no products.
        (line.part == part::NOTHING_POST || point.products == line.products)
            && point.replicas == line.replicas
            && point.orders_per_s > 0.0
    };
    let mut connections: Vec<u32> =
        run.points(line.part, wanted).map(|point| point.connections).collect();
    connections.sort_unstable();
    connections.dedup();
    let rate = |connections| {
        let rates = run.points(line.part, wanted).filter(|it| it.connections == connections);
        median(rates.map(|point| point.orders_per_s).collect())
    };
    connections.into_iter().filter_map(|it| Some((f64::from(it), rate(it)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::tests::sample;

    #[test]
    fn each_line_with_points_is_drawn() {
        let svg = render(&sample()).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("Holdfast, one hot product"), "{svg}");
        assert!(svg.contains("pgbench, one statement, one row"), "{svg}");
        assert!(!svg.contains("2 replicas"), "a line without points is left out");
        assert_eq!(points(&sample(), &LINES[1]), [(32.0, 15_000.0), (256.0, 40_000.0)]);
    }
}
