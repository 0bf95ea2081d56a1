use super::*;

#[test]
fn a_hold_is_used_once_and_at_its_own_price() {
    let mut allocator = allocator(&[(0, true)]);
    let held = with_hold(&mut allocator, 9, 1, 3);
    let other = RequestedLine { quantity: quantity(2), ..held };
    assert_eq!(allocator.order(&[other], None), Err(Shortfall::HoldDiffers(HoldId(9))));
    // A line that is refused leaves the hold to the next order.
    assert!(allocator.order(&[held, line(1, 1)], None).is_err());
    assert_eq!(allocator.changes(), []);
    assert_eq!(prices(allocator.order(&[held], None)), Ok(vec![1]));
    let ended = Shortfall::HoldEnded { hold_id: HoldId(9), status: HoldStatus::Used };
    assert_eq!(allocator.order(&[held], None), Err(ended));
    assert_eq!(allocator.release(HoldId(9)), Err(ended));
    let change = allocator.changes()[0];
    assert_eq!((change.delta, change.sold, change.held, change.held_after), (0, 3, -3, 0));
}

#[test]
fn a_released_or_expired_hold_returns_its_units() {
    let mut allocator = allocator(&[(1, true)]);
    with_hold(&mut allocator, 1, 1, 3);
    with_hold(&mut allocator, 2, 1, 4);
    let over =
        HeldUnits { status: HoldStatus::Expired, ..allocator.hold_row(HoldId(2)).unwrap().clone() };
    allocator.add_hold(HoldId(2), over);
    with_hold(&mut allocator, 4, 1, 5);
    assert_eq!(allocator.release(HoldId(1)), Ok(()));
    let expired = [1, 2, 3, 4].map(|id| allocator.expire(HoldId(id)));
    assert_eq!(expired, [false, true, false, false], "the one whose time is over");
    assert!(!allocator.expire(HoldId(2)), "once");
    assert!(allocator.order(&[line(1, 8)], None).is_ok());
    let change = allocator.changes()[0];
    assert_eq!((change.delta, change.sold, change.held, change.held_after), (-1, 8, -7, 5));
}

#[test]
fn an_order_from_a_hold_belongs_to_the_holds_customer() {
    let mut allocator = allocator(&[(10, true)]);
    let (ann, bob) = (customer("ann"), customer("bob"));
    let [of_ann, of_bob, of_nobody, other] =
        [(1, Some("ann")), (2, Some("bob")), (3, None), (4, Some("ann"))]
            .map(|(id, name)| hold_for(&mut allocator, id, name, 1));
    let differs = |id| Err(Shortfall::CustomerDiffers(HoldId(id)));
    assert_eq!(allocator.order(&[of_ann], Some(&bob)), differs(1));
    assert_eq!(allocator.order(&[line(1, 1), of_nobody, of_ann, of_bob], None), differs(2));
    let mixed = allocator.order(&[line(1, 1), of_nobody, of_ann], None).unwrap();
    assert_eq!(mixed.inherited, Some(ann.clone()));
    let named = allocator.order(&[other], Some(&ann)).unwrap();
    assert_eq!(named.inherited, None, "the order names the customer itself");
}
