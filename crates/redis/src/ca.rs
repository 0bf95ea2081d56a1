//! The certificate authorities that verify Redis's certificate.

use std::{fmt, str::FromStr, sync::Arc};

use holdfast_telemetry::settings::{MustBe, needs};

use crate::RedisUrl;

/// CA certificates, read from the file that a setting names.
#[derive(Clone)]
pub struct RedisCa(Arc<[u8]>);

impl RedisCa {
    /// In PEM format.
    pub fn pem(&self) -> Arc<[u8]> {
        Arc::clone(&self.0)
    }

    /// Checks that the connection uses TLS if there are CA certificates for it.
    ///
    /// # Errors
    /// The connection does not use TLS.
    pub fn check(ca: Option<&Self>, url: Option<&RedisUrl>) -> Result<(), MustBe> {
        let tls = url.is_none_or(RedisUrl::tls);
        needs(("HOLDFAST_REDIS_CA_FILE", ca.is_some()), ("a rediss URL in REDIS_URL", tls))
    }
}

impl fmt::Debug for RedisCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisCa(…)")
    }
}

impl FromStr for RedisCa {
    type Err = MustBe;

    fn from_str(path: &str) -> Result<Self, MustBe> {
        std::fs::read(path)
            .ok()
            .filter(|pem| pem.windows(BEGIN.len()).any(|window| window == BEGIN))
            .map(|pem| Self(pem.into()))
            .ok_or_else(|| {
                MustBe::new("must be a file with certificates (PEM) that this process can read")
            })
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_certificate_file_is_refused() {
        for bad in ["", "/nonexistent", "/etc/passwd"] {
            let refusal = bad.parse::<RedisCa>().unwrap_err().to_string();
            assert!(refusal.starts_with("must be a file with certificates"), "{bad}: {refusal}");
        }
    }
}
