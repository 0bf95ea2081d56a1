//! A stock request with its decision and the channel to its caller.

use std::collections::HashMap;

use holdfast_domain::{Shortfall, StockAllocator};
use holdfast_store::{Batch, IdempotencyKey, Records, ResultKind};
use tokio::sync::oneshot;

use crate::{
    decision::Refusal,
    metrics::AdmissionMetrics,
    stock_request::{KeyResult, StockRequest},
};

/// A stock request with its decision and the channel to its caller.
pub(crate) struct Case<R: StockRequest> {
    request: R,
    decision: CaseDecision<R>,
    caller: oneshot::Sender<Result<R::Answer, Refusal>>,
}

/// The decisions of a batch. They are valid once the batch is committed. A batch that is retried decides again.
enum CaseDecision<R: StockRequest> {
    Undecided,
    Granted(R::Granted),
    Refused(Refusal),
    /// The same request was granted before this batch.
    Repeated(R::Answer),
    /// The same request is granted earlier in this batch.
    RepeatedInBatch,
}

/// The keys of the requests that a batch grants.
#[derive(Default)]
pub(crate) struct GrantedKeys(HashMap<u128, (IdempotencyKey, Option<ResultKind>)>);

/// The results of the keys of a written batch.
pub(crate) type KeyResults = HashMap<u128, KeyResult>;

impl<R: StockRequest> Case<R> {
    pub fn new(request: R) -> (Self, oneshot::Receiver<Result<R::Answer, Refusal>>) {
        let (caller, answer) = oneshot::channel();
        (Self { request, decision: CaseDecision::Undecided, caller }, answer)
    }

    pub fn request(&self) -> &R {
        &self.request
    }

    /// Whether the caller has disconnected.
    pub fn is_abandoned(&self) -> bool {
        self.caller.is_closed()
    }

    /// Allocates the request, unless its key was granted earlier in the batch.
    pub fn decide(&mut self, allocator: &mut StockAllocator, keys: &mut GrantedKeys) {
        let key = self.request.key();
        self.decision = match key.and_then(|key| keys.0.get(&key.id())) {
            Some((first, kind))
                if *kind == R::RESULT && key.is_some_and(|key| key.is_repeat_of(first)) =>
            {
                CaseDecision::RepeatedInBatch
            }
            Some(_) => CaseDecision::Refused(Refusal::KeyReused),
            None => match self.request.allocate(allocator) {
                Ok(granted) => {
                    keys.0.extend(key.map(|key| (key.id(), (*key, R::RESULT))));
                    CaseDecision::Granted(granted)
                }
                Err(shortfall) => CaseDecision::Refused(Refusal::Short(shortfall)),
            },
        };
    }

    /// Decides on the request if its key is known to have been used before the batch. Returns whether it was.
    pub fn decide_by_key(&mut self, batch: &Batch) -> bool {
        let Some(key) = self.request.key() else { return false };
        let Some(found) = batch.keyed(key) else { return false };
        let result = key.led_to(found).then(|| KeyResult::new(found.kind, found.id)).flatten();
        self.decision = match result.and_then(R::repeated) {
            Some(answer) => CaseDecision::Repeated(answer),
            None => CaseDecision::Refused(Refusal::KeyReused),
        };
        true
    }

    pub fn is_refused(&self) -> bool {
        matches!(self.decision, CaseDecision::Refused(_))
    }

    pub fn shortfall(&self) -> Option<Shortfall> {
        match self.decision {
            CaseDecision::Refused(Refusal::Short(shortfall)) => Some(shortfall),
            _ => None,
        }
    }

    /// Adds the records of a granted request.
    pub fn record<'a>(&'a mut self, records: &mut Records<'a>) {
        if let CaseDecision::Granted(granted) = &mut self.decision {
            self.request.record(granted, records);
        }
    }

    /// What was granted.
    pub fn granted(&self) -> Option<&R::Granted> {
        match &self.decision {
            CaseDecision::Granted(granted) => Some(granted),
            _ => None,
        }
    }

    pub fn is_repeated_in_batch(&self) -> bool {
        matches!(self.decision, CaseDecision::RepeatedInBatch)
    }

    /// The result of the key of a granted request.
    pub fn key_result(&self) -> Option<(u128, KeyResult)> {
        Some((self.request.key()?.id(), R::result(self.granted()?)?))
    }

    /// Sends the decision of a committed batch to the caller.
    pub fn answer(self, results: &KeyResults, metrics: &AdmissionMetrics) {
        let Self { request, decision, caller } = self;
        let impossible = || {
            tracing::error!(
                request = std::any::type_name::<R>(),
                "a committed batch has no answer for a request"
            );
            Err(Refusal::Internal)
        };
        let answer = match decision {
            CaseDecision::Granted(granted) => match request.answer(granted) {
                Some(answer) => {
                    R::count(metrics);
                    Ok(answer)
                }
                None => impossible(),
            },
            CaseDecision::Refused(refusal) => Err(refusal),
            CaseDecision::Repeated(answer) => {
                metrics.repeated.inc();
                Ok(answer)
            }
            CaseDecision::RepeatedInBatch => {
                let result = request.key().and_then(|key| results.get(&key.id()));
                match result.copied().and_then(R::repeated) {
                    Some(answer) => {
                        metrics.repeated.inc();
                        Ok(answer)
                    }
                    None => impossible(),
                }
            }
            CaseDecision::Undecided => impossible(),
        };
        // A caller that has disconnected does not get it.
        let _ = caller.send(answer);
    }

    /// Refuses the request, regardless of the decision.
    pub fn refuse(self, refusal: Refusal) {
        let _ = self.caller.send(Err(refusal));
    }
}

#[cfg(test)]
mod tests;
