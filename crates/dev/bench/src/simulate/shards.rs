//! Products spread over several databases by a hash of their ids.
//!
//! The hottest database limits the throughput: the speed-up over one database is 1 / its share of the traffic.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::table;

const PRODUCTS: usize = 10_000;
const DATABASES: [usize; 4] = [2, 4, 8, 16];
/// The number of placements; the table shows their mean.
const PLACEMENTS: usize = 50;

/// The distribution of the traffic.
#[derive(Clone, Copy, Debug)]
pub enum Traffic {
    /// Zipf's law with this exponent; 0 means the same probability for all.
    Zipf(f64),
    /// This fraction is for one product, the rest follows Zipf's law with exponent 0.8.
    Flash(f64),
}

impl Traffic {
    /// The share of each product.
    fn shares(self) -> Vec<f64> {
        let zipf = |exponent: f64| -> Vec<f64> {
            let weights: Vec<_> =
                (1..=PRODUCTS).map(|rank| (rank as f64).powf(-exponent)).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter().map(|weight| weight / sum).collect()
        };
        match self {
            Self::Zipf(exponent) => zipf(exponent),
            Self::Flash(hot) => {
                let mut shares: Vec<_> =
                    zipf(0.8).into_iter().map(|share| share * (1.0 - hot)).collect();
                shares[0] += hot;
                shares
            }
        }
    }
}

/// The throughput of this number of databases, relative to one.
pub fn speed_up(traffic: Traffic, databases: usize) -> f64 {
    let shares = traffic.shares();
    let mut random = StdRng::seed_from_u64(7);
    let sum: f64 = (0..PLACEMENTS)
        .map(|_| {
            let mut load = vec![0.0; databases];
            for share in &shares {
                load[random.random_range(0..databases)] += share;
            }
            1.0 / load.iter().copied().fold(0.0, f64::max)
        })
        .sum();
    sum / PLACEMENTS as f64
}

/// The table.
pub fn render() -> String {
    let kinds = [
        ("uniform", Traffic::Zipf(0.0)),
        ("Zipf 0.8", Traffic::Zipf(0.8)),
        ("Zipf 1.1", Traffic::Zipf(1.1)),
        ("half of the orders for one product", Traffic::Flash(0.5)),
        ("nine tenths of the orders for one product", Traffic::Flash(0.9)),
    ];
    let mut heads = vec!["traffic".to_owned()];
    heads.extend(DATABASES.map(|databases| format!("{databases} databases")));
    let rows: Vec<_> = kinds
        .map(|(name, traffic)| {
            let mut row = vec![name.to_owned()];
            row.extend(DATABASES.map(|count| format!("{:.1} ×", speed_up(traffic, count))));
            row
        })
        .to_vec();
    table(&heads, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreading_helps_many_products_and_not_a_single_one() {
        assert!(speed_up(Traffic::Zipf(0.0), 8) > 7.0);
        assert!(speed_up(Traffic::Flash(0.9), 16) < 1.12);
    }
}
