use super::*;

#[test]
fn after_a_large_order_is_refused_a_smaller_one_is_accepted() {
    let mut allocator = allocator(&[(5, true)]);
    let left = |units| Err(Shortfall::NotEnough { product_id: ProductId(1), left: stock(units) });
    assert_eq!(prices(allocator.order(&[line(1, 3)], None)), Ok(vec![100]));
    assert_eq!(allocator.order(&[line(1, 3)], None), left(2));
    assert_eq!(prices(allocator.order(&[line(1, 2)], None)), Ok(vec![100]));
    assert_eq!(allocator.order(&[line(1, 1)], None), left(0));
    let change = ProductChange {
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
    assert_eq!(allocator.changes(), [change]);
}

#[test]
fn an_order_of_several_lines_gets_all_or_nothing() {
    let mut allocator = allocator(&[(5, true), (1, true), (5, false)]);
    let short = Shortfall::NotEnough { product_id: ProductId(2), left: stock(1) };
    assert_eq!(allocator.order(&[line(1, 5), line(2, 2)], None), Err(short));
    let unknown = Err(Shortfall::UnknownProduct(ProductId(3)));
    assert_eq!(allocator.order(&[line(1, 5), line(3, 1)], None), unknown);
    assert_eq!(allocator.changes(), []);
    assert!(allocator.order(&[line(1, 5), line(2, 1)], None).is_ok());
}

#[test]
fn a_product_that_is_not_on_sale_is_unknown() {
    let mut allocator = allocator(&[(5, false)]);
    for id in [1, 2] {
        let unknown = Err(Shortfall::UnknownProduct(ProductId(id)));
        assert_eq!(allocator.order(&[line(id, 1)], None), unknown);
        let unknown = Err(Shortfall::UnknownProduct(ProductId(id)));
        assert_eq!(hold(&mut allocator, id, 1, None), unknown);
    }
}

#[test]
fn an_order_is_cancelled_once_and_only_from_its_expected_state() {
    let mut allocator = allocator(&[(0, true)]);
    allocator.add_order(OrderId(1), untouched(OrderStatus::Pending));
    allocator.add_order(OrderId(2), untouched(OrderStatus::Processing));
    let mut cancel = |id| allocator.cancel(OrderId(id), OrderStatus::Pending, false, &[line(1, 2)]);
    assert_eq!(cancel(1), Ok(()));
    assert_eq!(cancel(1), Err(Shortfall::OrderMoved(OrderStatus::Cancelled)));
    assert_eq!(cancel(2), Err(Shortfall::OrderMoved(OrderStatus::Processing)));
    assert_eq!(cancel(3), Err(Shortfall::UnknownOrder));
    // Returned units are sold at once.
    assert!(allocator.order(&[line(1, 2)], None).is_ok());
    let change = allocator.changes()[0];
    assert_eq!((change.delta, change.sold, change.returned), (0, 2, 2));
}

#[test]
fn an_order_that_may_be_fulfilled_is_cancelled_only_by_an_operator() {
    let mut allocator = allocator(&[(0, true)]);
    for (id, status) in [(1, OrderStatus::Pending), (2, OrderStatus::Failed)] {
        allocator.add_order(OrderId(id), LockedOrder { status, may_be_fulfilled: true });
        let mut cancel = |settled| allocator.cancel(OrderId(id), status, settled, &[line(1, 2)]);
        let refused = Err(Shortfall::OrderMayBeFulfilled(status));
        assert_eq!(cancel(false), refused);
        assert_eq!(cancel(true), Ok(()));
        let moved = Err(Shortfall::OrderMoved(OrderStatus::Cancelled));
        assert_eq!(cancel(true), moved);
    }
    assert_eq!(allocator.changes()[0].returned, 4);
}

#[test]
fn units_beyond_the_stock_limit_are_not_returned() {
    let mut allocator = allocator(&[(crate::MAX_STOCK, true)]);
    allocator.add_order(OrderId(1), untouched(OrderStatus::Pending));
    let cancelled = allocator.cancel(OrderId(1), OrderStatus::Pending, false, &[line(1, 1)]);
    assert_eq!(cancelled, Err(Shortfall::StockFull(ProductId(1))));
    assert_eq!(allocator.changes(), []);
}

#[test]
fn nothing_is_taken_at_another_price_than_expected() {
    let mut allocator = allocator(&[(5, true), (5, true)]);
    let kept = with_hold(&mut allocator, 9, 1, 3);
    let price = |minor| Some(Money::from_minor(minor).unwrap());
    let told = |line, minor| RequestedLine { expected_price: price(minor), ..line };
    let changed = |id, minor| {
        let current = Money::from_minor(minor).unwrap();
        Err(Shortfall::PriceChanged { product_id: ProductId(id), current })
    };
    let before = allocator.clone();
    assert_eq!(allocator.order(&[line(1, 1), told(line(2, 1), 199)], None), changed(2, 200));
    assert_eq!(allocator.order(&[told(kept, 100)], None), changed(1, 1), "its own price counts");
    let current = Money::from_minor(100).unwrap();
    let refused = allocator.hold(ProductId(1), quantity(1), price(101), None);
    assert_eq!(refused, Err(Shortfall::PriceChanged { product_id: ProductId(1), current }));
    assert_eq!(allocator, before);
    let all = [told(line(1, 1), 100), told(line(2, 1), 200), told(kept, 1)];
    assert_eq!(prices(allocator.order(&all, None)), Ok(vec![100, 200, 1]));
    assert!(allocator.hold(ProductId(1), quantity(1), price(100), None).is_ok());
}
