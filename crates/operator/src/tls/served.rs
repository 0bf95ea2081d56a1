//! The certificate that is served now.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The certificate that new connections get. Cheap to clone; all clones serve the same. Without
/// one, handshakes fail.
#[derive(Clone, Debug, Default)]
pub struct Served(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl Served {
    /// Serves another from now on. Open connections are not disturbed.
    pub fn exchange(&self, key: Arc<CertifiedKey>) {
        *self.0.write() = Some(key);
    }

    /// What is served now.
    pub fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().clone()
    }
}

impl ResolvesServerCert for Served {
    /// Whatever name is asked for: the API server's own resolver may call us by address.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get()
    }
}
