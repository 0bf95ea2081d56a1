use std::time::Duration;

use holdfast_domain::{CustomerRef, HoldId, Money, ProductId, Quantity, Shortfall, StockAllocator};
use holdfast_store::{HoldRecord, IdempotencyKey, Records, ResultKind, Stored};

use super::{KeyResult, StockRequest};
use crate::{
    decision::{AcceptedHold, HoldDecision},
    metrics::AdmissionMetrics,
    needs::Needs,
};

/// A request for a hold.
#[derive(Clone, Debug)]
pub struct HoldStock {
    /// The product.
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The price of one unit that was shown to the customer. If the price differs, the hold is refused.
    pub expected_price: Option<Money>,
    /// How long the hold lasts.
    pub lasts: Duration,
    /// The shop's name for the customer.
    pub customer_ref: Option<CustomerRef>,
    /// The key of the request.
    pub key: Option<IdempotencyKey>,
}

/// The granted hold, and what the write has stored of it.
pub(crate) struct GrantedHold {
    unit_price: Money,
    stored: Option<Stored<HoldId>>,
}

impl StockRequest for HoldStock {
    type Granted = GrantedHold;
    type Answer = HoldDecision;

    const RESULT: Option<ResultKind> = Some(ResultKind::Hold);

    fn needs(&self) -> Needs<'_> {
        Needs { product: Some(self.product_id), key: self.key.as_ref(), ..Needs::default() }
    }

    fn key(&self) -> Option<&IdempotencyKey> {
        self.key.as_ref()
    }

    fn customer_ref(&self) -> Option<&CustomerRef> {
        self.customer_ref.as_ref()
    }

    fn taken_from_stock(&self) -> impl Iterator<Item = (ProductId, Quantity)> {
        std::iter::once((self.product_id, self.quantity))
    }

    fn allocate(&self, allocator: &mut StockAllocator) -> Result<GrantedHold, Shortfall> {
        let Self { product_id, quantity, expected_price, .. } = *self;
        let customer = self.customer_ref.as_ref();
        let unit_price = allocator.hold(product_id, quantity, expected_price, customer)?;
        Ok(GrantedHold { unit_price, stored: None })
    }

    fn record<'a>(&'a self, granted: &'a mut GrantedHold, records: &mut Records<'a>) {
        records.holds.push(HoldRecord {
            stored: &mut granted.stored,
            product_id: self.product_id,
            quantity: self.quantity,
            unit_price: granted.unit_price,
            lasts: self.lasts,
            customer_ref: self.customer_ref.as_ref().map(CustomerRef::as_str),
            key: self.key,
        });
    }

    fn answer(self, granted: GrantedHold) -> Option<HoldDecision> {
        let Stored { id, created_at } = granted.stored?;
        let unit_price = granted.unit_price;
        let Self { product_id, quantity, lasts, customer_ref, .. } = self;
        Some(HoldDecision::Accepted(AcceptedHold {
            id,
            product_id,
            quantity,
            unit_price,
            lasts,
            customer_ref,
            created_at,
        }))
    }

    fn result(granted: &GrantedHold) -> Option<KeyResult> {
        granted.stored.map(|stored| KeyResult::Hold(stored.id))
    }

    fn repeated(result: KeyResult) -> Option<HoldDecision> {
        match result {
            KeyResult::Hold(id) => Some(HoldDecision::Repeated(id)),
            KeyResult::Order(_) => None,
        }
    }

    fn is_new(answer: &HoldDecision) -> bool {
        matches!(answer, HoldDecision::Accepted(_))
    }

    fn count(metrics: &AdmissionMetrics) {
        metrics.holds.inc();
    }
}
