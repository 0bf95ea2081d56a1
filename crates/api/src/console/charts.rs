//! The charts of the last five minutes.
//!
//! | file | subject |
//! |---|---|
//! | `draw` | drawing a chart |

mod draw;

use bytes::Bytes;
use holdfast_admission::Refusal;
use tokio::time::Instant;

use self::draw::{Line, Picture};
use super::history::{ConsoleHistory, HistoryPoint, WINDOW};

pub use self::draw::DrawError;

/// The default width of a chart in pixels.
pub const WIDTH: u32 = 640;
/// The narrowest chart.
pub const WIDTH_MIN: u32 = 240;
/// The widest chart.
pub const WIDTH_MAX: u32 = 1600;
/// Widths are rounded down to a multiple of this, so that few charts are drawn.
const WIDTH_STEP: u32 = 20;
/// The most charts of one sample that are cached.
const RENDERED_MAX: usize = 64;
/// The number of reasons for refusals that have their own line.
const REASONS_SHOWN: usize = 3;

macro_rules! charts {
    ($($chart:ident: $name:literal, $title:literal, $unit:literal;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Chart { $($chart,)+ }

        impl Chart {
            pub const ALL: &[Self] = &[$(Self::$chart),+];
            pub const NAMES: &[&str] = &[$($name),+];

            /// The name in the path.
            pub fn name(self) -> &'static str {
                match self { $(Self::$chart => $name,)+ }
            }

            fn title(self) -> &'static str {
                match self { $(Self::$chart => $title,)+ }
            }

            /// The unit after a number.
            fn unit(self) -> &'static str {
                match self { $(Self::$chart => $unit,)+ }
            }
        }
    };
}

charts! {
    Orders: "orders", "Orders per second", "/s";
    Refusals: "refusals", "Refused orders per second, by reason", "/s";
    Waits: "waits", "Waiting times of this replica, 99th percentile", " ms";
    Batches: "batches", "Requests in a batch", "";
    Queue: "queue", "Orders in the queue", "";
    Age: "age", "Age of the oldest waiting order", " s";
}

impl Chart {
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|chart| chart.name() == name)
    }

    /// The most lines of the chart. Room is reserved for their labels, so that the layout does not change.
    fn lines_max(self) -> usize {
        match self {
            Self::Orders | Self::Batches => 2,
            Self::Refusals => REASONS_SHOWN + 1,
            Self::Waits => 4,
            Self::Queue => 3,
            Self::Age => 1,
        }
    }

    fn lines(self, history: &ConsoleHistory) -> Vec<Line> {
        let line = |label: &str, value: &dyn Fn(&HistoryPoint) -> Option<f64>| Line {
            label: label.to_owned(),
            values: history.points().map(value).collect(),
        };
        match self {
            Self::Orders => vec![
                line("accepted", &|point| Some(per_second(point, point.accepted))),
                line("refused", &|point| Some(per_second(point, point.refused.iter().sum()))),
            ],
            Self::Refusals => refusals(history),
            Self::Waits => vec![
                line("in a lane", &|point| point.admission.lane.p99),
                line("row locks", &|point| point.admission.lock.p99),
                line("locked row", &|point| point.admission.locked_row.p99),
                line("commit", &|point| point.admission.commit.p99),
            ],
            Self::Batches => vec![
                line("on average", &|point| point.admission.batch),
                line("largest, at most", &|point| point.admission.largest_batch),
            ],
            Self::Queue => {
                let state = |label: &str, of: &dyn Fn(holdfast_queue::Depth) -> u64| {
                    line(label, &|point| point.queue.map(|queue| number(of(queue.depth))))
                };
                vec![
                    state("waiting", &|depth| depth.waiting),
                    state("with a worker", &|depth| depth.in_flight),
                    state("set aside", &|depth| depth.later),
                ]
            }
            Self::Age => vec![line("oldest", &|point| {
                point.queue.map(|queue| queue.oldest.unwrap_or_default().as_secs_f64())
            })],
        }
    }
}

/// A line for each of the most frequent reasons, and one for all others.
fn refusals(history: &ConsoleHistory) -> Vec<Line> {
    let reasons: Vec<usize> = history.refused().into_iter().map(|(reason, _)| reason).collect();
    let shown = reasons.len().min(REASONS_SHOWN);
    let (frequent, others) = reasons.split_at(shown);
    let line = |label: String, of: &[usize]| {
        let values = history.points().map(|point| {
            let refused = of.iter().map(|reason| point.refused[*reason]).sum();
            Some(per_second(point, refused))
        });
        Line { label, values: values.collect() }
    };
    let mut lines: Vec<_> = frequent
        .iter()
        .map(|reason| line(Refusal::REASONS[*reason].replace('_', " "), &[*reason]))
        .collect();
    if !others.is_empty() {
        lines.push(line("others".to_owned(), others));
    }
    lines
}

fn per_second(point: &HistoryPoint, count: u64) -> f64 {
    number(count) / point.seconds.max(0.001)
}

#[allow(clippy::cast_precision_loss)] // counts of seconds are far below 2^53
fn number(count: u64) -> f64 {
    count as f64
}

/// The cached charts of one sample.
#[derive(Default)]
pub struct Rendered {
    of: Option<Instant>,
    charts: Vec<(Chart, u32, Bytes)>,
}

impl Rendered {
    /// A chart of `history`, from the cache if possible.
    ///
    /// # Errors
    /// The chart could not be drawn.
    pub fn chart(
        &mut self,
        history: &ConsoleHistory,
        chart: Chart,
        width: u32,
    ) -> Result<Bytes, DrawError> {
        let width = width.clamp(WIDTH_MIN, WIDTH_MAX) / WIDTH_STEP * WIDTH_STEP;
        let moment = history.last().map(|point| point.at);
        if moment != self.of {
            self.charts.clear();
            self.of = moment;
        }
        let drawn = self.charts.iter().find(|(other, at, _)| (*other, *at) == (chart, width));
        if let Some((_, _, svg)) = drawn {
            return Ok(svg.clone());
        }
        let ages = history
            .points()
            .map(|point| moment.map_or(0.0, |moment| (moment - point.at).as_secs_f64()));
        let picture = Picture {
            title: chart.title(),
            unit: chart.unit(),
            width,
            lines_max: chart.lines_max(),
            // The page shows the numbers of each reason, and the names of reasons are long.
            numbers: chart != Chart::Refusals,
            first_colour: usize::from(chart == Chart::Refusals),
            // Waiting times and batches are already averages over several points.
            now: if matches!(chart, Chart::Orders | Chart::Refusals) { WINDOW } else { 1 },
            ages: ages.collect(),
            lines: chart.lines(history),
        };
        let svg = Bytes::from(picture.svg()?);
        if self.charts.len() < RENDERED_MAX {
            self.charts.push((chart, width, svg.clone()));
        }
        Ok(svg)
    }
}
