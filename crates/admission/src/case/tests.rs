use holdfast_domain::{Available, Money, ProductId, Quantity, RequestedLine, Selling, Stock};
use holdfast_telemetry::Registry;

use super::*;
use crate::{HoldStock, OrderDecision, PlaceOrder};

const LAMP: ProductId = ProductId(1);

fn metrics() -> AdmissionMetrics {
    AdmissionMetrics::unmeasured(&Registry::default()).unwrap()
}

fn key(request: &[u8]) -> IdempotencyKey {
    IdempotencyKey::new("", "k", request)
}

fn order(key: Option<IdempotencyKey>) -> PlaceOrder {
    let lines = [RequestedLine::from_stock(LAMP, Quantity::ONE)].into_iter().collect();
    PlaceOrder { lines, key, ..PlaceOrder::default() }
}

fn hold(key: Option<IdempotencyKey>) -> HoldStock {
    HoldStock {
        product_id: LAMP,
        quantity: Quantity::ONE,
        expected_price: None,
        lasts: std::time::Duration::from_secs(1),
        customer_ref: None,
        key,
    }
}

fn allocator() -> StockAllocator {
    let mut allocator = StockAllocator::default();
    let (price, selling) = (Money::from_minor(100).unwrap(), Selling::Always);
    let stock = Stock::new(9).unwrap();
    let lamp = Available { stock, held: 0, price, version: 1, on_sale: true, selling };
    allocator.add_product(LAMP, lamp);
    allocator
}

#[test]
fn a_missing_answer_in_a_batch_is_an_internal_error() {
    let (undecided, mut answer) = Case::new(order(None));
    undecided.answer(&KeyResults::new(), &metrics());
    assert_eq!(answer.try_recv().unwrap(), Err(Refusal::Internal));

    // Granted, but its record was not written.
    let (mut granted, mut answer) = Case::new(order(None));
    granted.decide(&mut allocator(), &mut GrantedKeys::default());
    granted.answer(&KeyResults::new(), &metrics());
    assert_eq!(answer.try_recv().unwrap(), Err(Refusal::Internal));
}

#[test]
fn a_repeat_within_a_batch_is_answered_with_the_result_of_the_first() {
    let (mut allocator, mut keys) = (allocator(), GrantedKeys::default());
    let (mut first, _) = Case::new(order(Some(key(b"1"))));
    let (mut repeat, mut answer) = Case::new(order(Some(key(b"1"))));
    first.decide(&mut allocator, &mut keys);
    repeat.decide(&mut allocator, &mut keys);
    let id = holdfast_domain::OrderId(7);
    let results = [(key(b"1").id(), KeyResult::Order(id))].into();
    repeat.answer(&results, &metrics());
    assert_eq!(answer.try_recv().unwrap(), Ok(OrderDecision::Repeated(id)));
    assert_eq!(allocator.changes()[0].sold, 1);
}

#[test]
fn a_key_of_another_request_or_of_another_kind_of_request_is_refused() {
    let (mut allocator, mut keys) = (allocator(), GrantedKeys::default());
    let (mut first, _) = Case::new(order(Some(key(b"1"))));
    first.decide(&mut allocator, &mut keys);
    let (mut other, mut answer) = Case::new(order(Some(key(b"2"))));
    other.decide(&mut allocator, &mut keys);
    other.answer(&KeyResults::new(), &metrics());
    assert_eq!(answer.try_recv().unwrap(), Err(Refusal::KeyReused));
    let (mut other, mut answer) = Case::new(hold(Some(key(b"1"))));
    other.decide(&mut allocator, &mut keys);
    other.answer(&KeyResults::new(), &metrics());
    assert_eq!(answer.try_recv().unwrap(), Err(Refusal::KeyReused));
}
