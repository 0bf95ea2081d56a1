//! Writes an order's history: `orders.earlier`.
//!
//! Only unusual steps are written. The history of an order that is fulfilled at the first attempt consists of the times
//! in its row.

/// The beginning of an expression that appends steps to `orders.earlier`: it is followed by one or more JSON objects
/// with commas between them, and [`end_of_history`].
macro_rules! history_with {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        (
            SELECT jsonb_agg(step ORDER BY place)
            FROM (
                SELECT step, place,
                    row_number() OVER (PARTITION BY step ? 'by' ORDER BY place DESC) AS from_end
                FROM jsonb_array_elements(
                    coalesce(orders.earlier, '[]') || jsonb_strip_nulls(jsonb_build_array(
    "#] $($to)+) };
}

/// The end of the expression. It keeps the last 50 steps without an operator and the last 50 steps with one, so that a
/// long outage does not remove the records of replays.
macro_rules! end_of_history {
    ($($to:tt)+) => { $crate::sql::part!([r#"
                    ))
                ) WITH ORDINALITY AS kept (step, place)
            ) AS kept
            WHERE from_end <= 50
        )
    "#] $($to)+) };
}

pub(crate) use {end_of_history, history_with};
