//! A certificate that somebody else cares for, in a folder: `tls.crt`, `tls.key`, and if the API
//! server is to believe an authority by our word, `ca.crt`. A mounted Secret of cert-manager is
//! such a folder. It is read in each round, so a renewed one is served a round later.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    Parts,
    api::{Registered, Registration, RoundError},
    lease::Owner,
};
use crate::{
    OperatorMetrics,
    authority::{Parsed, identity},
    tls::Served,
};

/// The most bytes of a file that are read.
const BYTES_MAX: u64 = 256 * 1024;

/// The folder, and what was found in it.
pub struct Given {
    folder: PathBuf,
    registration: Registration,
    owner: Owner,
    served: Served,
    metrics: OperatorMetrics,
    serving: Option<(String, String)>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is too large.
    #[error("{0} is larger than {BYTES_MAX} bytes")]
    TooLarge(PathBuf),
}

impl Given {
    pub fn new(parts: &Parts, registration: Registration, folder: PathBuf) -> Self {
        Self {
            folder,
            registration,
            owner: parts.owner.clone(),
            served: parts.served.clone(),
            metrics: parts.metrics.clone(),
            serving: None,
        }
    }

    /// Does a round. Whether the API server believes the certificate is for whoever gave it.
    pub async fn round(&mut self, leading: bool) -> Result<bool, RoundError> {
        let tls_crt = self.text("tls.crt").await?;
        let tls_key = self.text("tls.key").await?;
        let found = (tls_crt, tls_key);
        if self.serving.as_ref() != Some(&found) {
            self.served.exchange(identity(&found.0, &found.1)?);
            let certificate =
                Parsed::first(&found.0).map_err(crate::authority::MaterialError::from)?;
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact")]
            let ends = certificate.not_after().unix_timestamp() as f64;
            self.metrics.certificate_expiry.set(ends);
            tracing::info!(ends = %certificate.not_after(), "the given certificate is served");
            self.serving = Some(found);
        }
        let registered = self.registration.read().await?;
        if let Registered::Ours { owner, ca_bundle } = registered {
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

    async fn text(&self, name: &str) -> Result<String, GivenError> {
        let path = self.folder.join(name);
        match read(&path).await {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Err(GivenError::TooLarge(path)),
            Err(source) => Err(GivenError::Read { path, source }),
        }
    }
}

async fn read(path: &Path) -> io::Result<Option<String>> {
    if tokio::fs::metadata(path).await?.len() > BYTES_MAX {
        return Ok(None);
    }
    tokio::fs::read_to_string(path).await.map(Some)
}
