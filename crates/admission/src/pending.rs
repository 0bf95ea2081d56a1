//! A stock request of any kind that waits in a lane.

use std::time::Instant;

use holdfast_domain::{CustomerRef, OrderId, ProductId, Quantity, Shortfall, StockAllocator};
use holdfast_store::{Batch, IdempotencyKey, Records};
use tokio::sync::oneshot;

use crate::{
    case::{Case, GrantedKeys, KeyResults},
    decision::Refusal,
    metrics::AdmissionMetrics,
    needs::{NeededRow, Needs},
    stock_request::{
        CancelOrder, ExpireHolds, HoldStock, KeyResult, PlaceOrder, ReleaseHold, StockRequest,
    },
};

/// A pending request: a stock request of any kind that waits in a lane. A batch is a list of these.
pub(crate) struct PendingRequest {
    pub arrived: Instant,
    /// How often another transaction had locked one of its rows.
    pub misses: u8,
    /// The product whose row was locked last, and its version at that time.
    pub seen: Option<(ProductId, i64)>,
    kind: PendingKind,
}

/// The kinds of stock requests.
pub(crate) enum PendingKind {
    Order(Case<PlaceOrder>),
    Hold(Case<HoldStock>),
    Cancel(Case<CancelOrder>),
    Release(Case<ReleaseHold>),
    Expire(Case<ExpireHolds>),
}

/// Evaluates an expression with the case of any kind of request.
macro_rules! each_kind {
    ($kind:expr, $case:pat => $body:expr) => {
        match $kind {
            PendingKind::Order($case) => $body,
            PendingKind::Hold($case) => $body,
            PendingKind::Cancel($case) => $body,
            PendingKind::Release($case) => $body,
            PendingKind::Expire($case) => $body,
        }
    };
}

macro_rules! kinds {
    ($($kind:ident($request:ty)),* $(,)?) => {
        $(
            impl From<Case<$request>> for PendingKind {
                fn from(case: Case<$request>) -> Self {
                    Self::$kind(case)
                }
            }
        )*
    };
}

kinds!(
    Order(PlaceOrder),
    Hold(HoldStock),
    Cancel(CancelOrder),
    Release(ReleaseHold),
    Expire(ExpireHolds),
);

/// A request that a batch had to leave out.
pub(crate) struct Missing {
    pub request: PendingRequest,
    /// The missing row.
    pub row: NeededRow,
    pub cause: Cause,
}

/// Why a request was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Another transaction has locked the row, or it does not exist.
    Locked,
    /// The batch's write waited for an unknown lock.
    Write,
}

impl PendingRequest {
    pub fn new<R: StockRequest>(request: R) -> (Self, oneshot::Receiver<Result<R::Answer, Refusal>>)
    where
        Case<R>: Into<PendingKind>,
    {
        let (case, answer) = Case::new(request);
        (Self { arrived: Instant::now(), misses: 0, seen: None, kind: case.into() }, answer)
    }

    /// Whether the caller has disconnected.
    pub fn is_abandoned(&self) -> bool {
        each_kind!(&self.kind, case => case.is_abandoned())
    }

    pub fn needs(&self) -> Needs<'_> {
        each_kind!(&self.kind, case => case.request().needs())
    }

    pub fn key(&self) -> Option<&IdempotencyKey> {
        each_kind!(&self.kind, case => case.request().key())
    }

    pub fn customer_ref(&self) -> Option<&CustomerRef> {
        each_kind!(&self.kind, case => case.request().customer_ref())
    }

    pub fn trace_context(&self) -> Option<&str> {
        each_kind!(&self.kind, case => case.request().trace_context())
    }

    /// Calls `each` with the units that the request takes from stock.
    pub fn each_taken_from_stock(&self, mut each: impl FnMut(ProductId, Quantity)) {
        each_kind!(&self.kind, case => case.request().taken_from_stock().for_each(|(id, quantity)| each(id, quantity)));
    }

    pub fn decide(&mut self, allocator: &mut StockAllocator, keys: &mut GrantedKeys) {
        each_kind!(&mut self.kind, case => case.decide(allocator, keys));
    }

    /// See [`Case::decide_by_key`].
    pub fn decide_by_key(&mut self, batch: &Batch) -> bool {
        each_kind!(&mut self.kind, case => case.decide_by_key(batch))
    }

    pub fn is_refused(&self) -> bool {
        each_kind!(&self.kind, case => case.is_refused())
    }

    pub fn shortfall(&self) -> Option<Shortfall> {
        each_kind!(&self.kind, case => case.shortfall())
    }

    pub fn record<'a>(&'a mut self, records: &mut Records<'a>) {
        each_kind!(&mut self.kind, case => case.record(records));
    }

    /// A written order, with the trace context of its request.
    pub fn new_order(&self) -> Option<(OrderId, Option<String>)> {
        let PendingKind::Order(case) = &self.kind else { return None };
        Some((case.granted()?.id()?, case.request().trace_context.clone()))
    }

    pub fn is_repeated_in_batch(&self) -> bool {
        each_kind!(&self.kind, case => case.is_repeated_in_batch())
    }

    pub fn key_result(&self) -> Option<(u128, KeyResult)> {
        each_kind!(&self.kind, case => case.key_result())
    }

    pub fn answer(self, results: &KeyResults, metrics: &AdmissionMetrics) {
        each_kind!(self.kind, case => case.answer(results, metrics));
    }

    /// Refuses the request, regardless of the decision.
    pub fn refuse(self, refusal: Refusal) {
        each_kind!(self.kind, case => case.refuse(refusal));
    }
}
