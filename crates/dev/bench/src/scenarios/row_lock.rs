//! Another session holds row locks while clients order: how much slower are requests that do not need these rows?
//!
//! The clients of the locked rows have their own connections. With shared connections, a client that waits for a locked
//! product would not order anything else in the meantime, and the measurement would show the behaviour of the clients
//! instead of the server's.
//!
//! Three states alternate, and each is compared with its neighbours, because the speed of the machine drifts. The order
//! of the last two alternates, too, because the state after an open transaction cleans up its old row versions:
//! - free;
//! - open: the other session has a transaction that has no locks. As long as it is open, PostgreSQL keeps every old
//!   version of every row, which costs any program that updates rows;
//! - locked: the same transaction has locked the rows. Only the cost beyond the open transaction is caused by Holdfast.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Bench;
use super::measure::{describe, quantile, sorted};
use super::settings::{CONNECTIONS, PRODUCTS};
use crate::audit::Expectation;
use crate::environment::{BenchFixture, FixtureOptions, RowLock, RowsToLock};
use crate::load::{Accepted, Choice, ClientGroup, LoadPlan, Pace, Requests, answer, http_request};
use crate::report::model::part;

/// Clients that order the one locked product.
const WAITING: usize = 16;

/// The numbers of locked rows: products, orders that are to be cancelled, idempotency keys. A cancelled order is not
/// cancelled again, so there are enough for the whole run.
const LOCKED: (usize, usize, usize) = (30, 2_000, 8);

/// Clients that cancel orders.
const CANCELLING: usize = 8;

/// A change of the locks and its effects take a moment.
const EDGE: Duration = Duration::from_millis(300);

/// The requests for each kind of locked row. They are few, so that they cause no significant load while the rows are
/// free.
const WAITING_PACE: Pace = Pace::Open { per_second: 50.0, patience: Duration::from_secs(1) };

/// The states of the other session.
#[derive(Clone, Copy)]
enum LockState {
    Free,
    Open,
    Locked,
}

const STATES: usize = 3;

/// The order of the states in a turn.
fn states(turn: u32) -> [LockState; STATES] {
    if turn.is_multiple_of(2) {
        [LockState::Free, LockState::Open, LockState::Locked]
    } else {
        [LockState::Free, LockState::Locked, LockState::Open]
    }
}

/// One locked product among 1,000.
pub async fn one(bench: &mut Bench) -> anyhow::Result<()> {
    let fixture =
        bench.environment.open_fixture(FixtureOptions { products: PRODUCTS, replicas: 1 }).await?;
    let products = &fixture.product_ids[..1];
    let rows = RowsToLock { products: products.to_vec(), ..RowsToLock::default() };
    let waiting = vec![waiting(&fixture, "locked", order(products), WAITING)];
    let others = others(&fixture, &fixture.product_ids[1..]);
    measure(bench, fixture, part::ROW_LOCKED, rows, others, waiting).await
}

/// Many locked rows of each kind: first with 1,000 other products, then with one product that two replicas sell.
pub async fn many(bench: &mut Bench) -> anyhow::Result<()> {
    for (part, products, replicas) in
        [(part::ROWS_LOCKED, PRODUCTS as usize, 1), (part::ROWS_LOCKED_HOT, 1, 2)]
    {
        let (locked, cancelled, keyed) = LOCKED;
        // One more product, for the orders that are cancelled or repeated.
        let total = u32::try_from(locked + 1 + products)?;
        let mut fixture =
            bench.environment.open_fixture(FixtureOptions { products: total, replicas }).await?;
        let (locked, free) = fixture.product_ids.split_at(locked);
        let (own, others) = (free[0], free[1..].to_vec());
        let locked = locked.to_vec();
        let keys: Vec<String> =
            (0..cancelled + keyed).map(|at| format!("row-lock-{replicas}-{at}")).collect();
        let accepted = place(&fixture, own, &keys).await?;
        let ids: Vec<i64> = accepted.iter().map(|order| order.id).collect();
        let (cancelled, keyed) = ids.split_at(cancelled);
        let rows = RowsToLock {
            products: locked.clone(),
            orders: cancelled.to_vec(),
            keys_of: keyed.to_vec(),
        };
        let repeats = Requests::repeats(own, &keys[cancelled.len()..]);
        let waiting = vec![
            waiting(&fixture, "locked", order(&locked), locked.len()),
            waiting(&fixture, "cancels", Requests::cancels(cancelled), CANCELLING),
            waiting(&fixture, "repeats", repeats, keyed.len()),
        ];
        let others = self::others(&fixture, &others);
        fixture.log.accepted.extend(accepted);
        measure(bench, fixture, part, rows, others, waiting).await?;
    }
    Ok(())
}

fn order(products: &[i64]) -> Requests {
    Requests::orders(products, Choice::Uniform)
}

fn others(fixture: &BenchFixture, products: &[i64]) -> ClientGroup {
    let group = waiting(fixture, "others", order(products), CONNECTIONS);
    ClientGroup { pace: Pace::Closed, ..group }
}

