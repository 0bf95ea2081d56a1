use proptest::prelude::*;

use super::*;
use crate::{Lines, Stock};

fn quantity(units: i64) -> Quantity {
    Quantity::new(units, 1_000).unwrap()
}

fn stock(units: i64) -> Stock {
    Stock::new(units).unwrap()
}

/// A product of which each customer gets so many, out of ten.
fn limited(units: u32) -> Shelf {
    let limit = CustomerLimit { units, since: jiff::Timestamp::UNIX_EPOCH, after_order: 0 };
    selling(Selling::Limited(limit))
}

/// A product, ten of it.
fn selling(selling: Selling) -> Shelf {
    let mut shelf = shelf(&[(10, true)]);
    put_again(&mut shelf, 1, |product| product.selling = selling);
    shelf
}

/// Puts a product on the shelf once more, changed.
fn put_again(shelf: &mut Shelf, id: i64, change: impl FnOnce(&mut Available)) {
    let mut available = shelf.0.product(ProductId(id)).unwrap().before;
    change(&mut available);
    shelf.put(ProductId(id), available);
}

fn customer(name: &str) -> CustomerRef {
    CustomerRef::new(name.to_owned()).unwrap()
}

/// Products 1, 2, … with these stocks, each at its id in full units of money.
fn shelf(stocks: &[(i64, bool)]) -> Shelf {
    let mut shelf = Shelf::default();
    for (id, &(units, on_sale)) in (1..).zip(stocks) {
        let price = Money::from_minor(100 * id).unwrap();
        let selling = Selling::Always;
        let available =
            Available { stock: stock(units), held: 0, price, version: 7, on_sale, selling };
        shelf.put(ProductId(id), available);
    }
    shelf
}

fn line(product: i64, units: i64) -> Line {
    Line::from_stock(ProductId(product), quantity(units))
}

fn hold(product: i64, units: i64) -> Demand {
    let (product_id, quantity) = (ProductId(product), quantity(units));
    Demand::Hold { product_id, quantity, expected_price: None }
}

fn order(lines: &[Line]) -> Demand {
    Demand::Order(Lines::from_slice(lines))
}

fn ordered(prices: &[i64]) -> Grant {
    let unit_prices = prices.iter().map(|minor| Money::from_minor(*minor).unwrap()).collect();
    Grant::Order { unit_prices, inherited: None }
}

fn with_hold(shelf: &mut Shelf, id: i64, product: i64, units: i64) -> Line {
    let held = HeldUnits {
        product_id: ProductId(product),
        quantity: quantity(units),
        unit_price: Money::from_minor(1).unwrap(),
        customer: None,
        status: HoldStatus::Active,
        kept: true,
    };
    shelf.put_hold(HoldId(id), held);
    put_again(shelf, product, |product| product.held += units);
    Line { hold: Some(HoldId(id)), ..line(product, units) }
}

#[test]
fn a_large_order_that_is_refused_leaves_the_rest_to_a_smaller_one() {
    let mut shelf = shelf(&[(5, true)]);
    let left = |units| Err(Shortfall::NotEnough { product_id: ProductId(1), left: stock(units) });
    let price = Ok(ordered(&[100]));
    assert_eq!(shelf.serve(&order(&[line(1, 3)]), None), price);
    assert_eq!(shelf.serve(&order(&[line(1, 3)]), None), left(2));
    assert_eq!(shelf.serve(&order(&[line(1, 2)]), None), price);
    assert_eq!(shelf.serve(&order(&[line(1, 1)]), None), left(0));
    let change = StockChange {
        product_id: ProductId(1),
        version: 8,
        delta: -5,
        left: stock(0),
        held_after: 0,
        sold: 5,
        returned: 0,
        held: 0,
        on_sale: true,
    };
    assert_eq!(shelf.changes(), [change]);
}

#[test]
fn an_order_of_several_lines_gets_all_or_nothing() {
    let mut shelf = shelf(&[(5, true), (1, true), (5, false)]);
    let short = Shortfall::NotEnough { product_id: ProductId(2), left: stock(1) };
    assert_eq!(shelf.serve(&order(&[line(1, 5), line(2, 2)]), None), Err(short));
    let unknown = Err(Shortfall::UnknownProduct(ProductId(3)));
    assert_eq!(shelf.serve(&order(&[line(1, 5), line(3, 1)]), None), unknown);
    assert_eq!(shelf.changes(), []);
    assert!(shelf.serve(&order(&[line(1, 5), line(2, 1)]), None).is_ok());
}

