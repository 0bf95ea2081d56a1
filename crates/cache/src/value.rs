//! A cached value.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::entry::{Entry, Hit, Tier};

/// A value with its response body, which is rendered when it is first needed.
#[derive(Clone)]
pub(crate) struct RenderedEntry<E> {
    pub(crate) entry: E,
    body: OnceLock<Bytes>,
}

impl<E: Entry> RenderedEntry<E> {
    pub(crate) fn new(entry: E, body: Option<Bytes>) -> Self {
        Self { entry, body: body.map(OnceLock::from).unwrap_or_default() }
    }

    pub(crate) fn body(&self) -> Bytes {
        self.body.get_or_init(|| self.entry.encode()).clone()
    }

    pub(crate) fn hit(&self, tier: Tier) -> Hit {
        Hit { version: self.entry.version(), stock: self.entry.stock(), body: self.body(), tier }
    }

    pub(crate) fn patch(&mut self, version: i64, stock: i64) {
        self.entry.set_stock(version, stock);
        self.body = OnceLock::new();
    }
}
