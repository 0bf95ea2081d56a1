//! The current serving certificate.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The certificate for new connections. Cheap to clone; all clones share it. Without one, handshakes fail.
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
    /// The same for every name, because the API server may use an address.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get()
    }
}