#[test]
fn what_is_not_on_sale_is_unknown() {
    let mut shelf = shelf(&[(5, false)]);
    for id in [1, 2] {
        let unknown = Err(Shortfall::UnknownProduct(ProductId(id)));
        assert_eq!(shelf.serve(&order(&[line(id, 1)]), None), unknown.clone());
        let hold = hold(id, 1);
        assert_eq!(shelf.serve(&hold, None), unknown);
    }
}

#[test]
fn a_hold_is_used_once_and_at_its_own_price() {
    let mut shelf = shelf(&[(0, true)]);
    let held = with_hold(&mut shelf, 9, 1, 3);
    let other = Line { quantity: quantity(2), ..held };
    assert_eq!(shelf.serve(&order(&[other]), None), Err(Shortfall::HoldDiffers(HoldId(9))));
    // A line that cannot be had gives the hold back to whoever comes next.
    assert!(shelf.serve(&order(&[held, line(1, 1)]), None).is_err());
    assert_eq!(shelf.changes(), []);
    assert_eq!(shelf.serve(&order(&[held]), None), Ok(ordered(&[1])));
    let ended = Shortfall::HoldEnded { hold_id: HoldId(9), status: HoldStatus::Used };
    assert_eq!(shelf.serve(&order(&[held]), None), Err(ended));
    let release = Demand::Release { hold_id: HoldId(9), product_id: ProductId(1) };
    assert_eq!(shelf.serve(&release, None), Err(ended));
    let change = shelf.changes()[0];
    assert_eq!((change.delta, change.sold, change.held, change.held_after), (0, 3, -3, 0));
}

#[test]
fn a_released_or_expired_hold_is_in_stock_again() {
    let mut shelf = shelf(&[(1, true)]);
    with_hold(&mut shelf, 1, 1, 3);
    with_hold(&mut shelf, 2, 1, 4);
    let over = HeldUnits { status: HoldStatus::Expired, ..shelf.hold(HoldId(2)).unwrap().clone() };
    shelf.put_hold(HoldId(2), over);
    let release = Demand::Release { hold_id: HoldId(1), product_id: ProductId(1) };
    assert_eq!(shelf.serve(&release, None), Ok(Grant::Returned));
    let holds = vec![HoldId(1), HoldId(2), HoldId(3)];
    let expire = Demand::Expire { product_id: ProductId(1), holds };
    assert_eq!(shelf.serve(&expire, None), Ok(Grant::Expired(vec![HoldId(2)])));
    assert_eq!(shelf.serve(&expire, None), Ok(Grant::Expired(vec![])), "once");
    assert!(shelf.expire(HoldId(2)).is_err());
    assert!(shelf.serve(&order(&[line(1, 8)]), None).is_ok());
    let change = shelf.changes()[0];
    assert_eq!((change.delta, change.sold, change.held, change.held_after), (-1, 8, -7, 0));
}

#[test]
fn an_order_is_cancelled_once_and_only_from_where_it_was_seen() {
    let mut shelf = shelf(&[(0, true)]);
    shelf.put_order(OrderId(1), untouched(OrderStatus::Pending));
    shelf.put_order(OrderId(2), untouched(OrderStatus::Processing));
    let cancel = |id| Demand::Cancel {
        order_id: OrderId(id),
        from: OrderStatus::Pending,
        settled: false,
        lines: Lines::from_slice(&[line(1, 2)]),
    };
    assert_eq!(shelf.serve(&cancel(1), None), Ok(Grant::Returned));
    assert_eq!(shelf.serve(&cancel(1), None), Err(Shortfall::OrderMoved(OrderStatus::Cancelled)));
    assert_eq!(shelf.serve(&cancel(2), None), Err(Shortfall::OrderMoved(OrderStatus::Processing)));
    assert_eq!(shelf.serve(&cancel(3), None), Err(Shortfall::UnknownOrder));
    // What came back is sold again at once.
    assert!(shelf.serve(&order(&[line(1, 2)]), None).is_ok());
    let change = shelf.changes()[0];
    assert_eq!((change.delta, change.sold, change.returned), (0, 2, 2));
}

