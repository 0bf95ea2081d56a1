//! Certificates for a control plane.

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// A certificate and its key, in PEM format.
#[derive(Debug, Clone)]
pub struct CertificatePair {
    pub certificate: String,
    pub key: String,
}

/// A certificate authority (CA) of the sandbox.
pub struct SandboxAuthority(CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for SandboxAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SandboxAuthority")
    }
}

impl SandboxAuthority {
    /// Creates an authority with this name.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate, in PEM format.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// Issues a client certificate. Kubernetes uses the common name as the user and the organisations as the groups.
    ///
    /// # Errors
    /// It cannot be issued.
    pub fn client(&self, user: &str, groups: &[&str]) -> anyhow::Result<CertificatePair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    /// Issues a server certificate for these names and addresses.
    ///
    /// # Errors
    /// It cannot be issued.
    pub fn server(&self, names: &[&str]) -> anyhow::Result<CertificatePair> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> anyhow::Result<CertificatePair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0).context("cannot issue")?;
        Ok(CertificatePair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// A key pair for signing tokens, in PEM format.
pub(super) fn signing_key() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// In base64, as in kubeconfig files.
pub(super) fn base64(text: &str) -> String {
    use base64::Engine as _;

    base64::engine::general_purpose::STANDARD.encode(text)
}
