//! The allocation of stock to the orders of one batch, in the order of their arrival.

use std::collections::BTreeMap;

use crate::{Money, ProductId, Quantity, Stock};

/// What one order of the batch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Of which product.
    pub product_id: ProductId,
    /// How many units.
    pub quantity: Quantity,
}

/// What a locked product row has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Units left.
    pub stock: Stock,
    /// What one unit costs.
    pub price: Money,
    /// The row's version before the batch.
    pub version: i64,
    /// Whether the product is sold at all; one that was taken out of the shop is not.
    pub on_sale: bool,
}

/// Why an order of the batch gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// There is no such product, or it is no longer sold.
    UnknownProduct,
    /// Fewer units are left than the order asks for.
    NotEnough {
        /// What was left for this order.
        left: Stock,
    },
}

/// A product whose stock the batch changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockChange {
    /// Which one.
    pub product_id: ProductId,
    /// Units taken from it, at least 1.
    pub taken: i64,
    /// What is left afterwards.
    pub left: Stock,
    /// The version that its row gets.
    pub version: i64,
}

/// The outcome for a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// For each demand, in the order given: the price of one unit, or why it gets nothing.
    pub verdicts: Vec<Result<Money, Shortfall>>,
    /// The products that change, by ascending id.
    pub changes: Vec<StockChange>,
}

/// Gives out stock to `demands` in the order given. An order is served whole or not at all; one
/// that is refused does not stand in the way of a later, smaller one.
///
/// A product that `shelf` does not have is unknown.
pub fn allocate(shelf: &BTreeMap<ProductId, Available>, demands: &[Demand]) -> Allocation {
    let mut left: BTreeMap<ProductId, (Stock, i64)> = BTreeMap::new();
    let verdicts = demands
        .iter()
        .map(|demand| {
            let product = shelf
                .get(&demand.product_id)
                .filter(|product| product.on_sale)
                .ok_or(Shortfall::UnknownProduct)?;
            let (stock, taken) = left.entry(demand.product_id).or_insert((product.stock, 0));
            *stock = stock.take(demand.quantity).ok_or(Shortfall::NotEnough { left: *stock })?;
            *taken += i64::from(demand.quantity.units());
            Ok(product.price)
        })
        .collect();
    let changes = left
        .into_iter()
        .filter(|(_, (_, taken))| *taken > 0)
        .filter_map(|(product_id, (left, taken))| {
            let version = shelf.get(&product_id)?.version + 1;
            Some(StockChange { product_id, taken, left, version })
        })
        .collect();
    Allocation { verdicts, changes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shelf(stocks: &[(i64, bool)]) -> BTreeMap<ProductId, Available> {
        (1..)
            .zip(stocks)
            .map(|(id, &(stock, on_sale))| {
                let available = Available {
                    stock: Stock::new(stock).unwrap(),
                    price: Money::from_minor(100 * id).unwrap(),
                    version: 7,
                    on_sale,
                };
                (ProductId(id), available)
            })
            .collect()
    }

    fn demand(product: i64, units: i64) -> Demand {
        Demand { product_id: ProductId(product), quantity: Quantity::new(units, 1_000).unwrap() }
    }

    #[test]
    fn a_large_order_that_is_refused_leaves_the_rest_to_a_smaller_one() {
        let outcome = allocate(
            &shelf(&[(5, true)]),
            &[demand(1, 3), demand(1, 3), demand(1, 2), demand(1, 1)],
        );
        let left = |units| Err(Shortfall::NotEnough { left: Stock::new(units).unwrap() });
        let price = Ok(Money::from_minor(100).unwrap());
        assert_eq!(outcome.verdicts, [price, left(2), price, left(0)]);
        let change = StockChange {
            product_id: ProductId(1),
            taken: 5,
            left: Stock::new(0).unwrap(),
            version: 8,
        };
        assert_eq!(outcome.changes, [change]);
    }

    #[test]
    fn what_is_not_on_sale_is_unknown() {
        let outcome = allocate(&shelf(&[(5, false)]), &[demand(1, 1), demand(2, 1)]);
        assert_eq!(outcome.verdicts, [Err(Shortfall::UnknownProduct); 2]);
        assert_eq!(outcome.changes, []);
    }

    proptest! {
        /// Compared with the plainest possible model: one counter for each product.
        #[test]
        fn allocation_equals_serving_the_orders_one_by_one(
            stocks in prop::collection::vec((0i64..60, prop::bool::weighted(0.9)), 1..6),
            orders in prop::collection::vec((1i64..8, 1i64..20), 0..80),
        ) {
            let shelf = shelf(&stocks);
            let demands: Vec<_> = orders.iter().map(|&(p, q)| demand(p, q)).collect();
            let outcome = allocate(&shelf, &demands);

            let mut counters = stocks.clone();
            for (&(product, units), verdict) in orders.iter().zip(&outcome.verdicts) {
                let counter = usize::try_from(product - 1).ok().and_then(|at| counters.get_mut(at));
                match counter {
                    Some((left, true)) if *left >= units => {
                        *left -= units;
                        prop_assert!(verdict.is_ok());
                    }
                    Some((left, true)) => prop_assert_eq!(
                        *verdict,
                        Err(Shortfall::NotEnough { left: Stock::new(*left).unwrap() })
                    ),
                    _ => prop_assert_eq!(*verdict, Err(Shortfall::UnknownProduct)),
                }
            }
            for change in &outcome.changes {
                let at = usize::try_from(change.product_id.0 - 1).unwrap();
                prop_assert_eq!(change.left.units(), counters[at].0);
                prop_assert_eq!(change.left.units() + change.taken, stocks[at].0);
            }
            let changed = stocks.iter().zip(&counters).filter(|(a, b)| a.0 != b.0).count();
            prop_assert_eq!(outcome.changes.len(), changed);
            prop_assert!(outcome.changes.is_sorted_by_key(|change| change.product_id));
        }
    }
}