#[test]
fn an_order_that_may_be_fulfilled_is_cancelled_only_by_a_settlement() {
    let mut shelf = shelf(&[(0, true)]);
    for (id, status) in [(1, OrderStatus::Pending), (2, OrderStatus::Failed)] {
        shelf.put_order(OrderId(id), LockedOrder { status, may_be_fulfilled: true });
        let cancel = |settled| Demand::Cancel {
            order_id: OrderId(id),
            from: status,
            settled,
            lines: Lines::from_slice(&[line(1, 2)]),
        };
        let refused = Err(Shortfall::OrderMayBeFulfilled(status));
        assert_eq!(shelf.serve(&cancel(false), None), refused);
        assert_eq!(shelf.serve(&cancel(true), None), Ok(Grant::Returned));
        let moved = Err(Shortfall::OrderMoved(OrderStatus::Cancelled));
        assert_eq!(shelf.serve(&cancel(true), None), moved);
    }
    assert_eq!(shelf.changes()[0].returned, 4);
}

#[test]
fn what_the_shop_cannot_hold_does_not_come_back() {
    let mut shelf = shelf(&[(crate::MAX_STOCK, true)]);
    shelf.put_order(OrderId(1), untouched(OrderStatus::Pending));
    let lines = Lines::from_slice(&[line(1, 1)]);
    let cancel =
        Demand::Cancel { order_id: OrderId(1), from: OrderStatus::Pending, settled: false, lines };
    assert_eq!(shelf.serve(&cancel, None), Err(Shortfall::StockFull(ProductId(1))));
    assert_eq!(shelf.changes(), []);
}

/// Any demand for products 1 to 4, of which the last does not exist, and for holds and orders 1 to 6, and the customer.
fn demand() -> impl Strategy<Value = (Demand, Option<CustomerRef>)> {
    let line = || {
        let expected = prop::option::weighted(0.2, 1i64..4);
        let hold = prop::option::weighted(0.4, 1i64..7);
        (1i64..5, 1i64..4, hold, expected).prop_map(|(product, units, hold, price)| {
            // A line from a hold is one that fits it.
            let fits = hold.map(|id| line((id - 1) % 3 + 1, (id - 1) % 2 + 1));
            let line = fits.unwrap_or_else(|| line(product, units));
            let expected_price = price.map(|id| Money::from_minor(100 * id).unwrap());
            Line { hold: hold.map(HoldId), expected_price, ..line }
        })
    };
    let lines = || prop::collection::vec(line(), 1..4).prop_map(Lines::from_vec);
    let demand = prop_oneof![
        4 => lines().prop_map(Demand::Order),
        2 => (1i64..5, 1i64..4).prop_map(|(id, units)| hold(id, units)),
        1 => (1i64..4).prop_map(|id| Demand::Expire {
            product_id: ProductId(id),
            holds: (0..4).map(|nth| HoldId(nth * 3 + id)).collect(),
        }),
        2 => (1i64..7).prop_map(|id| Demand::Release {
            hold_id: HoldId(id),
            product_id: ProductId((id - 1) % 3 + 1),
        }),
        2 => (1i64..7, lines()).prop_map(|(id, lines)| Demand::Cancel {
            order_id: OrderId(id),
            from: OrderStatus::Pending,
            settled: false,
            lines,
        }),
    ];
    (demand, prop::option::weighted(0.8, prop::sample::select(vec!["ann", "bob"])))
        .prop_map(|(demand, name)| (demand, name.map(customer)))
}

fn untouched(status: OrderStatus) -> LockedOrder {
    LockedOrder { status, may_be_fulfilled: false }
}

