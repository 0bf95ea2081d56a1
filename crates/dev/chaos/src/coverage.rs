//! The coverage of a run, as text.

use std::fmt::{self, Write as _};

use holdfast_bench::audit::Write;

use crate::chaos::Chaos;
use crate::clients::Moment;

/// A line for each route that writes: answered writes, and hang-ups by moment.
pub fn render(chaos: &Chaos) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, chaos);
    text
}

fn write(text: &mut String, chaos: &Chaos) -> fmt::Result {
    let hang_ups = |route: &str, moment: Moment| {
        let of_route = |((at, when), _): &(&(&str, Moment), &u64)| *at == route && *when == moment;
        chaos.seen.hang_ups.iter().find(of_route).map_or(0, |(_, count)| *count)
    };
    write!(text, "{:<33} {:>9}", "hung up:", "answered")?;
    for moment in Moment::ALL {
        write!(text, "  {:>15}", moment.words())?;
    }
    let mut sums = [0_u64; 4];
    for route in Write::ROUTES {
        let answered = chaos.findings.answered.get(route).copied().unwrap_or(0);
        let hung_up = Moment::ALL.map(|moment| hang_ups(route, moment));
        let [at, after, within] = hung_up;
        write!(text, "\n{route:<33} {answered:>9}  {at:>15}  {after:>15}  {within:>15}")?;
        for (sum, count) in sums.iter_mut().zip([answered, at, after, within]) {
            *sum += count;
        }
    }
    let [answered, at, after, within] = sums;
    write!(text, "\n{:<33} {answered:>9}  {at:>15}  {after:>15}  {within:>15}", "all")?;
    write!(text, "\nanswered writes that are missing: {}", chaos.findings.missing)
}
