//! The endpoints of the console, on the admin port.

mod charts;
mod stats;
mod stock;

use crate::{
    app::App,
    console::Console,
    endpoint::BoundEndpoint,
    problem::{Problem, ProblemKind},
};

pub(super) fn all() -> impl IntoIterator<Item = BoundEndpoint> {
    [
        stats::ENDPOINT.answered_by(stats::stats),
        charts::ENDPOINT.answered_by(charts::chart),
        stock::ENDPOINT.answered_by(stock::list),
    ]
}

/// The console, if it is on.
fn console(app: &App) -> Result<&Console, Problem> {
    let off = "The console of this server is off. Set HOLDFAST_CONSOLE=on to turn it on.";
    app.console.as_ref().ok_or_else(|| Problem::with_detail(ProblemKind::NotFound, off))
}
