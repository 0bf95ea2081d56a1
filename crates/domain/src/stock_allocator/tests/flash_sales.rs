use super::*;

/// A product with ten units and this limit per customer.
fn limited(units: u32) -> StockAllocator {
    let limit = CustomerLimit { units, since: jiff::Timestamp::UNIX_EPOCH, after_order: 0 };
    selling(Selling::Limited(limit))
}

/// A product with ten units.
fn selling(selling: Selling) -> StockAllocator {
    let mut allocator = allocator(&[(10, true)]);
    change_product(&mut allocator, 1, |product| product.selling = selling);
    allocator
}

#[test]
fn each_customer_gets_units_up_to_the_limit() {
    let mut allocator = limited(3);
    let (ann, bob) = (customer("ann"), customer("bob"));
    let over = |left| Err(Shortfall::OverLimit { product_id: ProductId(1), limit: 3, left });
    allocator.add_customer_totals(
        ProductId(1),
        ann.clone(),
        CustomerTotals { ordered: 1, held: 0 },
    );
    assert_eq!(allocator.order(&[line(1, 3)], Some(&ann)), over(2));
    assert!(allocator.order(&[line(1, 1)], Some(&ann)).is_ok());
    assert!(hold(&mut allocator, 1, 1, Some(&ann)).is_ok(), "held units count");
    let none_left = Shortfall::OverLimit { product_id: ProductId(1), limit: 3, left: 0 };
    assert_eq!(hold(&mut allocator, 1, 1, Some(&ann)), Err(none_left));
    assert!(allocator.order(&[line(1, 3)], Some(&bob)).is_ok());
    let nobody = Err(Shortfall::CustomerNeeded(ProductId(1)));
    assert_eq!(allocator.order(&[line(1, 1)], None), nobody);
    assert_eq!(
        allocator.limits().map(|(id, limit)| (id.0, limit.units)).collect::<Vec<_>>(),
        [(1, 3)]
    );
}

#[test]
fn a_refused_order_does_not_use_up_the_customers_limit() {
    let mut allocator = limited(2);
    let ann = customer("ann");
    let both = [line(1, 2), line(2, 1)];
    assert_eq!(allocator.order(&both, Some(&ann)), Err(Shortfall::UnknownProduct(ProductId(2))));
    assert!(allocator.order(&[line(1, 2)], Some(&ann)).is_ok());
}

#[test]
fn outside_the_sale_only_held_units_are_sold() {
    let start = jiff::Timestamp::UNIX_EPOCH;
    let not_open = |starts_at| Shortfall::SaleNotOpen { product_id: ProductId(1), starts_at };
    for (state, shortfall) in [
        (Selling::From(start), not_open(Some(start))),
        (Selling::HeldBack, not_open(None)),
        (Selling::Over, Shortfall::SaleOver(ProductId(1))),
    ] {
        let mut allocator = selling(state);
        assert_eq!(allocator.order(&[line(1, 1)], None), Err(shortfall));
        assert_eq!(hold(&mut allocator, 1, 1, None), Err(shortfall));
        assert_eq!(allocator.changes(), []);
        let kept = HeldUnits {
            product_id: ProductId(1),
            quantity: quantity(1),
            unit_price: Money::from_minor(100).unwrap(),
            customer: None,
            status: HoldStatus::Active,
            kept: true,
        };
        allocator.add_hold(HoldId(9), kept);
        let from_hold = RequestedLine { hold: Some(HoldId(9)), ..line(1, 1) };
        assert!(allocator.order(&[from_hold], None).is_ok());
    }
}

#[test]
fn held_units_count_once_and_released_units_do_not_count() {
    let mut allocator = limited(3);
    let ann = customer("ann");
    let held = hold_for(&mut allocator, 1, Some("ann"), 2);
    hold_for(&mut allocator, 2, Some("ann"), 1);
    allocator.add_customer_totals(
        ProductId(1),
        ann.clone(),
        CustomerTotals { ordered: 0, held: 3 },
    );
    let over = |left| Err(Shortfall::OverLimit { product_id: ProductId(1), limit: 3, left });
    assert_eq!(allocator.order(&[line(1, 1)], Some(&ann)), over(0));
    // Orders without a customer count, too.
    assert!(allocator.order(&[held], None).is_ok());
    assert_eq!(allocator.order(&[line(1, 1)], Some(&ann)), over(0));
    assert_eq!(allocator.release(HoldId(2)), Ok(()));
    assert_eq!(allocator.order(&[line(1, 2)], Some(&ann)), over(1));
    assert!(allocator.order(&[line(1, 1)], Some(&ann)).is_ok());
}

#[test]
fn an_order_from_a_larger_hold_does_not_exceed_the_limit() {
    let mut allocator = limited(3);
    let [first, second, nobodys] = [(1, Some("ann")), (2, Some("ann")), (3, None)]
        .map(|(id, name)| hold_for(&mut allocator, id, name, 2));
    allocator.add_customer_totals(
        ProductId(1),
        customer("ann"),
        CustomerTotals { ordered: 0, held: 4 },
    );
    let over = |left| Err(Shortfall::OverLimit { product_id: ProductId(1), limit: 3, left });
    assert_eq!(allocator.order(&[first, second], None), over(1));
    // If a hold does not fit, nothing is taken from stock either.
    assert_eq!(allocator.order(&[first, line(1, 1)], None), over(0));
    assert!(allocator.order(&[first], None).is_ok());
    assert_eq!(allocator.order(&[second], None), over(1));
    assert_eq!(allocator.order(&[nobodys], None), Err(Shortfall::CustomerNeeded(ProductId(1))));
    assert_eq!(allocator.order(&[nobodys], Some(&customer("ann"))), over(1));
    assert!(allocator.order(&[nobodys], Some(&customer("bob"))).is_ok());
}
