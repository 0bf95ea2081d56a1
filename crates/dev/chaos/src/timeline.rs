//! The timeline of a run as SVG: orders and refusals per second, and the faults behind them.

use std::fmt::{self, Write as _};

use crate::chaos::Chaos;
use crate::clients::Outcome;

const WIDTH: f64 = 1100.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const PLOT: f64 = 240.0;
const ROW: f64 = 16.0;

/// Draws it as a whole SVG file.
pub fn render(chaos: &Chaos, seed: u64) -> String {
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = draw(&mut svg, chaos, seed);
    svg
}

/// Answers in each second of the run.
fn per_second(chaos: &Chaos, wanted: impl Fn(Outcome) -> bool) -> Vec<u64> {
    let mut seconds = Vec::new();
    for event in chaos.seen.events.iter().filter(|event| wanted(event.outcome)) {
        let second = event.at.duration_since(chaos.begun).as_secs() as usize;
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        if let Some(count) = seconds.get_mut(second) {
            *count += 1;
        }
    }
    seconds
}

fn draw(svg: &mut String, chaos: &Chaos, seed: u64) -> fmt::Result {
    let accepted = per_second(chaos, |outcome| outcome == Outcome::Accepted);
    let refused = per_second(chaos, |outcome| outcome != Outcome::Accepted);
    let seconds = accepted.len().max(refused.len()).max(1) as f64;
    let most = accepted.iter().chain(&refused).copied().max().unwrap_or(1).max(1) as f64;
    let x = |second: f64| LEFT + second / seconds * (WIDTH - LEFT - 20.0);
    let y = |count: f64| TOP + PLOT * (1.0 - count / most);
    let height = TOP + PLOT + 50.0 + ROW * chaos.struck.len() as f64;
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">Seed {seed}: answers per second, \
         <tspan fill=\"#047857\">accepted</tspan> and \
         <tspan fill=\"#b91c1c\">refused or cut off</tspan>, and the faults</text>"
    )?;
    for (row, struck) in chaos.struck.iter().enumerate() {
        let (from, to) = (x(struck.from.as_secs_f64()), x(struck.to.as_secs_f64()));
        let width = (to - from).max(1.0);
        let line = TOP + PLOT + 40.0 + ROW * row as f64;
        writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{PLOT}\" fill=\"#e5e7eb\"/>\
             <rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"10\" fill=\"#6b7280\"/>",
            line - 9.0
        )?;
        // On the side where there is room.
        if from < WIDTH / 2.0 {
            writeln!(svg, "<text x=\"{:.1}\" y=\"{line}\">{}</text>", to + 6.0, struck.fault)?;
        } else {
            let end = from - 6.0;
            writeln!(
                svg,
                "<text x=\"{end:.1}\" y=\"{line}\" text-anchor=\"end\">{}</text>",
                struck.fault
            )?;
        }
    }
    for (counts, colour) in [(&accepted, "#047857"), (&refused, "#b91c1c")] {
        write!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"")?;
        for (second, count) in counts.iter().enumerate() {
            write!(svg, "{:.1},{:.1} ", x(second as f64 + 0.5), y(*count as f64))?;
        }
        writeln!(svg, "\"/>")?;
    }
    let bottom = TOP + PLOT;
    writeln!(
        svg,
        "<path d=\"M{LEFT} {TOP}V{bottom}H{}\" fill=\"none\" stroke=\"black\"/>\
         <text x=\"8\" y=\"{:.1}\">{most}/s</text><text x=\"8\" y=\"{bottom}\">0</text>\
         <text x=\"{LEFT}\" y=\"{}\">0 s</text><text x=\"{}\" y=\"{}\">{seconds} s</text></svg>",
        WIDTH - 20.0,
        TOP + 10.0,
        bottom + 16.0,
        WIDTH - 50.0,
        bottom + 16.0
    )
}