proptest! {
    /// Compared with the plainest possible model: one counter for each product.
    #[test]
    fn orders_are_served_as_if_one_by_one(
        stocks in prop::collection::vec((0i64..60, prop::bool::weighted(0.9)), 1..6),
        orders in prop::collection::vec(
            prop::collection::vec((1i64..8, 1i64..20), 1..4), 0..60),
    ) {
        let mut shelf = shelf(&stocks);
        let mut counters = stocks.clone();
        for lines in &orders {
            let asked: Vec<_> = lines.iter().map(|&(product, units)| line(product, units)).collect();
            let grant = shelf.serve(&order(&asked), None);

            let mut after = counters.clone();
            let fits = lines.iter().all(|&(product, units)| {
                let at = usize::try_from(product - 1).unwrap();
                after.get_mut(at).is_some_and(|(left, on_sale)| {
                    *left -= units;
                    *on_sale && *left >= 0
                })
            });
            prop_assert_eq!(grant.is_ok(), fits);
            if fits {
                counters = after;
            }
        }
        let changes = shelf.changes();
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

    /// Whatever is refused, and however far it had come, leaves everything as it was; and whatever is granted
    /// leaves a change of each product that it names.
    #[test]
    fn a_refused_demand_changes_nothing_and_a_granted_one_is_among_the_changes(
        stocks in prop::collection::vec((0i64..8, prop::bool::weighted(0.9)), 3),
        limit in 0u32..6,
        full in prop::bool::weighted(0.2),
        demands in prop::collection::vec(demand(), 1..40),
    ) {
        let mut shelf = shelf(&stocks);
        put_again(&mut shelf, 2, |product| {
            let since = jiff::Timestamp::UNIX_EPOCH;
            product.selling = Selling::Limited(CustomerLimit { units: limit, since, after_order: 0 });
        });
        if full {
            put_again(&mut shelf, 1, |product| product.stock = stock(crate::MAX_STOCK));
        }
        let mut held = std::collections::BTreeMap::<_, Taken>::new();
        for id in 1..6 {
            let holder = [None, Some("ann"), Some("bob")][usize::try_from(id).unwrap() % 3];
            let held_line = with_hold(&mut shelf, id, (id - 1) % 3 + 1, (id - 1) % 2 + 1);
            let hold = shelf.hold(HoldId(id)).unwrap().clone();
            // The last one's time is over.
            let status = if id == 5 { HoldStatus::Expired } else { HoldStatus::Active };
            let customer_of = holder.map(customer);
            shelf.put_hold(HoldId(id), HeldUnits { customer: customer_of, status, ..hold });
            if let (Some(holder), ProductId(2), HoldStatus::Active) = (holder, held_line.product_id, status) {
                held.entry(customer(holder)).or_default().held += units(held_line.quantity);
            }
            let (status, may_be_fulfilled) = (OrderStatus::Pending, id > 3);
            shelf.put_order(OrderId(id), LockedOrder { status, may_be_fulfilled });
        }
        for (customer, taken) in held {
            shelf.put_taken(ProductId(2), customer, taken);
        }
        let mut ordered = std::collections::BTreeMap::<_, i64>::new();
        for (demand, customer) in demands {
            let before = shelf.clone();
            let granted = shelf.serve(&demand, customer.as_ref());
            if granted.is_err() {
                prop_assert_eq!(&shelf, &before);
            } else if let Ok(Grant::Expired(ids)) = &granted {
                let over = |hold: &HeldUnits| hold.kept && hold.status == HoldStatus::Expired;
                prop_assert!(ids.iter().all(|id| before.hold(*id).is_some_and(over)));
                prop_assert_eq!(ids.is_empty(), shelf == before);
            } else {
                if let (Demand::Order(lines), Ok(Grant::Order { inherited, .. })) = (&demand, granted) {
                    let limited = lines.iter().filter(|line| line.product_id == ProductId(2));
                    let got: i64 = limited.map(|line| units(line.quantity)).sum();
                    if got > 0 {
                        let whose = customer.clone().or(inherited);
                        prop_assert!(whose.is_some(), "of a product with a limit, somebody is counted");
                        let sum = ordered.entry(whose).or_default();
                        *sum += got;
                        prop_assert!(*sum <= i64::from(limit), "nobody gets more than the limit");
                    }
                }
                let changed: Vec<_> = shelf.changes().iter().map(|it| it.product_id).collect();
                prop_assert!(demand.products().all(|id| changed.contains(&id)));
            }
        }
    }

    /// Whatever happens, no unit is lost: stock, holds and sales add up.
    #[test]
    fn units_are_conserved(
        units in 0i64..40,
        steps in prop::collection::vec((0u8..5, 1i64..6, 1i64..12), 0..60),
    ) {
        let mut shelf = shelf(&[(units, true)]);
        let mut held = 0;
        for id in 1..6 {
            with_hold(&mut shelf, id, 1, id);
            held += id;
            shelf.put_order(OrderId(id), untouched(OrderStatus::Pending));
        }
        for (kind, id, asked) in steps {
            let held_line = Line { hold: Some(HoldId(id)), ..line(1, id) };
            let lines = Lines::from_slice(&[line(1, id)]);
            let _ = shelf.serve(&match kind {
                0 => order(&[line(1, asked)]),
                1 => order(&[held_line, line(1, asked)]),
                2 => hold(1, asked),
                3 => Demand::Release { hold_id: HoldId(id), product_id: ProductId(1) },
                _ => Demand::Cancel { order_id: OrderId(id), from: OrderStatus::Pending, settled: false, lines },
            }, None);
        }
        for change in shelf.changes() {
            prop_assert_eq!(change.delta, change.returned - change.sold - change.held);
            prop_assert_eq!(change.left.units(), units + change.delta);
            prop_assert_eq!(change.held_after, held + change.held);
            prop_assert!(change.held_after >= 0);
        }
    }
}

#[test]
fn a_customer_gets_what_the_limit_allows_and_others_get_theirs() {
    let mut shelf = limited(3);
    let (ann, bob) = (customer("ann"), customer("bob"));
    let over = |left| Err(Shortfall::OverLimit { product_id: ProductId(1), limit: 3, left });
    shelf.put_taken(ProductId(1), ann.clone(), Taken { ordered: 1, held: 0 });
    assert_eq!(shelf.serve(&order(&[line(1, 3)]), Some(&ann)), over(2));
    assert!(shelf.serve(&order(&[line(1, 1)]), Some(&ann)).is_ok());
    let hold = hold(1, 1);
    assert!(shelf.serve(&hold, Some(&ann)).is_ok(), "what is held counts");
    assert_eq!(shelf.serve(&hold, Some(&ann)), over(0));
    assert!(shelf.serve(&order(&[line(1, 3)]), Some(&bob)).is_ok());
    let nobody = Err(Shortfall::CustomerNeeded(ProductId(1)));
    assert_eq!(shelf.serve(&order(&[line(1, 1)]), None), nobody);
    assert_eq!(shelf.limits().map(|(id, limit)| (id.0, limit.units)).collect::<Vec<_>>(), [(1, 3)]);
}

#[test]
fn an_order_that_is_refused_as_a_whole_leaves_the_customer_what_was_left() {
    let mut shelf = limited(2);
    let ann = customer("ann");
    let both = order(&[line(1, 2), line(2, 1)]);
    assert_eq!(shelf.serve(&both, Some(&ann)), Err(Shortfall::UnknownProduct(ProductId(2))));
    assert!(shelf.serve(&order(&[line(1, 2)]), Some(&ann)).is_ok());
}

#[test]
fn nothing_is_sold_before_the_sale_nor_after_it_but_what_is_kept() {
    let start = jiff::Timestamp::UNIX_EPOCH;
    let not_open = |starts_at| Shortfall::SaleNotOpen { product_id: ProductId(1), starts_at };
    for (state, shortfall) in [
        (Selling::From(start), not_open(Some(start))),
        (Selling::HeldBack, not_open(None)),
        (Selling::Over, Shortfall::SaleOver(ProductId(1))),
    ] {
        let mut shelf = selling(state);
        assert_eq!(shelf.serve(&order(&[line(1, 1)]), None), Err(shortfall));
        let hold = hold(1, 1);
        assert_eq!(shelf.serve(&hold, None), Err(shortfall));
        assert_eq!(shelf.changes(), []);
        let kept = HeldUnits {
            product_id: ProductId(1),
            quantity: quantity(1),
            unit_price: Money::from_minor(100).unwrap(),
            customer: None,
            status: HoldStatus::Active,
            kept: true,
        };
        shelf.put_hold(HoldId(9), kept);
        let from_hold = Line { hold: Some(HoldId(9)), ..line(1, 1) };
        assert!(shelf.serve(&order(&[from_hold]), None).is_ok());
    }
}

/// Puts a hold for a customer on the shelf, of product 1.
fn hold_for(shelf: &mut Shelf, id: i64, name: Option<&str>, units: i64) -> Line {
    let from_hold = with_hold(shelf, id, 1, units);
    let hold =
        HeldUnits { customer: name.map(customer), ..shelf.hold(HoldId(id)).unwrap().clone() };
    shelf.put_hold(HoldId(id), hold);
    from_hold
}

#[test]
fn an_order_from_a_hold_is_that_of_the_holds_customer() {
    let mut shelf = shelf(&[(10, true)]);
    let (ann, bob) = (customer("ann"), customer("bob"));
    let [of_ann, of_bob, of_nobody, other] =
        [(1, Some("ann")), (2, Some("bob")), (3, None), (4, Some("ann"))]
            .map(|(id, name)| hold_for(&mut shelf, id, name, 1));
    let differs = |id| Err(Shortfall::CustomerDiffers(HoldId(id)));
    assert_eq!(shelf.serve(&order(&[of_ann]), Some(&bob)), differs(1));
    assert_eq!(shelf.serve(&order(&[line(1, 1), of_nobody, of_ann, of_bob]), None), differs(2));
    let inherited = |grant| match grant {
        Ok(Grant::Order { inherited, .. }) => inherited,
        other => panic!("{other:?}"),
    };
    let mixed = order(&[line(1, 1), of_nobody, of_ann]);
    assert_eq!(inherited(shelf.serve(&mixed, None)), Some(ann.clone()));
    assert_eq!(inherited(shelf.serve(&order(&[other]), Some(&ann))), None, "it names her itself");
}

#[test]
fn what_is_held_counts_once_and_what_is_let_go_of_does_not() {
    let mut shelf = limited(3);
    let ann = customer("ann");
    let held = hold_for(&mut shelf, 1, Some("ann"), 2);
    hold_for(&mut shelf, 2, Some("ann"), 1);
    shelf.put_taken(ProductId(1), ann.clone(), Taken { ordered: 0, held: 3 });
    let over = |left| Err(Shortfall::OverLimit { product_id: ProductId(1), limit: 3, left });
    assert_eq!(shelf.serve(&order(&[line(1, 1)]), Some(&ann)), over(0));
    // Who names nobody is counted all the same.
    assert!(shelf.serve(&order(&[held]), None).is_ok());
    assert_eq!(shelf.serve(&order(&[line(1, 1)]), Some(&ann)), over(0));
    let release = Demand::Release { hold_id: HoldId(2), product_id: ProductId(1) };
    assert_eq!(shelf.serve(&release, None), Ok(Grant::Returned));
    assert_eq!(shelf.serve(&order(&[line(1, 2)]), Some(&ann)), over(1));
    assert!(shelf.serve(&order(&[line(1, 1)]), Some(&ann)).is_ok());
}

#[test]
fn a_hold_of_more_than_the_limit_gives_no_more_than_the_limit() {
    let mut shelf = limited(3);
    let [first, second, nobodys] = [(1, Some("ann")), (2, Some("ann")), (3, None)]
        .map(|(id, name)| hold_for(&mut shelf, id, name, 2));
    shelf.put_taken(ProductId(1), customer("ann"), Taken { ordered: 0, held: 4 });
    let over = |left| Err(Shortfall::OverLimit { product_id: ProductId(1), limit: 3, left });
    assert_eq!(shelf.serve(&order(&[first, second]), None), over(1));
    // Beside a hold that does not fit, nothing is to be had from stock.
    assert_eq!(shelf.serve(&order(&[first, line(1, 1)]), None), over(0));
    assert!(shelf.serve(&order(&[first]), None).is_ok());
    assert_eq!(shelf.serve(&order(&[second]), None), over(1));
    assert_eq!(shelf.serve(&order(&[nobodys]), None), Err(Shortfall::CustomerNeeded(ProductId(1))));
    assert_eq!(shelf.serve(&order(&[nobodys]), Some(&customer("ann"))), over(1));
    assert!(shelf.serve(&order(&[nobodys]), Some(&customer("bob"))).is_ok());
}

#[test]
fn at_another_price_than_the_customer_was_told_nothing_is_taken() {
    let mut shelf = shelf(&[(5, true), (5, true)]);
    let kept = with_hold(&mut shelf, 9, 1, 3);
    let price = |minor| Some(Money::from_minor(minor).unwrap());
    let told = |line, minor| Line { expected_price: price(minor), ..line };
    let changed = |id, minor| {
        let current = Money::from_minor(minor).unwrap();
        Err(Shortfall::PriceChanged { product_id: ProductId(id), current })
    };
    let before = shelf.clone();
    assert_eq!(shelf.serve(&order(&[line(1, 1), told(line(2, 1), 199)]), None), changed(2, 200));
    assert_eq!(
        shelf.serve(&order(&[told(kept, 100)]), None),
        changed(1, 1),
        "its own price counts"
    );
    let (product_id, quantity) = (ProductId(1), quantity(1));
    let told_hold = |minor| Demand::Hold { product_id, quantity, expected_price: price(minor) };
    assert_eq!(shelf.serve(&told_hold(101), None), changed(1, 100));
    assert_eq!(shelf, before);
    let all = order(&[told(line(1, 1), 100), told(line(2, 1), 200), told(kept, 1)]);
    assert_eq!(shelf.serve(&all, None), Ok(ordered(&[100, 200, 1])));
    assert!(shelf.serve(&told_hold(100), None).is_ok());
}
