//! The memory budget of pages of lists while they are read and encoded.
//!
//! The size of a page is limited where it is read ([`PAGE_BYTES_MAX`]). This module limits the number of pages at a time.
//! After it is encoded, a page is charged like any other answer until it is sent.

use std::time::Duration;

use holdfast_store::PAGE_BYTES_MAX;

use crate::{
    byte_budget::{ByteBudget, Charge},
    problem::{Problem, ProblemKind},
};

/// The memory for a page: its rows, the converted rows, and the body.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a few megabytes
const PAGE: usize = 3 * PAGE_BYTES_MAX as usize;
/// The most pages at once.
const PAGES: usize = 8;
/// The longest wait for room.
const WAIT: Duration = Duration::from_secs(2);

/// The memory budget of pages. Cheap to clone.
#[derive(Clone, Copy, Debug)]
pub struct PageMemory(&'static ByteBudget);

impl PageMemory {
    /// Never freed, because there is one for the whole process.
    pub fn leak() -> Self {
        Self(ByteBudget::leak(PAGES * PAGE))
    }

    /// Waits for room for a page. Safe to cancel.
    ///
    /// # Errors
    /// There was no room in time: [`ProblemKind::Overloaded`].
    pub async fn reserve(&self) -> Result<Charge, Problem> {
        let room = tokio::time::timeout(WAIT, self.0.wait_for(PAGE)).await;
        match room {
            Ok(Ok(charge)) => Ok(charge),
            Ok(Err(spent)) => Err(Problem::new(ProblemKind::Overloaded).because(spent)),
            Err(elapsed) => Err(Problem::new(ProblemKind::Overloaded).because(elapsed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_page_too_many_is_refused() {
        let memory = PageMemory::leak();
        let mut all = Vec::new();
        for _ in 0..PAGES {
            all.push(memory.reserve().await.unwrap());
        }
        assert_eq!(memory.reserve().await.unwrap_err().kind(), ProblemKind::Overloaded);
        all.pop();
        assert!(memory.reserve().await.is_ok());
    }
}
