use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::Lines;

/// Any request for products 1 to 4, of which the last does not exist, and for holds and orders 1 to 6.
#[derive(Clone, Debug)]
enum AnyRequest {
    Order(Lines),
    Hold(i64, i64),
    Cancel(OrderId, Lines),
    Release(HoldId),
    Expire(HoldId),
}

impl AnyRequest {
    fn run(
        &self,
        allocator: &mut StockAllocator,
        customer: Option<&CustomerRef>,
    ) -> Result<Option<AllocatedOrder>, ()> {
        let refused = |_: Shortfall| ();
        match self {
            Self::Order(lines) => allocator.order(lines, customer).map(Some).map_err(refused),
            Self::Hold(product, units) => {
                hold(allocator, *product, *units, customer).map(|_| None).map_err(refused)
            }
            Self::Cancel(id, lines) => {
                let cancelled = allocator.cancel(*id, OrderStatus::Pending, false, lines);
                cancelled.map(|()| None).map_err(refused)
            }
            Self::Release(id) => allocator.release(*id).map(|()| None).map_err(refused),
            Self::Expire(id) => {
                if allocator.expire(*id) {
                    Ok(None)
                } else {
                    Err(())
                }
            }
        }
    }

    /// The products that it changes if it is granted.
    fn products(&self) -> Vec<ProductId> {
        match self {
            Self::Order(lines) | Self::Cancel(_, lines) => {
                lines.iter().map(|line| line.product_id).collect()
            }
            Self::Hold(product, _) => vec![ProductId(*product)],
            Self::Release(HoldId(id)) | Self::Expire(HoldId(id)) => {
                vec![ProductId((id - 1) % 3 + 1)]
            }
        }
    }
}

fn request() -> impl Strategy<Value = (AnyRequest, Option<CustomerRef>)> {
    let line = || {
        let expected = prop::option::weighted(0.2, 1i64..4);
        let hold = prop::option::weighted(0.4, 1i64..7);
        (1i64..5, 1i64..4, hold, expected).prop_map(|(product, units, hold, price)| {
            // A line from a hold fits the hold.
            let fits = hold.map(|id| line((id - 1) % 3 + 1, (id - 1) % 2 + 1));
            let line = fits.unwrap_or_else(|| line(product, units));
            let expected_price = price.map(|id| Money::from_minor(100 * id).unwrap());
            RequestedLine { hold: hold.map(HoldId), expected_price, ..line }
        })
    };
    let lines = || prop::collection::vec(line(), 1..4).prop_map(Lines::from_vec);
    let request = prop_oneof![
        4 => lines().prop_map(AnyRequest::Order),
        2 => (1i64..5, 1i64..4).prop_map(|(product, units)| AnyRequest::Hold(product, units)),
        2 => (1i64..7).prop_map(|id| AnyRequest::Expire(HoldId(id))),
        2 => (1i64..7).prop_map(|id| AnyRequest::Release(HoldId(id))),
        2 => (1i64..7, lines()).prop_map(|(id, lines)| AnyRequest::Cancel(OrderId(id), lines)),
    ];
    (request, prop::option::weighted(0.8, prop::sample::select(vec!["ann", "bob"])))
        .prop_map(|(request, name)| (request, name.map(customer)))
}

/// Three products, the second with a limit per customer, and holds and orders 1 to 5. Holds 2 and 5 are for the second
/// product; hold 5 has expired.
fn locked_rows(stocks: &[(i64, bool)], limit: u32) -> StockAllocator {
    let mut allocator = allocator(stocks);
    change_product(&mut allocator, 2, |product| {
        let since = jiff::Timestamp::UNIX_EPOCH;
        product.selling = Selling::Limited(CustomerLimit { units: limit, since, after_order: 0 });
    });
    let mut totals = BTreeMap::<_, CustomerTotals>::new();
    for id in 1..6 {
        let named = [None, Some("ann"), Some("bob")][usize::try_from(id).unwrap() % 3];
        let line = with_hold(&mut allocator, id, (id - 1) % 3 + 1, (id - 1) % 2 + 1);
        let hold = allocator.hold_row(HoldId(id)).unwrap().clone();
        let status = if id == 5 { HoldStatus::Expired } else { HoldStatus::Active };
        let hold = HeldUnits { customer: named.map(customer), status, ..hold };
        allocator.add_hold(HoldId(id), hold);
        if let (Some(name), ProductId(2), HoldStatus::Active) = (named, line.product_id, status) {
            totals.entry(customer(name)).or_default().held += units(line.quantity);
        }
        let (status, may_be_fulfilled) = (OrderStatus::Pending, id > 3);
        allocator.add_order(OrderId(id), LockedOrder { status, may_be_fulfilled });
    }
    for (customer, units) in totals {
        allocator.add_customer_totals(ProductId(2), customer, units);
    }
    allocator
}

