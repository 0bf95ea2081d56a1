//! Whether a try of an order may have been taken by the one who fulfils it.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use holdfast_store::fulfilment::Taken;

/// It may have been taken. The state at the beginning, so that a fulfilment that says nothing is safe.
const MAYBE: u8 = 0;
/// It certainly was not.
const NOT_TAKEN: u8 = 1;
/// The try is over. Nothing may be sent any more.
const OVER: u8 = 2;

/// Whether a try may have been taken. Cheap to clone; all clones are one.
///
/// The worker asks when the try is over, and writes the answer. What is sent after that would be sent
/// behind its back, so [`may_be_taken`](Self::may_be_taken) then says no.
#[derive(Clone, Debug, Default)]
pub struct Handover(Arc<AtomicU8>);

impl Handover {
    /// Nothing has been sent yet, or what was sent was refused: the try is certainly not taken.
    pub fn not_taken(&self) {
        let _ = self.0.compare_exchange(MAYBE, NOT_TAKEN, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Asked before the first byte of the order leaves: from here on the try may be taken. If this is
    /// `false`, the try is over and nothing may be sent.
    #[must_use]
    pub fn may_be_taken(&self) -> bool {
        let begun = self.0.compare_exchange(NOT_TAKEN, MAYBE, Ordering::AcqRel, Ordering::Acquire);
        begun != Err(OVER)
    }

    /// Ends the try, and says what is known of it.
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
    fn a_try_counts_as_taken_until_it_is_said_otherwise() {
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
    fn nothing_is_sent_once_the_try_is_over() {
        let late = Handover::default();
        late.not_taken();
        assert_eq!(late.end(), Taken::Never);
        assert!(!late.may_be_taken());
        late.not_taken();
        assert!(!late.may_be_taken());
    }

    #[test]
    fn of_the_end_and_the_first_byte_at_once_one_wins() {
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
