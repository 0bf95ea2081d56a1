//! `docs/faults.md`: what each fault did, as it was measured.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::fault::Fault;
use crate::trial::FaultTrial;

/// Writes the page.
pub fn render(trials: &[FaultTrial]) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut page, trials);
    page
}

fn write(page: &mut String, trials: &[FaultTrial]) -> fmt::Result {
    page.push_str(
        "# What each fault did\n\n\
         <!-- Written by `holdfast-chaos faults --write`; a change by hand is lost. -->\n\n\
         Each row is a run of its own on real processes: two API replicas and two workers under load, \
         PostgreSQL and Redis behind proxies, a receiver of webhooks that counts ids. The fault strikes \
         one replica, one worker, or a server; it is healed, the load ends, and the audit compares \
         the database with what the clients were told and with what the receiver has seen. \
         Unoptimised binaries on a shared machine: the times are upper bounds, no benchmark. \
         What an operator sees and does stands in [operations.md](operations.md).\n\n\
         - **accepted**, **refused**: orders answered while it lasted, with 201, and with 503 and `Retry-After` \
         (or not connected).\n\
         - **fulfilled**: orders that reached the receiver while it lasted.\n\
         - **slowest answer**: of an order, from the fault on.\n\
         - **reads**: those that failed, of products and orders at the replica that was not struck; the slowest.\n\
         - **ready**: what that replica's `/readyz` said at last, with `HOLDFAST_UNREADY_AFTER_MS` at 2 s.\n\
         - **recovered**: from the heal until the next 201.\n\
         - **final**: from the end of the load until every order was completed.\n\
         - **sent again**: ids that went to the receiver more than once.\n\n\
         | fault | for | accepted | refused | cut off | fulfilled | slowest answer | reads failed | slowest read | ready | recovered | \
         final | sent again | promises |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for trial in trials {
        let promises = if trial.findings.hold() { "hold" } else { "**BROKEN**" };
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} of {} | {} | {} | {} | {} | {} | {promises} |",
            trial.fault,
            time(trial.lasted),
            trial.accepted + trial.accepted_of_first,
            trial.refused,
            trial.findings.cut_off,
            trial.fulfilled,
            slowest(trial),
            trial.failed_reads,
            trial.probes * 2,
            time(trial.slowest_read),
            if trial.ready { "yes" } else { "no" },
            time(trial.recovered),
            time(trial.settled),
            trial.repeats
        )?;
    }
    Ok(())
}

/// Of the other products by itself, where one was held up.
fn slowest(trial: &FaultTrial) -> String {
    match trial.fault {
        Fault::RowLocked => {
            let others = time(trial.slowest_of_others);
            format!("{}; of other products {others}", time(trial.slowest))
        }
        _ => time(trial.slowest),
    }
}

fn time(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
