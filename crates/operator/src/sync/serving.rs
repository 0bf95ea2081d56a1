//! Replaces the serving certificate, and shows when it expires.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use crate::{OperatorMetrics, tls::ServedCertificate};

#[derive(Clone)]
pub struct Serving {
    pub served: ServedCertificate,
    pub metrics: OperatorMetrics,
}

impl Serving {
    /// Serves another certificate from now on. `ca_ends` is known for the operator's own authority.
    pub fn exchange(
        &self,
        key: Arc<CertifiedKey>,
        ends: OffsetDateTime,
        ca_ends: Option<OffsetDateTime>,
    ) {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact")]
        let seconds = |at: OffsetDateTime| at.unix_timestamp() as f64;
        self.served.exchange(key);
        self.metrics.certificate_expiry.set(seconds(ends));
        if let Some(ca_ends) = ca_ends {
            self.metrics.ca_expiry.set(seconds(ca_ends));
        }
        tracing::info!(%ends, "another certificate is served from now on");
    }
}
