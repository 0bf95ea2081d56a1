//! Writing into an order's history: `orders.earlier`.
//!
//! Only what takes an order back, or out of its way, pays for it. An order that goes straight
//! through has no history but the times in its row.

/// An expression for `orders.earlier` with further steps behind it: `$steps`, put together, is SQL for one or
/// more JSON objects, separated by commas. Keeps the last 50 steps that nobody asked for by name, and the
/// last 50 that somebody did: a long outage must not push out who replayed an order, and when.
macro_rules! earlier_with {
    ($($steps:literal),+) => {
        concat!(
            "(SELECT jsonb_agg(step ORDER BY place) FROM ( \
                 SELECT step, place, row_number() OVER ( \
                     PARTITION BY step ? 'by' ORDER BY place DESC) AS from_end \
                 FROM jsonb_array_elements(coalesce(orders.earlier, '[]') || \
                     jsonb_strip_nulls(jsonb_build_array(",
            $($steps,)+
            "))) WITH ORDINALITY AS kept (step, place)) AS kept WHERE from_end <= 50)"
        )
    };
}
pub(crate) use earlier_with;
