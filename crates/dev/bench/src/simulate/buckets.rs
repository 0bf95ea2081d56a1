//! The stock of one product in several rows, so that several transactions can sell it at the same time.
//!
//! Each order takes a random row. It is wrongly refused if that row is empty and another is not, unless it then locks
//! the other rows one after the other.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::table;

const STOCK: usize = 10_000;
const ROWS: [usize; 4] = [2, 4, 8, 16];
const SALES: usize = 50;

/// The end of a sale; means over [`SALES`].
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Units left when the first order is wrongly refused.
    pub left: f64,
    /// Rows that an order locks if it tries the others, among the last hundred orders.
    pub looked_at: f64,
}

/// Sells [`STOCK`] units from this number of rows, one unit at a time.
pub fn sell(rows: usize) -> End {
    let mut random = StdRng::seed_from_u64(7);
    let (mut left_sum, mut looked_sum) = (0, 0);
    for _ in 0..SALES {
        let mut stock = vec![STOCK / rows; rows];
        let (mut left, mut first) = (STOCK / rows * rows, None);
        while left > 0 {
            let mut at = random.random_range(0..rows);
            let mut looked = 1;
            while stock[at] == 0 {
                first = first.or(Some(left));
                at = (at + 1) % rows;
                looked += 1;
            }
            if left <= 100 {
                looked_sum += looked;
            }
            stock[at] -= 1;
            left -= 1;
        }
        left_sum += first.unwrap_or(0);
    }
    End {
        left: left_sum as f64 / SALES as f64,
        looked_at: f64::from(looked_sum) / (SALES * 100) as f64,
    }
}

/// The table.
pub fn render() -> String {
    let heads = [
        "rows".to_owned(),
        format!("units left of {STOCK} at the first wrong refusal"),
        "rows locked by an order among the last hundred".to_owned(),
    ];
    let rows: Vec<_> = ROWS
        .map(|rows| {
            let end = sell(rows);
            vec![rows.to_string(), format!("{:.0}", end.left), format!("{:.1}", end.looked_at)]
        })
        .to_vec();
    table(&heads, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_refuses_no_request_wrongly_and_many_rows_do() {
        let one = sell(1);
        assert!(one.left < 0.5 && (one.looked_at - 1.0).abs() < 1e-9, "{one:?}");
        let many = sell(16);
        assert!(many.left > 100.0 && many.looked_at > 2.0, "{many:?}");
    }
}
