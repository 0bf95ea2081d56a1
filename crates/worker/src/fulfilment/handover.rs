//! Whether an attempt to fulfil an order may have taken effect.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use holdfast_store::fulfilment::Taken;

/// The attempt may have taken effect. This is the initial state, so that a fulfilment that says nothing is safe.
const MAYBE: u8 = 0;
/// The attempt certainly had no effect.
const NOT_TAKEN: u8 = 1;
/// The attempt is over. Nothing may be sent any more.
const OVER: u8 = 2;

/// Whether an attempt may have taken effect. Cheap to clone; clones share their state.
///
/// The worker reads it when the attempt is over, and records it. Nothing may be sent after that, so
/// [`may_be_taken`](Self::may_be_taken) then returns `false`.
#[derive(Clone, Debug, Default)]
pub struct Handover(Arc<AtomicU8>);

impl Handover {
    /// Nothing has been sent yet, or the receiver refused it: the attempt had no effect.
    pub fn not_taken(&self) {
        let _ = self.0.compare_exchange(MAYBE, NOT_TAKEN, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Must be called before the first byte of the order is sent, because the attempt may take effect from then on. If
    /// it returns `false`, the attempt is over and nothing may be sent.
    #[must_use]
    pub fn may_be_taken(&self) -> bool {
        let begun = self.0.compare_exchange(NOT_TAKEN, MAYBE, Ordering::AcqRel, Ordering::Acquire);
        begun != Err(OVER)
    }

    /// Whether the attempt may have taken effect, as far as is known now.
    pub(crate) fn taken(&self) -> Taken {
        match self.0.load(Ordering::Acquire) {
            NOT_TAKEN => Taken::Never,
            _ => Taken::Maybe,
        }
    }

    /// Ends the attempt, and returns whether it may have taken effect.
    pub(crate) fn end(&self) -> Taken {
        match self.0.swap(OVER, Ordering::AcqRel) {
            NOT_TAKEN => Taken::Never,
            _ => Taken::Maybe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_counts_as_accepted_until_proven_otherwise() {
        assert_eq!(Handover::default().end(), Taken::Maybe);
        let refused = Handover::default();
        refused.not_taken();
        assert!(refused.may_be_taken());
        refused.not_taken();
        assert_eq!(refused.end(), Taken::Never);
        let sent = Handover::default();
        sent.not_taken();
        assert!(sent.may_be_taken());
        assert_eq!(sent.end(), Taken::Maybe);
    }

    #[test]
    fn nothing_is_sent_after_the_attempt_is_over() {
        let late = Handover::default();
        late.not_taken();
        assert_eq!(late.end(), Taken::Never);
        assert!(!late.may_be_taken());
        late.not_taken();
        assert!(!late.may_be_taken());
    }

    #[test]
    fn either_the_end_or_the_first_byte_comes_first() {
        for _ in 0..2000 {
            let handover = Handover::default();
            handover.not_taken();
            let sending = handover.clone();
            let sender = std::thread::spawn(move || sending.may_be_taken());
            let taken = handover.end();
            let sent = sender.join().unwrap();
            assert_eq!(sent, taken == Taken::Maybe);
        }
    }
}
