//! Draws a chart. Colours are attributes, which a style sheet can override for dark mode.

use std::{error::Error, fmt::Write as _};

use plotters::{coord::Shift, prelude::*};

const FONT: &str = "sans-serif";
const TEXT: RGBColor = RGBColor(75, 85, 99);
const GRID: RGBColor = RGBColor(229, 231, 235);
/// The colours of lines, which people with colour vision deficiency can distinguish.
const COLOURS: [RGBColor; 5] = [
    RGBColor(29, 78, 216),
    RGBColor(194, 65, 12),
    RGBColor(4, 120, 87),
    RGBColor(126, 34, 206),
    RGBColor(107, 114, 128),
];

/// The height of the chart without the labels of the time axis, in pixels.
const PLANE_HEIGHT: u32 = 150;
const TIME_HEIGHT: u32 = 22;
const VALUE_WIDTH: u32 = 62;
const MARGIN: u32 = 6;
const LEGEND_ROW: u32 = 20;
/// The width for a label with its number and colour.
const LEGEND_WIDTH: u32 = 136;
/// The longest label; longer ones are cut.
const LABEL_CHARS: usize = 18;
/// The font is 12 pixels high: plotters divides by 1.24.
const TEXT_SIZE: u32 = 15;
const MINUTES: f64 = 5.0;

/// A chart could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("a chart could not be drawn: {0}")]
pub struct DrawError(String);

/// The data of a chart.
pub(super) struct Picture {
    pub title: &'static str,
    /// The unit after each number.
    pub unit: &'static str,
    pub width: u32,
    /// The number of lines for whose labels room is reserved.
    pub lines_max: usize,
    /// Whether the labels show current numbers.
    pub numbers: bool,
    /// The index of the colour of the first line.
    pub first_colour: usize,
    /// The number of points that a current number is the mean of.
    pub now: usize,
    /// The age of each point, in seconds.
    pub ages: Vec<f64>,
    pub lines: Vec<Line>,
}

/// A line with a value for each point; `None` if it is unknown.
pub(super) struct Line {
    pub label: String,
    pub values: Vec<Option<f64>>,
}

type Area<'s> = DrawingArea<SVGBackend<'s>, Shift>;

impl Line {
    /// The mean of the last values, if all are known.
    #[allow(clippy::cast_precision_loss)] // a few
    fn now(&self, points: usize) -> Option<f64> {
        let latest: Option<Vec<f64>> = self.values.iter().rev().take(points).copied().collect();
        let latest = latest.filter(|latest| !latest.is_empty())?;
        Some(latest.iter().sum::<f64>() / latest.len() as f64)
    }

    fn most(&self) -> Option<f64> {
        self.values.iter().flatten().copied().reduce(f64::max)
    }

    /// The segments without unknown values, as coordinates.
    fn parts(&self, ages: &[f64]) -> Vec<Vec<(f64, f64)>> {
        let mut parts = vec![Vec::new()];
        for (age, value) in ages.iter().zip(&self.values) {
            match (value, parts.last_mut()) {
                (Some(value), Some(part)) if *age <= MINUTES * 60.0 => {
                    part.push((-age / 60.0, *value));
                }
                (None, _) => parts.push(Vec::new()),
                _ => {}
            }
        }
        parts.retain(|part| !part.is_empty());
        parts
    }
}

impl Picture {
    /// The whole SVG.
    pub fn svg(&self) -> Result<String, DrawError> {
        let columns = (self.width / LEGEND_WIDTH).max(1);
        let rows = u32::try_from(self.lines_max).unwrap_or(1).div_ceil(columns);
        let legend = rows * LEGEND_ROW + MARGIN;
        let size = (self.width, legend + PLANE_HEIGHT + TIME_HEIGHT);
        let mut svg = String::with_capacity(16 * 1024);
        let drawn = self.draw(&SVGBackend::with_string(&mut svg, size).into(), legend, columns);
        drawn.map_err(|error| DrawError(error.to_string()))?;
        let told = escaped(&self.told());
        Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{told}\" "), 1))
    }

    fn draw(&self, area: &Area<'_>, legend: u32, columns: u32) -> Result<(), Box<dyn Error>> {
        let (top, plane) = area.split_vertically(legend);
        self.draw_legend(&top, columns)?;
        let most = self.lines.iter().filter_map(Line::most).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&plane)
            .margin_right(MARGIN * 2)
            .margin_top(MARGIN)
            .x_label_area_size(TIME_HEIGHT)
            .y_label_area_size(VALUE_WIDTH)
            .build_cartesian_2d(-MINUTES..0.0, 0.0..above(most))?;
        let unit = self.unit;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRID)
            .label_style((FONT, TEXT_SIZE).into_font().color(&TEXT))
            .x_labels(6)
            .y_labels(4)
            .x_label_formatter(&|minutes| when(*minutes))
            .y_label_formatter(&|value| format!("{}{unit}", short(*value)))
            .draw()?;
        for (index, (line, colour)) in self.coloured().enumerate() {
            for part in line.parts(&self.ages) {
                if index == 0 && self.lines_max <= 2 {
                    chart.draw_series(AreaSeries::new(part.clone(), 0.0, colour.mix(0.12)))?;
                }
                chart.draw_series(LineSeries::new(part, colour.stroke_width(2)))?;
            }
        }
        area.present()?;
        Ok(())
    }

    fn draw_legend(&self, area: &Area<'_>, columns: u32) -> Result<(), Box<dyn Error>> {
        let style = (FONT, TEXT_SIZE).into_font().color(&TEXT);
        let width = self.width / columns;
        for (index, (line, colour)) in (0..).zip(self.coloured()) {
            let x = i32::try_from(index % columns * width + MARGIN)?;
            let y = i32::try_from(index / columns * LEGEND_ROW + 4)?;
            area.draw(&Rectangle::new([(x, y + 4), (x + 14, y + 8)], colour.filled()))?;
            let mut text = line.label.clone();
            if self.numbers {
                // Writing to a String cannot fail.
                let _ = write!(text, " {}", self.number(line.now(self.now)));
            } else if text.chars().count() > LABEL_CHARS {
                text = text.chars().take(LABEL_CHARS - 1).chain(['…']).collect();
            }
            area.draw(&Text::new(text, (x + 20, y), style.clone()))?;
        }
        Ok(())
    }

    fn coloured(&self) -> impl Iterator<Item = (&Line, RGBColor)> {
        self.lines.iter().zip(COLOURS.into_iter().cycle().skip(self.first_colour))
    }

    /// A description of the chart in words.
    fn told(&self) -> String {
        let mut told = format!("{}, the last five minutes.", self.title);
        if self.lines.is_empty() {
            told.push_str(" No data.");
        }
        for line in &self.lines {
            let (now, most) = (self.number(line.now(self.now)), self.number(line.most()));
            // Writing to a String cannot fail.
            let _ = write!(told, " {}: {now} now, {most} at most.", line.label);
        }
        told
    }

    fn number(&self, value: Option<f64>) -> String {
        value.map_or_else(|| "–".to_owned(), |value| format!("{}{}", short(value), self.unit))
    }
}

