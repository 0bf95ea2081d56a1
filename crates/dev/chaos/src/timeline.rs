//! The timeline of a run as SVG: orders and refusals per second, and the faults below them.

use plotters::prelude::*;

use crate::chaos::Chaos;
use crate::clients::RequestOutcome;

const WIDTH: u32 = 1100;
const PLOT: u32 = 320;
/// The height of the row of a fault.
const ROW: u32 = 18;
const FONT: &str = "sans-serif";
/// The width of the axis labels.
const LEFT: u32 = 60;

/// Draws it as an SVG file.
///
/// # Errors
/// Something cannot be drawn.
pub fn render(chaos: &Chaos, seed: u64) -> anyhow::Result<String> {
    let lines = [
        ("accepted", RGBColor(4, 120, 87), per_second(chaos, |it| it == RequestOutcome::Accepted)),
        (
            "refused or cut off",
            RGBColor(185, 28, 28),
            per_second(chaos, |it| it != RequestOutcome::Accepted),
        ),
    ];
    let seconds = lines.iter().map(|(.., counts)| counts.len()).max().unwrap_or(0).max(1) as f64;
    let most = lines.iter().flat_map(|(.., counts)| counts).max().copied().unwrap_or(0).max(1);
    let rows = chaos.struck.len() as u32;
    let mut svg = String::new();
    {
        let size = (WIDTH, PLOT + ROW * (rows + 1));
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        let (plot, faults) = area.split_vertically(PLOT);
        let mut chart = ChartBuilder::on(&plot)
            .caption(format!("Seed {seed}: answers per second, and the faults"), (FONT, 16))
            .margin_right(20)
            .x_label_area_size(30)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(0.0..seconds, 0..most)?;
        chart.configure_mesh().label_style((FONT, 12)).x_desc("seconds").draw()?;
        for (label, colour, counts) in lines {
            let points = counts.into_iter().enumerate().map(|(at, it)| (at as f64 + 0.5, it));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).draw()?;
        let mut chart = ChartBuilder::on(&faults)
            .margin_right(20)
            .set_label_area_size(LabelAreaPosition::Left, LEFT)
            .build_cartesian_2d(0.0..seconds, f64::from(rows.max(1))..0.0)?;
        let style = (FONT, 12).into_font();
        for (row, struck) in (0_u32..).zip(&chaos.struck) {
            let row = f64::from(row);
            let (from, to) = (struck.from.as_secs_f64(), struck.to.as_secs_f64());
            let bar = [(from, row), (to.max(from + seconds / 500.0), row + 0.8)];
            chart.draw_series([Rectangle::new(bar, RGBColor(156, 163, 175).filled())])?;
            // On the side with more room.
            let at = if from < seconds / 2.0 { to + seconds / 200.0 } else { from - seconds / 4.0 };
            chart.draw_series([Text::new(struck.fault.to_string(), (at, row), style.clone())])?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// Answers in each second of the run.
fn per_second(chaos: &Chaos, wanted: impl Fn(RequestOutcome) -> bool) -> Vec<u64> {
    let mut seconds = Vec::new();
    for event in chaos.seen.events.iter().filter(|event| wanted(event.outcome)) {
        let second = event.at.duration_since(chaos.begun).as_secs() as usize;
        seconds.resize(seconds.len().max(second + 1), 0);
        seconds[second] += 1;
    }
    seconds
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use holdfast_bench::audit::Findings;

    use super::*;
    use crate::chaos::Struck;
    use crate::clients::{ClientEvent, ClientsRecord};
    use crate::fault::Fault;

    #[test]
    fn orders_and_faults_are_drawn() {
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let event = ClientEvent {
            at: begun + 2 * second,
            took: second,
            product: 1,
            outcome: RequestOutcome::Accepted,
        };
        let chaos = Chaos {
            begun,
            struck: vec![Struck { fault: Fault::ApiKilled, from: second, to: 2 * second }],
            findings: Findings::default(),
            seen: ClientsRecord { events: vec![event], ..ClientsRecord::default() },
            repeats: 0,
            settled: second,
        };
        let svg = render(&chaos, 7).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains(&Fault::ApiKilled.to_string()), "{svg}");
        assert_eq!(per_second(&chaos, |_| true), [0, 0, 1]);
    }
}
