//! Baselines: pgbench places orders one by one on the same PostgreSQL, as a shop without batches does.

use super::Bench;
use super::measure::cpu_us;
use super::settings::PRODUCTS;
use crate::environment::STOCK;
use crate::pgbench::{self, Script};
use crate::processes::{Usage, ended_children};
use crate::report::model::{Point, Quantiles, part};

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for products in [1, PRODUCTS] {
        for (script, name) in [
            (Script::ForUpdate, part::PGBENCH_FOR_UPDATE),
            (Script::SingleStatement, part::PGBENCH_CTE),
        ] {
            // Each has its own database, so that no script encounters the dead rows of another.
            let database = bench.environment.new_database(products).await?;
            for clients in bench.settings.pgbench_clients.clone() {
                let point = measure(bench, &database, script, name, products, clients).await?;
                bench.record(point);
                pgbench::tidy(&database).await?;
            }
            pgbench::check(&database, STOCK).await?;
            bench.environment.drop_database(&database).await?;
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
    let servers = bench.environment.watched().await?;
    let (before, pgbench_before) = (Usage::so_far(&servers), ended_children());
    let outcome =
        bench.environment.pgbench.run(database, script, products, clients, seconds).await?;
    let orders = outcome.orders_per_s * f64::from(seconds);
    let (mut cpu, others_cpu_percent) = Usage::since(&before, &servers);
    cpu.retain(|name, _| *name == "PostgreSQL");
    let pgbench = ended_children().saturating_sub(pgbench_before);
    cpu.insert("pgbench", pgbench);
    // pgbench is not watched while it runs, so it was counted with other processes.
    let cores = std::thread::available_parallelism()?.get() as f64;
    let own_percent = pgbench.as_secs_f64() / (f64::from(seconds) * cores) * 100.0;
    Ok(Point {
        part: name.to_owned(),
        products,
        connections: clients,
        measured_s: f64::from(seconds),
        orders_per_s: outcome.orders_per_s,
        latency_ms: Quantiles { mean: outcome.latency_mean_ms, ..Quantiles::default() },
        cpu_us: cpu_us(&cpu, orders),
        others_cpu_percent: (others_cpu_percent - own_percent).max(0.0),
        ..Point::default()
    })
}
