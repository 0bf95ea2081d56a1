//! The fields of certificates that the operator reads.

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate};

/// A certificate and its relevant fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    der: CertificateDer<'static>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    dns_names: Vec<String>,
}

/// Why a text contains no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("is not PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("contains no certificate")]
    None,
    #[error("contains something that is not an X.509 certificate")]
    X509,
}

/// All certificates of a PEM text, in order.
pub fn parse_bundle(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(CertificateError::Pem)?;
    if certificates.is_empty() {
        return Err(CertificateError::None);
    }
    Ok(certificates)
}

impl Parsed {
    /// The first certificate of a PEM text.
    pub fn first(pem: &str) -> Result<Self, CertificateError> {
        let der = parse_bundle(pem.as_bytes())?.swap_remove(0);
        Self::of(der)
    }

    pub fn of(der: CertificateDer<'static>) -> Result<Self, CertificateError> {
        let (not_before, not_after, dns_names) = {
            let certificate = x509(&der)?;
            let validity = certificate.validity();
            let names = certificate.subject_alternative_name().ok().flatten();
            let dns_names = names
                .iter()
                .flat_map(|names| &names.value.general_names)
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some((*name).to_owned()),
                    _ => None,
                })
                .collect();
            (validity.not_before.to_datetime(), validity.not_after.to_datetime(), dns_names)
        };
        Ok(Self { der, not_before, not_after, dns_names })
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub fn pem(&self) -> String {
        to_pem(&self.der)
    }

    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Whether less than a third of its validity is left, or it is not valid yet.
    pub fn due(&self, now: OffsetDateTime) -> bool {
        now < self.not_before || now > self.not_after - (self.not_after - self.not_before) / 3
    }

    /// Whether it is valid for all of these hosts.
    pub fn is_for(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.dns_names.contains(name))
    }

    /// Whether `authority` has signed it.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let signed = || {
            let (this, authority) = (x509(&self.der).ok()?, x509(&authority.der).ok()?);
            this.verify_signature(Some(authority.public_key())).ok()
        };
        signed().is_some()
    }

    /// Its public key, as in the certificate (DER of `SubjectPublicKeyInfo`).
    pub fn public_key(&self) -> Vec<u8> {
        x509(&self.der).map(|parsed| parsed.public_key().raw.to_vec()).unwrap_or_default()
    }
}

/// The common name of a certificate's subject; `None` if it has none.
pub(crate) fn common_name(der: &CertificateDer<'_>) -> Option<String> {
    let certificate = x509(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

pub(crate) fn to_pem(der: &CertificateDer<'_>) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der.to_vec()), lines)
}

fn x509<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::X509),
    }
}