fn waiting(
    fixture: &BenchFixture,
    name: &'static str,
    requests: Requests,
    connections: usize,
) -> ClientGroup {
    ClientGroup {
        name,
        targets: fixture.targets(),
        connections,
        requests: Arc::new(requests),
        pace: WAITING_PACE,
    }
}

/// Places an order with each key.
async fn place(
    fixture: &BenchFixture,
    product_id: i64,
    keys: &[String],
) -> anyhow::Result<Vec<Accepted>> {
    let target = *fixture.targets().first().context("a shop without replicas")?;
    let body = format!(r#"{{"product_id":{product_id},"quantity":1}}"#);
    let mut connection = TcpStream::connect(target).await?;
    let mut accepted = Vec::new();
    for key in keys {
        let request = http_request("POST", "/orders", Some(key), Some(&body));
        connection.write_all(&request).await?;
        let mut received = Vec::new();
        let answer = loop {
            anyhow::ensure!(connection.read_buf(&mut received).await? > 0, "the connection ended");
            let answer = answer::parse(&received);
            if let Some(answer) = answer.ok().context("an answer that is not understood")? {
                break answer;
            }
        };
        let body = received.get(answer.body).unwrap_or_default();
        anyhow::ensure!(answer.status == 201, "refused: {}", String::from_utf8_lossy(body));
        let order: serde_json::Value = serde_json::from_slice(body)?;
        let id = order["id"].as_i64().context("an order without an id")?;
        accepted.push(Accepted { id, product_id, quantity: 1 });
    }
    Ok(accepted)
}

async fn measure(
    bench: &mut Bench,
    mut fixture: BenchFixture,
    part: &'static str,
    rows: RowsToLock,
    others: ClientGroup,
    waiting: Vec<ClientGroup>,
) -> anyhow::Result<()> {
    let (warm_up, turn) = (bench.settings.warm_up, bench.settings.row_locked / 2 + EDGE * 2);
    let turns = bench.settings.row_lock_turns;
    let measured = turn * (turns * STATES as u32);
    let mut groups = vec![others.clone()];
    groups.extend(waiting);
    let plan = LoadPlan { groups, ..LoadPlan::closed(others, warm_up, measured) };
    let locking = async {
        // The generator takes a moment to connect, which is shorter than `EDGE`.
        let mut next = tokio::time::Instant::now() + warm_up;
        for number in 0..turns {
            for state in states(number) {
                let lock = match state {
                    LockState::Free => None,
                    LockState::Open => Some(RowsToLock::default()),
                    LockState::Locked => Some(rows.clone()),
                };
                let lock = match lock {
                    Some(rows) => Some(RowLock::take_all(&fixture.database_url, &rows).await?),
                    None => None,
                };
                next += turn;
                tokio::time::sleep_until(next).await;
                if let Some(lock) = lock {
                    lock.release().await?;
                }
            }
        }
        anyhow::Ok(())
    };
    let (measured, locking) =
        tokio::join!(bench.measure(plan, bench.watched(&fixture).await?), locking);
    locking?;
    let mut measured = measured?;

    let mut point = measured.point(part)?;
    point.connections = CONNECTIONS as u32;
    describe(&fixture, &mut point);
    if let [others, ..] = measured.report.groups.as_slice() {
        let rate = |number: u32| {
            let begin = warm_up + turn * number;
            others.orders_per_s_between(begin + EDGE, (begin + turn).saturating_sub(EDGE))
        };
        let rates: Vec<[f64; STATES]> = (0..turns)
            .map(|turn| {
                let mut rates = [0.0; STATES];
                for (at, state) in (turn * STATES as u32..).zip(states(turn)) {
                    rates[state as usize] = rate(at);
                }
                rates
            })
            .collect();
        let text: Vec<_> = rates.iter().map(|rates| format!("{rates:.0?}")).collect();
        bench.note(&format!("  orders/s free, open, locked: {}", text.join(" ")));
        for (name, value) in [
            ("free_orders_per_s", median(rates.iter().map(|[free, _, _]| *free))),
            ("open_orders_per_s", median(rates.iter().map(|[_, open, _]| *open))),
            ("locked_orders_per_s", median(rates.iter().map(|[_, _, locked]| *locked))),
            ("open_of_free", median(rates.iter().map(|[free, open, _]| open / free))),
            ("locked_of_open", median(rates.iter().map(|[_, open, locked]| locked / open))),
            ("locked_of_free", median(rates.iter().map(|[free, _, locked]| locked / free))),
        ] {
            point.more.insert(name.to_owned(), value);
        }
    }
    // A repetition is answered with the same order.
    let mut known: BTreeSet<i64> = fixture.log.accepted.iter().map(|order| order.id).collect();
    for group in measured.report.groups.iter_mut().filter(|group| group.name == "repeats") {
        group.accepted.retain(|order| known.insert(order.id));
    }
    fixture.log.add(&measured.report);
    bench.record(point);
    bench.close(fixture, part, Expectation::default()).await
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(&sorted(values), 0.5)
}