proptest! {
    /// Compared with the simplest possible model: one counter for each product.
    #[test]
    fn orders_are_served_as_if_one_by_one(
        stocks in prop::collection::vec((0i64..60, prop::bool::weighted(0.9)), 1..6),
        orders in prop::collection::vec(
            prop::collection::vec((1i64..8, 1i64..20), 1..4), 0..60),
    ) {
        let mut allocator = allocator(&stocks);
        let mut counters = stocks.clone();
        for lines in &orders {
            let asked: Vec<_> = lines.iter().map(|&(product, units)| line(product, units)).collect();
            let granted = allocator.order(&asked, None);

            let mut after = counters.clone();
            let fits = lines.iter().all(|&(product, units)| {
                let at = usize::try_from(product - 1).unwrap();
                after.get_mut(at).is_some_and(|(left, on_sale)| {
                    *left -= units;
                    *on_sale && *left >= 0
                })
            });
            prop_assert_eq!(granted.is_ok(), fits);
            if fits {
                counters = after;
            }
        }
        let changes = allocator.changes();
        for change in &changes {
            let at = usize::try_from(change.product_id.0 - 1).unwrap();
            prop_assert_eq!(change.left.units(), counters[at].0);
            prop_assert_eq!(change.delta, counters[at].0 - stocks[at].0);
            prop_assert_eq!(change.sold, -change.delta);
        }
        let changed = stocks.iter().zip(&counters).filter(|(a, b)| a.0 != b.0).count();
        prop_assert_eq!(changes.len(), changed);
        prop_assert!(changes.is_sorted_by_key(|change| change.product_id));
    }

    /// A refused request leaves everything unchanged, at whatever step it was refused; a granted one leaves a change of
    /// each product that it names.
    #[test]
    fn a_refused_request_changes_nothing_and_a_granted_one_is_among_the_changes(
        stocks in prop::collection::vec((0i64..8, prop::bool::weighted(0.9)), 3),
        limit in 0u32..6,
        full in prop::bool::weighted(0.2),
        requests in prop::collection::vec(request(), 1..40),
    ) {
        let mut allocator = locked_rows(&stocks, limit);
        if full {
            change_product(&mut allocator, 1, |product| product.stock = stock(crate::MAX_STOCK));
        }
        for (request, customer) in requests {
            let before = allocator.clone();
            if request.run(&mut allocator, customer.as_ref()).is_err() {
                prop_assert_eq!(&allocator, &before);
                continue;
            }
            if let AnyRequest::Expire(id) = request {
                let hold = before.hold_row(id).unwrap();
                prop_assert!(hold.kept && hold.status == HoldStatus::Expired);
            }
            let changed: Vec<_> = allocator.changes().iter().map(|it| it.product_id).collect();
            prop_assert!(request.products().iter().all(|id| changed.contains(id)));
        }
    }

    #[test]
    fn no_customer_orders_more_than_the_limit(
        stocks in prop::collection::vec((0i64..8, prop::bool::weighted(0.9)), 3),
        limit in 0u32..6,
        requests in prop::collection::vec(request(), 1..40),
    ) {
        let mut allocator = locked_rows(&stocks, limit);
        let mut ordered = BTreeMap::<_, i64>::new();
        for (request, customer) in requests {
            let granted = request.run(&mut allocator, customer.as_ref());
            let (AnyRequest::Order(lines), Ok(Some(order))) = (request, granted) else { continue };
            let limited = lines.iter().filter(|line| line.product_id == ProductId(2));
            let got: i64 = limited.map(|line| units(line.quantity)).sum();
            if got > 0 {
                let customer = customer.or(order.inherited);
                prop_assert!(customer.is_some(), "of a product with a limit, a customer is counted");
                let sum = ordered.entry(customer).or_default();
                *sum += got;
                prop_assert!(*sum <= i64::from(limit));
            }
        }
    }

    /// No unit is ever lost: stock, holds and sales add up.
    #[test]
    fn units_are_conserved(
        units in 0i64..40,
        steps in prop::collection::vec((0u8..5, 1i64..6, 1i64..12), 0..60),
    ) {
        let mut allocator = allocator(&[(units, true)]);
        let mut held = 0;
        for id in 1..6 {
            with_hold(&mut allocator, id, 1, id);
            held += id;
            allocator.add_order(OrderId(id), untouched(OrderStatus::Pending));
        }
        for (kind, id, asked) in steps {
            let held_line = RequestedLine { hold: Some(HoldId(id)), ..line(1, id) };
            let request = match kind {
                0 => AnyRequest::Order(Lines::from_slice(&[line(1, asked)])),
                1 => AnyRequest::Order(Lines::from_slice(&[held_line, line(1, asked)])),
                2 => AnyRequest::Hold(1, asked),
                3 => AnyRequest::Release(HoldId(id)),
                _ => AnyRequest::Cancel(OrderId(id), Lines::from_slice(&[line(1, id)])),
            };
            let _ = request.run(&mut allocator, None);
        }
        for change in allocator.changes() {
            prop_assert_eq!(change.delta, change.returned - change.sold - change.held);
            prop_assert_eq!(change.left.units(), units + change.delta);
            prop_assert_eq!(change.held_after, held + change.held);
            prop_assert!(change.held_after >= 0);
        }
    }
}
