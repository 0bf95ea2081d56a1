//! The memory of pages of lists: so much for all that are read, written or being sent at once.
//!
//! A page is bounded in bytes where it is read ([`PAGE_BYTES_MAX`]). But a client may take its time to
//! receive it, and others may ask for theirs meanwhile.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use holdfast_store::PAGE_BYTES_MAX;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::problem::{Kind, Problem};

/// What a page may take while it is read and written: its rows, what they become, and the body.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a few megabytes
const PAGE: u32 = 3 * PAGE_BYTES_MAX as u32;
/// For all pages at once. Eight can be read at the same time, or twenty of the largest be sent.
const ALL: usize = 8 * PAGE as usize;
/// The longest wait for room.
const WAIT: Duration = Duration::from_secs(2);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct PageMemory(Arc<Semaphore>);

impl Default for PageMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL)))
    }
}

impl PageMemory {
    /// Waits for room for a page. Safe to cancel.
    ///
    /// # Errors
    /// Others keep it for too long: [`Kind::Overloaded`].
    pub async fn reserve(&self) -> Result<PageRoom, Problem> {
        match timeout(WAIT, Arc::clone(&self.0).acquire_many_owned(PAGE)).await {
            Ok(Ok(permit)) => Ok(PageRoom(permit)),
            _ => Err(Problem::new(Kind::Overloaded)),
        }
    }
}

/// Room for a page.
#[derive(Debug)]
pub struct PageRoom(OwnedSemaphorePermit);

impl PageRoom {
    /// Keeps as much room as the body takes, until the last byte of it is sent, and gives back the rest.
    pub fn keep(mut self, body: Bytes) -> Bytes {
        let rest = self.0.num_permits().saturating_sub(body.len());
        drop(self.0.split(rest));
        Bytes::from_owner(Kept { body, _room: self.0 })
    }
}

struct Kept {
    body: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_keeps_its_room_until_it_is_sent() {
        let memory = PageMemory::default();
        let free = || memory.0.available_permits();
        let room = memory.reserve().await.unwrap();
        assert_eq!(free(), ALL - PAGE as usize);
        let mut body = room.keep(Bytes::from_static(&[0; 1000]));
        assert_eq!(free(), ALL - 1000);
        // Split as a server does that sends it in parts.
        let rest = body.split_off(500);
        drop(body);
        assert_eq!(free(), ALL - 1000);
        drop(rest);
        assert_eq!(free(), ALL);
    }

    #[tokio::test(start_paused = true)]
    async fn one_page_too_many_is_refused() {
        let memory = PageMemory::default();
        let mut all = Vec::new();
        for _ in 0..ALL / PAGE as usize {
            all.push(memory.reserve().await.unwrap());
        }
        assert_eq!(memory.reserve().await.unwrap_err().kind(), Kind::Overloaded);
        all.pop();
        assert!(memory.reserve().await.is_ok());
    }
}
