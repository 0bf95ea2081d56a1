//! A certificate in a folder that another program manages: `tls.crt`, `tls.key`, and `ca.crt` if the operator must tell
//! the API server which authority to trust. For example, it is a mounted Secret of cert-manager. It is read in each
//! round, so a renewed certificate is served one round later.

use std::path::PathBuf;

use super::{
    error::RoundError,
    registration::{Registered, Registration},
    serving::Serving,
};
use crate::{
    authority::{MaterialError, Parsed, identity},
    bounded_file::{ReadError, read_text},
    leadership::Owner,
};

/// The largest file that is read, in bytes.
const BYTES_MAX: u64 = 256 * 1024;

/// The folder, and its last contents.
pub struct CertificateFolder {
    folder: PathBuf,
    registration: Registration,
    owner: Owner,
    serving: Serving,
    found: Option<(String, String)>,
}

impl CertificateFolder {
    pub fn new(
        folder: PathBuf,
        registration: Registration,
        owner: Owner,
        serving: Serving,
    ) -> Self {
        Self { folder, registration, owner, serving, found: None }
    }

    /// Does one round. Always returns true, because the program that manages the certificate makes the API server trust
    /// it.
    pub async fn round(&mut self, leading: bool) -> Result<bool, RoundError> {
        let found = (self.text("tls.crt").await?, self.text("tls.key").await?);
        if self.found.as_ref() != Some(&found) {
            let key = identity(&found.0, &found.1)?;
            let certificate = Parsed::first(&found.0).map_err(MaterialError::from)?;
            self.serving.exchange(key, certificate.not_after(), None);
            self.found = Some(found);
        }
        if let Registered::Ours { owner, ca_bundle } = self.registration.read(leading).await? {
            self.owner.set(owner);
            if leading && self.folder.join("ca.crt").exists() {
                let wanted = self.text("ca.crt").await?;
                if ca_bundle != wanted.as_bytes() {
                    self.registration.believe(wanted.as_bytes()).await?;
                }
            }
        }
        Ok(true)
    }

    async fn text(&self, name: &str) -> Result<String, ReadError> {
        read_text(&self.folder.join(name), BYTES_MAX).await
    }
}
