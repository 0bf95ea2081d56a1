//! An authority with its serving certificate, and the Secret that contains both.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::ByteString;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use super::certificate::{CertificateError, Parsed, parse_bundle};

/// The most certificates in a bundle. If there are more renewals before one has expired, a clock is wrong, and the
/// oldest certificate is no longer in use.
pub const BUNDLE_MAX: usize = 8;

const CA_CRT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const TLS_CRT: &str = "tls.crt";
const TLS_KEY: &str = "tls.key";

/// The contents of a Secret. The parts belong together.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The current authority, and former ones.
    bundle: Vec<Parsed>,
    ca_key: String,
    certificate: Parsed,
    tls_crt: String,
    tls_key: String,
}

/// Why the contents of a Secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    #[error("{0} is missing or not text")]
    Missing(&'static str),
    #[error("a certificate cannot be read")]
    Certificate(#[from] CertificateError),
    #[error("{CA_KEY} is not the key of the first certificate in {CA_CRT}")]
    CaKey,
    #[error("{TLS_KEY} is not the key of {TLS_CRT}")]
    TlsKey,
    #[error("{TLS_CRT} is not signed by the first certificate in {CA_CRT}")]
    NotSigned,
}

impl Material {
    /// Checks that the parts belong together. A bundle that is too long is truncated.
    pub fn new(
        bundle: &str,
        ca_key: String,
        tls_crt: String,
        tls_key: String,
    ) -> Result<Self, MaterialError> {
        let mut bundle = parse_bundle(bundle.as_bytes())?
            .into_iter()
            .map(Parsed::of)
            .collect::<Result<Vec<_>, _>>()?;
        bundle.truncate(BUNDLE_MAX);
        let certificate = Parsed::first(&tls_crt)?;
        let authority = bundle.first().ok_or(CertificateError::None)?;
        let ca_pair = rcgen::KeyPair::from_pem(&ca_key).map_err(|_| MaterialError::CaKey)?;
        if rcgen::PublicKeyData::subject_public_key_info(&ca_pair) != authority.public_key() {
            return Err(MaterialError::CaKey);
        }
        if !certificate.is_signed_by(authority) {
            return Err(MaterialError::NotSigned);
        }
        let material = Self { bundle, ca_key, certificate, tls_crt, tls_key };
        material.identity()?;
        Ok(material)
    }

    /// Reads the contents of a Secret.
    pub fn from_secret(data: &BTreeMap<String, ByteString>) -> Result<Self, MaterialError> {
        let text = |key: &'static str| {
            data.get(key)
                .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
                .filter(|text| !text.is_empty())
                .ok_or(MaterialError::Missing(key))
        };
        Self::new(&text(CA_CRT)?, text(CA_KEY)?, text(TLS_CRT)?, text(TLS_KEY)?)
    }

    /// The contents for a Secret.
    pub fn to_secret(&self) -> BTreeMap<String, ByteString> {
        [
            (CA_CRT, self.bundle()),
            (CA_KEY, self.ca_key.clone()),
            (TLS_CRT, self.tls_crt.clone()),
            (TLS_KEY, self.tls_key.clone()),
        ]
        .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
        .into()
    }

    /// The certificate and key for the listener.
    ///
    /// # Errors
    /// The key does not match the certificate.
    pub fn identity(&self) -> Result<Arc<CertifiedKey>, MaterialError> {
        identity(&self.tls_crt, &self.tls_key)
    }

    /// All trusted authorities, in PEM format.
    pub fn bundle(&self) -> String {
        self.bundle.iter().map(Parsed::pem).collect()
    }

    /// Like [`bundle`](Self::bundle), without expired authorities.
    pub fn bundle_at(&self, now: OffsetDateTime) -> String {
        let (first, former) = (self.bundle.iter().take(1), self.bundle.iter().skip(1));
        first.chain(former.filter(|former| former.not_after() > now)).map(Parsed::pem).collect()
    }

    /// The current authority.
    pub fn authority(&self) -> &Parsed {
        &self.bundle[0]
    }

    pub fn ca_pem(&self) -> String {
        self.authority().pem()
    }

    pub fn ca_key(&self) -> &str {
        &self.ca_key
    }

    pub fn certificate(&self) -> &Parsed {
        &self.certificate
    }

    /// The serving certificate in PEM format, with further certificates of its chain.
    pub fn tls_crt(&self) -> &str {
        &self.tls_crt
    }

    pub fn tls_key(&self) -> &str {
        &self.tls_key
    }
}

/// Never shows the keys.
impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("authority_ends", &self.authority().not_after())
            .field("certificate_ends", &self.certificate.not_after())
            .finish_non_exhaustive()
    }
}

/// A certificate with its key, parsed from PEM.
///
/// # Errors
/// They cannot be read, or do not match.
pub(crate) fn identity(tls_crt: &str, tls_key: &str) -> Result<Arc<CertifiedKey>, MaterialError> {
    let chain = parse_bundle(tls_crt.as_bytes())?;
    let key =
        PrivateKeyDer::from_pem_slice(tls_key.as_bytes()).map_err(|_| MaterialError::TlsKey)?;
    let key = CertifiedKey::from_der(chain, key, &crypto()).map_err(|_| MaterialError::TlsKey)?;
    Ok(Arc::new(key))
}

/// The cryptography provider of this process.
pub(crate) fn crypto() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::authority::Authority;

    fn material(name: &str) -> Material {
        let authority = Authority {
            ca_validity: Duration::from_hours(10),
            certificate_validity: Duration::from_hours(5),
            names: vec![name.to_owned()],
        };
        authority.renewed(None, OffsetDateTime::now_utc()).unwrap().unwrap()
    }

    #[test]
    fn a_secret_is_read_back_unchanged() {
        let material = material("a.test");
        assert_eq!(Material::from_secret(&material.to_secret()).unwrap(), material);
    }

    #[test]
    fn a_key_and_a_certificate_that_do_not_match_are_refused() {
        let (ours, other) = (material("a.test").to_secret(), material("a.test").to_secret());
        for key in [CA_CRT, CA_KEY, TLS_CRT, TLS_KEY] {
            let mut mixed = ours.clone();
            mixed.insert(key.to_owned(), other[key].clone());
            assert!(Material::from_secret(&mixed).is_err(), "the other's {key}");
            mixed.insert(key.to_owned(), ByteString(b"garbage".to_vec()));
            assert!(Material::from_secret(&mixed).is_err(), "garbage for {key}");
            mixed.remove(key);
            assert!(Material::from_secret(&mixed).is_err(), "no {key}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        assert!(!format!("{:?}", material("a.test")).contains("PRIVATE"));
    }
}
