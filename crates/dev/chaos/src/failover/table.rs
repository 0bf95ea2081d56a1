//! The table of failovers in `docs/reliability.md`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use holdfast_sandbox::{PATRONI_TTL, PatroniMode};

use super::{FailoverFault, FailoverTrial, words};

const BEGIN: &str =
    "<!-- failovers: written by `WRITE_DOCS=1 make test-ha`; a change by hand is lost -->";
const END: &str = "<!-- end of failovers -->";

/// Replaces the table in a document.
///
/// # Errors
/// The document cannot be read or written, or has no place for the table.
pub fn write(path: &Path, trials: &[(PatroniMode, FailoverTrial)]) -> anyhow::Result<()> {
    let page = std::fs::read_to_string(path)?;
    let (before, rest) = page.split_once(BEGIN).context("no place for the table")?;
    let (_, after) = rest.split_once(END).context("no end of the table")?;
    std::fs::write(path, format!("{before}{BEGIN}\n\n{}\n{END}{after}", render(trials)))?;
    Ok(())
}

/// The table.
pub fn render(trials: &[(PatroniMode, FailoverTrial)]) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write_rows(&mut page, trials);
    page
}

fn write_rows(page: &mut String, trials: &[(PatroniMode, FailoverTrial)]) -> fmt::Result {
    writeln!(
        page,
        "Times are the median and the worst, with `ttl: {PATRONI_TTL}` (Patroni's default is 30) on a machine with two cores for everything.\n\n\
         | mode | fault | number | without orders | until the new primary writes | and both replicas accept orders | all nodes in order | accepted | refused | \
         unknown | lost | reported as lost | found again | doubled | oversold | done twice | taken back | copied anew |\n\
         |---|---|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    )?;
    for mode in [PatroniMode::Synchronous, PatroniMode::Asynchronous] {
        for fault in FailoverFault::ALL {
            let of: Vec<_> = trials
                .iter()
                .filter(|(of, trial)| *of == mode && trial.fault == fault)
                .map(|(_, trial)| trial)
                .collect();
            let Some(last) = of.last() else { continue };
            let mut refused = BTreeMap::<&str, usize>::new();
            for (words, count) in of.iter().flat_map(|trial| &trial.refused) {
                *refused.entry(words).or_default() += count;
            }
            let refused: Vec<_> =
                refused.iter().map(|(words, count)| format!("{words}: {count}")).collect();
            let sum = |of_trial: fn(&FailoverTrial) -> usize| -> usize {
                of.iter().map(|trial| of_trial(trial)).sum()
            };
            writeln!(
                page,
                "| {} | {fault} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                words(mode),
                of.len(),
                times(&of, |trial| trial.without_orders),
                times(&of, |trial| trial.elected),
                times(&of, |trial| trial.reconnected),
                times(&of, |trial| trial.recovered),
                sum(|trial| trial.accepted),
                if refused.is_empty() { "0".to_owned() } else { refused.join(", ") },
                sum(|trial| trial.unknown),
                sum(|trial| trial.losses.lost.len()),
                of.iter().map(|trial| trial.reported).sum::<u64>(),
                of.iter().map(|trial| trial.found).sum::<u64>(),
                last.losses.doubled,
                last.losses.oversold,
                last.losses.done_twice.len(),
                sum(|trial| usize::from(trial.taken_back)),
                sum(|trial| trial.copied),
            )?;
        }
    }
    Ok(())
}

/// The median and the worst.
fn times(trials: &[&FailoverTrial], time: fn(&FailoverTrial) -> Duration) -> String {
    let mut times: Vec<_> = trials.iter().map(|trial| time(trial).as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    format!("{median:.1} s, {:.1} s", times.last().copied().unwrap_or_default())
}
