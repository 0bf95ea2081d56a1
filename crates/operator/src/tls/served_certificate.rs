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
pub struct ServedCertificate(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl ServedCertificate {
    /// Serves another certificate from now on. Open connections keep theirs.
    pub fn exchange(&self, key: Arc<CertifiedKey>) {
        *self.0.write() = Some(key);
    }

    pub fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().clone()
    }
}

impl ResolvesServerCert for ServedCertificate {
    /// The same for every name: the API server's resolver may use an address.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get()
    }
}
