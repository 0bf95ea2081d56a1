use holdfast_domain::{
    AllocatedOrder, CustomerRef, Lines, Metadata, OrderId, ProductId, Quantity, Shortfall,
    StockAllocator,
};
use holdfast_store::{IdempotencyKey, OrderRecord, Records, ResultKind, Stored};

use super::{KeyResult, StockRequest};
use crate::{
    decision::{AcceptedOrder, OrderDecision},
    metrics::AdmissionMetrics,
    needs::Needs,
};

/// A request for an order.
#[derive(Clone, Debug, Default)]
pub struct PlaceOrder {
    /// The lines; at least one.
    pub lines: Lines,
    /// The shop's name for the customer.
    pub customer_ref: Option<CustomerRef>,
    /// The shop's metadata.
    pub metadata: Option<Metadata>,
    /// The W3C `traceparent` of the request, if that is sampled.
    pub trace_context: Option<String>,
    /// The key of the request.
    pub key: Option<IdempotencyKey>,
}

/// The granted order, and what the write has stored of it.
pub(crate) struct GrantedOrder {
    order: AllocatedOrder,
    stored: Option<Stored<OrderId>>,
}

impl GrantedOrder {
    pub fn id(&self) -> Option<OrderId> {
        self.stored.map(|stored| stored.id)
    }
}

impl StockRequest for PlaceOrder {
    type Granted = GrantedOrder;
    type Answer = OrderDecision;

    const RESULT: Option<ResultKind> = Some(ResultKind::Order);

    fn needs(&self) -> Needs<'_> {
        Needs { lines: &self.lines, key: self.key.as_ref(), ..Needs::default() }
    }

    fn key(&self) -> Option<&IdempotencyKey> {
        self.key.as_ref()
    }

    fn customer_ref(&self) -> Option<&CustomerRef> {
        self.customer_ref.as_ref()
    }

    fn trace_context(&self) -> Option<&str> {
        self.trace_context.as_deref()
    }

    fn taken_from_stock(&self) -> impl Iterator<Item = (ProductId, Quantity)> {
        let from_stock = self.lines.iter().filter(|line| line.hold.is_none());
        from_stock.map(|line| (line.product_id, line.quantity))
    }

    fn allocate(&self, allocator: &mut StockAllocator) -> Result<GrantedOrder, Shortfall> {
        let order = allocator.order(&self.lines, self.customer_ref.as_ref())?;
        Ok(GrantedOrder { order, stored: None })
    }

    fn record<'a>(&'a self, granted: &'a mut GrantedOrder, records: &mut Records<'a>) {
        let GrantedOrder { order, stored } = granted;
        let customer_ref = self.customer_ref.as_ref().or(order.inherited.as_ref());
        records.orders.push(OrderRecord {
            stored,
            lines: &order.lines,
            customer_ref: customer_ref.map(CustomerRef::as_str),
            metadata: self.metadata.as_ref().map(Metadata::as_str),
            trace_context: self.trace_context.as_deref(),
            key: self.key,
        });
    }

    fn answer(self, granted: GrantedOrder) -> Option<OrderDecision> {
        let GrantedOrder { order, stored } = granted;
        let Stored { id, created_at } = stored?;
        Some(OrderDecision::Accepted(AcceptedOrder {
            id,
            lines: order.lines,
            customer_ref: self.customer_ref.or(order.inherited),
            metadata: self.metadata,
            created_at,
        }))
    }

    fn result(granted: &GrantedOrder) -> Option<KeyResult> {
        granted.id().map(KeyResult::Order)
    }

    fn repeated(result: KeyResult) -> Option<OrderDecision> {
        match result {
            KeyResult::Order(id) => Some(OrderDecision::Repeated(id)),
            KeyResult::Hold(_) => None,
        }
    }

    fn is_new(answer: &OrderDecision) -> bool {
        matches!(answer, OrderDecision::Accepted(_))
    }

    fn count(metrics: &AdmissionMetrics) {
        metrics.accepted.inc();
    }
}
