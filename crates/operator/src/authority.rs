//! The operator's own certificate authority: what it issues, and when it is renewed.
//!
//! This module does no I/O, and the time is an input. Everything is in one [`Material`], which corresponds to one
//! Secret:
//!
//! | key | holds |
//! |---|---|
//! | `ca.crt` | the authority that signs, first, and behind it former ones until they end |
//! | `ca.key` | the key of the first |
//! | `tls.crt`, `tls.key` | the serving certificate, signed by the first, and its key |
//!
//! A renewal keeps the former authority in the bundle, so that replicas whose certificates it signed are still trusted.
//! `sync::own_authority` describes when a replica switches to the new certificate.

mod certificate;
mod material;

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use time::OffsetDateTime;

pub(crate) use certificate::common_name;
pub use certificate::{CertificateError, Parsed, parse_bundle};
pub use material::{BUNDLE_MAX, Material, MaterialError};
pub(crate) use material::{crypto, identity};

/// Certificates are valid from this long before they are issued, for hosts whose clocks are behind.
const BACKDATE: Duration = Duration::from_mins(5);

/// The parameters of the certificates.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The validity of a new authority.
    pub ca_validity: Duration,
    /// The validity of a new serving certificate, which never exceeds that of its authority.
    pub certificate_validity: Duration,
    /// The DNS names that the API server may use for the operator. The first is also the common name.
    pub names: Vec<String>,
}

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("a certificate could not be issued")]
    Issue(#[from] rcgen::Error),
    #[error("a certificate that was issued is not usable")]
    Unusable(#[from] MaterialError),
}

impl Authority {
    /// Returns what has to replace `have`; `None` if it can stay. Everything is new if there is nothing yet. The
    /// authority or the serving certificate is renewed if less than a third of its validity is left or it is not valid
    /// yet, and the serving certificate also if it lacks a name. Expired authorities are removed from the bundle.
    pub fn renewed(
        &self,
        have: Option<&Material>,
        now: OffsetDateTime,
    ) -> Result<Option<Material>, IssueError> {
        let Some(have) = have.filter(|have| !have.authority().due(now)) else {
            return self.anew(have, now).map(Some);
        };
        let certificate = have.certificate();
        if certificate.due(now) || !certificate.is_for(&self.names) {
            let (tls_crt, tls_key) = self.issue(&have.ca_pem(), have.ca_key(), now)?;
            let bundle = have.bundle_at(now);
            return Ok(Some(Material::new(&bundle, have.ca_key().to_owned(), tls_crt, tls_key)?));
        }
        let bundle = have.bundle_at(now);
        if bundle == have.bundle() {
            return Ok(None);
        }
        let (tls_crt, tls_key) = (have.tls_crt().to_owned(), have.tls_key().to_owned());
        Ok(Some(Material::new(&bundle, have.ca_key().to_owned(), tls_crt, tls_key)?))
    }

    /// Issues a new authority and a certificate. Former authorities stay in the bundle.
    fn anew(&self, have: Option<&Material>, now: OffsetDateTime) -> Result<Material, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.not_before = now - BACKDATE;
        params.not_after = now + self.ca_validity;
        params.serial_number = Some(serial_number());
        // If two authorities in a bundle had the same name, only their keys would distinguish them.
        params.distinguished_name = name(format!("holdfast-operator-ca@{}", now.unix_timestamp()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = params.self_signed(&key)?.pem();
        let ca_key = key.serialize_pem();
        let (tls_crt, tls_key) = self.issue(&ca_pem, &ca_key, now)?;
        let former = have.map(|have| have.bundle_at(now)).unwrap_or_default();
        Ok(Material::new(&format!("{ca_pem}{former}"), ca_key, tls_crt, tls_key)?)
    }

    /// Issues a serving certificate with its key.
    fn issue(
        &self,
        ca_pem: &str,
        ca_key: &str,
        now: OffsetDateTime,
    ) -> Result<(String, String), IssueError> {
        let ca_ends = Parsed::first(ca_pem).map_err(MaterialError::from)?.not_after();
        let issuer = Issuer::from_ca_cert_pem(ca_pem, KeyPair::from_pem(ca_key)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(self.names.clone())?;
        params.not_before = now - BACKDATE;
        params.not_after = (now + self.certificate_validity).min(ca_ends);
        params.serial_number = Some(serial_number());
        params.distinguished_name = name(self.names.first().cloned().unwrap_or_default());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn name(common_name: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // The field's upper bound in X.520 is 64 characters.
    let mut common_name = common_name;
    common_name.truncate(64);
    name.push(DnType::CommonName, common_name);
    name
}

/// At most 20 bytes and positive, as RFC 5280 (4.1.2.2) requires.
fn serial_number() -> SerialNumber {
    let mut bytes = uuid::Uuid::new_v4().into_bytes();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn authority() -> Authority {
        Authority {
            ca_validity: 90 * HOUR,
            certificate_validity: 30 * HOUR,
            names: vec!["operator.shop.svc".to_owned()],
        }
    }

    fn begin() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn nothing_is_renewed_before_two_thirds_of_its_life() {
        let first = authority().renewed(None, begin()).unwrap().unwrap();
        assert_eq!(authority().renewed(Some(&first), begin() + 19 * HOUR).unwrap(), None);
    }

    #[test]
    fn a_certificate_is_renewed_by_the_same_ca() {
        let first = authority().renewed(None, begin()).unwrap().unwrap();
        let second = authority().renewed(Some(&first), begin() + 21 * HOUR).unwrap().unwrap();
        assert_eq!(second.bundle(), first.bundle());
        assert_ne!(second.certificate().pem(), first.certificate().pem());
    }

    #[test]
    fn a_ca_is_renewed_and_the_old_one_is_removed_after_it_expires() {
        let first = authority().renewed(None, begin()).unwrap().unwrap();
        let later = begin() + 61 * HOUR;
        let second = authority().renewed(Some(&first), later).unwrap().unwrap();
        assert_eq!(second.bundle(), format!("{}{}", second.ca_pem(), first.ca_pem()));
        assert_ne!(second.ca_pem(), first.ca_pem());
        assert_eq!(authority().renewed(Some(&second), later).unwrap(), None);
        let after = begin() + 91 * HOUR;
        let third = authority().renewed(Some(&second), after).unwrap().unwrap();
        assert_eq!(third.bundle(), second.ca_pem(), "the first has ended");
    }

    #[test]
    fn a_certificate_never_outlives_its_ca() {
        let first = authority().renewed(None, begin()).unwrap().unwrap();
        let late = begin() + 59 * HOUR;
        let second = authority().renewed(Some(&first), late).unwrap().unwrap();
        let long = Authority { certificate_validity: 1000 * HOUR, ..authority() };
        let third = long.renewed(Some(&second), late + 21 * HOUR).unwrap().unwrap();
        assert!(third.certificate().not_after() <= third.authority().not_after());
    }

    #[test]
    fn another_name_of_the_service_needs_another_certificate() {
        let first = authority().renewed(None, begin()).unwrap().unwrap();
        let renamed = Authority { names: vec!["other.shop.svc".to_owned()], ..authority() };
        let second = renamed.renewed(Some(&first), begin()).unwrap().unwrap();
        assert_eq!(second.bundle(), first.bundle());
        assert!(second.certificate().is_for(&renamed.names));
    }

    #[test]
    fn a_wrong_clock_does_not_accumulate_cas() {
        let mut have = None;
        for round in 0..30 {
            // Years before anything was issued, nothing is valid yet.
            let now = begin() - HOUR * 10_000 * round;
            have = authority().renewed(have.as_ref(), now).unwrap().or(have);
        }
        let bundle = parse_bundle(have.unwrap().bundle().as_bytes()).unwrap();
        assert!(bundle.len() <= BUNDLE_MAX, "{}", bundle.len());
    }
}
