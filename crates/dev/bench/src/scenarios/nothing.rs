//! The do-nothing server, on the same HTTP stack: the upper bound.

use std::sync::Arc;

use super::Bench;
use super::settings::CONNECTIONS;
use crate::environment::Nothing;
use crate::load::{Choice, ClientGroup, LoadPlan, Pace, Requests};
use crate::report::model::{Point, part};

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let server = Nothing::start().await?;
    let orders = Arc::new(Requests::orders(&[1], Choice::Uniform));
    let reads = Arc::new(Requests::reads(&[1], Choice::Uniform));
    for (name, requests) in [(part::NOTHING_POST, orders), (part::NOTHING_GET, reads)] {
        for connections in bench.settings.connections(bench.round, &[CONNECTIONS]) {
            let group = ClientGroup {
                name,
                targets: vec![server.address()],
                connections,
                requests: Arc::clone(&requests),
                pace: Pace::Closed,
            };
            let plan = LoadPlan::closed(group, bench.settings.warm_up, bench.settings.measured);
            let measured = bench.measure(plan, server.watched()).await?;
            let point = Point { connections: connections as u32, ..measured.point(name)? };
            bench.record(point);
        }
    }
    server.stop().await
}
