//! pgbench on the same PostgreSQL: orders as a shop without batches writes them.

use super::Bench;
use super::measure::cpu_us;
use super::settings::PRODUCTS;
use crate::pgbench::{self, Script};
use crate::processes;
use crate::report::model::{Point, Quantiles, part};
use crate::stage::STOCK;

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for products in [1, PRODUCTS] {
        for (script, name) in [
            (Script::ForUpdate, part::PGBENCH_FOR_UPDATE),
            (Script::SingleStatement, part::PGBENCH_CTE),
        ] {
            // A database of its own, so that no script works with the dead rows of another.
            let database = bench.stage.new_database(products).await?;
            for clients in bench.settings.pgbench_clients.clone() {
                let point = measure(bench, &database, script, name, products, clients).await?;
                bench.record(point);
                pgbench::tidy(&database).await?;
            }
            pgbench::check(&database, STOCK).await?;
            bench.stage.drop_database(&database).await?;
        }
    }
    Ok(())
}

async fn measure(
    bench: &Bench,
    database: &str,
    script: Script,
    name: &str,
    products: u32,
    clients: u32,
) -> anyhow::Result<Point> {
    let seconds = bench.settings.pgbench_s;
    let servers = bench.stage.watched().await?;
    let (before, pgbench_before) = (processes::cpu(&servers), processes::ended_children());
    let outcome = bench.stage.pgbench.run(database, script, products, clients, seconds).await?;
    let orders = outcome.orders_per_s * f64::from(seconds);
    let mut cpu = processes::cpu_since(&before, &servers);
    cpu.retain(|name, _| *name == "PostgreSQL");
    cpu.insert("pgbench", processes::ended_children().saturating_sub(pgbench_before));
    Ok(Point {
        part: name.to_owned(),
        products,
        connections: clients,
        measured_s: f64::from(seconds),
        orders_per_s: outcome.orders_per_s,
        latency_ms: Quantiles { mean: outcome.latency_mean_ms, ..Quantiles::default() },
        cpu_us: cpu_us(&cpu, orders),
        ..Point::default()
    })
}
