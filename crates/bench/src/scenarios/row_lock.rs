//! Another session holds one product's row, while 1,000 products are ordered: what do the others
//! lose?
//!
//! The clients of the locked product have connections of their own. With shared ones, a client
//! that waits for the locked product orders nothing else meanwhile, and the measurement would show
//! the clients' patience and not the server's.

use std::sync::Arc;
use std::time::Duration;

use super::Bench;
use super::measure::describe;
use super::settings::{CONNECTIONS, PRODUCTS};
use crate::audit::Expectation;
use crate::load::{Choice, Group, Pace, Plan, Requests};
use crate::report::model::part;
use crate::stage::{RowLock, ShopOptions};

/// Clients that want the locked product.
const WAITING: usize = 16;

pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let mut shop = bench.stage.open_shop(ShopOptions { products: PRODUCTS, replicas: 1 }).await?;
    let Some((locked, others)) = shop.product_ids.split_first() else { return Ok(()) };
    let group = |name, connections, products: &[i64]| Group {
        name,
        targets: shop.targets(),
        connections,
        requests: Arc::new(Requests::orders(products, Choice::Uniform)),
        pace: Pace::Closed,
    };
    let groups = vec![group("others", CONNECTIONS, others), group("locked", WAITING, &[*locked])];

    // Unlocked, locked, unlocked: a slow drift of the machine falls on both.
    let (warm_up, held) = (bench.settings.warm_up, bench.settings.row_locked);
    let (taken, released) = (warm_up + held / 2, warm_up + held / 2 + held);
    let plan = Plan { groups, ..Plan::closed(group("", 1, others), warm_up, held * 2) };
    let locking = async {
        // The generator takes a moment to connect; `EDGE` below is longer.
        tokio::time::sleep(taken).await;
        let lock = RowLock::take(&shop.database_url, *locked).await?;
        tokio::time::sleep(held).await;
        lock.release().await
    };
    let (measured, locking) =
        tokio::join!(bench.measure(plan, bench.watched(&shop).await?), locking);
    locking?;
    let measured = measured?;

    let mut point = measured.point(part::ROW_LOCKED)?;
    point.connections = CONNECTIONS as u32;
    describe(&shop, &mut point);
    if let [others, locked] = measured.report.groups.as_slice() {
        const EDGE: Duration = Duration::from_millis(300);
        let end = warm_up + held * 2;
        let before = others.orders_per_s_between(warm_up, taken.saturating_sub(EDGE));
        let after = others.orders_per_s_between(released + EDGE, end);
        let during = others.orders_per_s_between(taken + EDGE, released.saturating_sub(EDGE));
        let waiting = locked.orders_per_s_between(taken + EDGE, released.saturating_sub(EDGE));
        for (name, value) in [
            ("unlocked_orders_per_s", f64::midpoint(before, after)),
            ("locked_orders_per_s", during),
            ("ordered_of_the_locked_per_s", waiting),
        ] {
            point.more.insert(name.to_owned(), value);
        }
    }
    shop.log.add(&measured.report);
    bench.record(point);
    bench.close(shop, part::ROW_LOCKED, Expectation::default()).await
}