fn when(minutes: f64) -> String {
    if minutes > -0.5 { "now".to_owned() } else { format!("−{:.0} min", -minutes) }
}

/// A number with three significant digits.
fn short(value: f64) -> String {
    let (value, suffix) = match value {
        value if value >= 999_500.0 => (value / 1_000_000.0, "M"),
        value if value >= 9_995.0 => (value / 1_000.0, "k"),
        value => (value, ""),
    };
    let digits = match value {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    let mut text = format!("{value:.digits$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text + suffix
}

/// A round number above a value, for the end of the axis.
fn above(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.95 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let ends = [1.0, 2.0, 3.0, 4.0, 6.0, 10.0].map(|end| end * power);
    ends.into_iter().find(|end| *end >= value * 1.05).unwrap_or(power * 20.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, lines: Vec<Line>) -> Picture {
        let ages = (0..3).rev().map(f64::from).collect();
        let (title, unit) = ("Orders per second", "/s");
        Picture {
            title,
            unit,
            width,
            lines_max: 2,
            numbers: true,
            first_colour: 0,
            now: 5,
            ages,
            lines,
        }
    }

    fn line(label: &str, values: [Option<f64>; 3]) -> Line {
        Line { label: label.to_owned(), values: values.to_vec() }
    }

    #[test]
    fn a_chart_is_an_image_with_its_numbers_as_text() {
        let accepted = line("accepted", [Some(10.0), Some(20.0), Some(30.0)]);
        let svg = picture(640, vec![accepted]).svg().unwrap();
        assert!(svg.starts_with("<svg role=\"img\" aria-label=\"Orders per second, "), "{svg}");
        assert!(svg.contains("accepted: 20/s now, 30/s at most."), "{svg}");
        // The page's policy forbids such attributes.
        assert!(!svg.contains("style="), "{svg}");
    }

    #[test]
    fn an_unknown_value_is_a_gap_and_not_0() {
        let line = line("waiting", [Some(1.0), None, Some(2.0)]);
        assert_eq!(line.parts(&[2.0, 1.0, 0.0]).len(), 2);
        assert_eq!(line.now(5), None);
        let svg = picture(640, vec![line]).svg().unwrap();
        assert!(svg.contains("waiting: – now"), "{svg}");
    }

    #[test]
    fn charts_without_points_are_drawn() {
        for width in [240, 640, 1600] {
            let empty = Picture { ages: vec![], ..picture(width, vec![]) };
            assert!(empty.svg().unwrap().contains("No data."));
        }
    }

    #[test]
    fn another_line_does_not_change_the_size() {
        let size = |lines| {
            let svg = picture(240, lines).svg().unwrap();
            let (_, size) = svg.split_once("viewBox=\"").unwrap();
            size.split_once('"').unwrap().0.to_owned()
        };
        let values = [Some(1.0); 3];
        let one = size(vec![line("one", values)]);
        assert_eq!(one, size(vec![line("one", values), line("two", values)]));
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.123, "0.12"),
            (5.0, "5"),
            (12.34, "12.3"),
            (999.6, "1000"),
            (9_994.0, "9994"),
            (12_345.0, "12.3k"),
            (2_000_000.0, "2M"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn the_axis_ends_above_the_line() {
        for value in [0.0, 0.5, 1.0, 3.0, 9.99, 10.0, 99.0, 1234.0, 1e9] {
            assert!(above(value) >= value, "{value}");
        }
    }
}
