//! One hot product, and a database with a higher latency.
//!
//! A lane has one batch in progress at a time. A batch takes three round trips, a fixed time and a time for each order.
//! Then its callers are answered and order again. Without lanes, each order holds the row lock for two round trips (its
//! write and its commit) and the rest of the transaction.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::table;
use crate::report::numbers::thousands;

/// The fixed time of a batch, in µs: begin, lock, commit to disk. It is the latency of one connection on an idle
/// system, 0.50 ms (`docs/benchmarks.md`), less one order.
const BATCH_US: u64 = 400;
/// The time of each order in a batch, in µs: 1 / 65,000 per second, the rate of large batches.
const ORDER_US: u64 = 15;
/// From an answer to the caller's next order, in µs.
const CALLER_US: u64 = 100;
/// The most orders in a batch, as in `HOLDFAST_BATCH_MAX`.
const BATCH_MAX: usize = 2048;
/// The simulated time, in µs.
const UNTIL_US: u64 = 2_000_000;

const ROUND_TRIPS_US: [u64; 5] = [50, 250, 500, 1000, 2000];
const CALLERS: [usize; 3] = [256, 1024, 4096];

/// Orders per second with lanes.
pub fn with_lanes(callers: usize, round_trip_us: u64) -> f64 {
    // When each caller's next order arrives.
    let mut arrivals: BinaryHeap<Reverse<u64>> = (0..callers as u64).map(Reverse).collect();
    let (mut now, mut sold) = (0, 0_u64);
    while now < UNTIL_US {
        let Some(&Reverse(next)) = arrivals.peek() else { break };
        now = now.max(next);
        let mut batch = 0;
        while batch < BATCH_MAX && arrivals.peek().is_some_and(|Reverse(at)| *at <= now) {
            arrivals.pop();
            batch += 1;
        }
        now += BATCH_US + 3 * round_trip_us + ORDER_US * batch as u64;
        sold += batch as u64;
        arrivals.extend((0..batch).map(|_| Reverse(now + CALLER_US)));
    }
    sold as f64 / (now as f64 / 1e6)
}

/// Orders per second if each order is its own transaction. Only one caller at a time has the row lock, however many
/// there are.
pub fn without(round_trip_us: u64) -> f64 {
    1e6 / (BATCH_US + 2 * round_trip_us) as f64
}

/// The table.
pub fn render() -> String {
    let mut heads = vec!["round trip to PostgreSQL".to_owned(), "an order at a time".to_owned()];
    heads.extend(CALLERS.map(|callers| format!("lane, {} callers", thousands(callers as u64))));
    let rows: Vec<_> = ROUND_TRIPS_US
        .iter()
        .map(|&round_trip| {
            let mut row = vec![
                format!("{} ms", round_trip as f64 / 1000.0),
                format!("{}/s", thousands(without(round_trip).round() as u64)),
            ];
            row.extend(CALLERS.map(|callers| {
                // More than three digits would be meaningless.
                let rate = with_lanes(callers, round_trip);
                format!("{}/s", thousands((rate / 100.0).round() as u64 * 100))
            }));
            row
        })
        .collect();
    table(&heads, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_compensates_distance_with_more_callers() {
        // A single caller always pays the full latency.
        let alone = with_lanes(1, 1000);
        assert!((alone - 1e6 / (400.0 + 3000.0 + 15.0 + 100.0)).abs() < 1.0, "{alone}");
        // More callers make larger batches with the same latency.
        assert!(with_lanes(1024, 1000) > 1.5 * with_lanes(256, 1000));
        assert!(without(1000) < 500.0);
    }
}
