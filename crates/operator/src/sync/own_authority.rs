//! The operator's own authority in its Secret, and when a replica switches to another certificate.
//!
//! A renewal of the authority, as the API server sees it:
//!
//! ```text
//! the replica that writes: Secret (new authority, former kept) ─▶ caBundle of the APIService = both
//! each replica:            serves the former's ── caBundle has the new ──▶ waits a round ──▶ serves the new's
//! ```
//!
//! A replica does not replace a valid certificate that the API server trusts by one that it does not trust yet, and no
//! connection is closed. If a replica ends at any point, another one continues with the same two objects.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams, core::ObjectMeta};
use time::OffsetDateTime;

use super::{
    error::RoundError,
    registration::{Registered, Registration},
    serving::Serving,
};
use crate::{
    authority::{Authority, Material, Parsed, parse_bundle},
    calls::{FIELD_MANAGER, call},
    leadership::Owner,
};

/// The certificate of this replica, and its authority.
pub struct OwnAuthority {
    secrets: Api<Secret>,
    name: String,
    authority: Authority,
    registration: Registration,
    owner: Owner,
    exchange: Serving,
    /// The last usable contents of the Secret. If the Secret is deleted, they are written again.
    have: Option<Material>,
    serving: Option<Material>,
    /// Since when the API server trusts the authority in `have`.
    believed_since: Option<Instant>,
    /// How long the API server may take to use a new authority.
    settle: Duration,
}

impl OwnAuthority {
    pub fn new(
        secrets: Api<Secret>,
        name: String,
        authority: Authority,
        registration: Registration,
        owner: Owner,
        exchange: Serving,
        settle: Duration,
    ) -> Self {
        let (have, serving, believed_since) = (None, None, None);
        Self {
            secrets,
            name,
            authority,
            registration,
            owner,
            exchange,
            have,
            serving,
            believed_since,
            settle,
        }
    }

    /// Does a round. Returns whether the API server trusts the served certificate, or does not use this operator.
    pub async fn round(&mut self, leading: bool) -> Result<bool, RoundError> {
        let registered = self.registration.read(leading).await?;
        if let Registered::Ours { owner, .. } = &registered {
            self.owner.set(owner.clone());
        }
        let secret = call(self.secrets.get_opt(&self.name)).await.map_err(RoundError::Secret)?;
        let read = secret.as_ref().and_then(usable);
        let material =
            if leading { self.write(secret, read, OffsetDateTime::now_utc()).await? } else { read };
        if let Some(material) = material {
            if self.have.as_ref().is_none_or(|have| have.authority() != material.authority()) {
                self.believed_since = None;
            }
            self.have = Some(material);
        }
        let Some(have) = self.have.clone() else { return Ok(false) };
        if let Registered::Ours { ca_bundle, .. } = &registered
            && leading
            && ca_bundle.as_slice() != have.bundle().as_bytes()
        {
            self.registration.believe(have.bundle().as_bytes()).await?;
        }
        self.change_over(&have, &registered)?;
        Ok(self.serving.as_ref().is_some_and(|serving| believes(&registered, serving)))
    }

    /// Writes the Secret if it has to change. Returns its contents.
    async fn write(
        &self,
        secret: Option<Secret>,
        read: Option<Material>,
        now: OffsetDateTime,
    ) -> Result<Option<Material>, RoundError> {
        let base = read.as_ref().or(self.have.as_ref());
        let renewed = self.authority.renewed(base, now)?;
        let owners = self.owner.references();
        let owned =
            |secret: &Secret| owners.is_none() || secret.metadata.owner_references == owners;
        if renewed.is_none() && read.is_some() && secret.as_ref().is_some_and(owned) {
            return Ok(read);
        }
        let Some(material) = renewed.or_else(|| base.cloned()) else { return Ok(read) };
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let written = if let Some(mut secret) = secret {
            // With the version that was read, so that changes by other clients in the meantime are not undone.
            secret.data = Some(material.to_secret());
            if owners.is_some() {
                secret.metadata.owner_references = owners;
            }
            call(self.secrets.replace(&self.name, &params, &secret)).await
        } else {
            let labels = BTreeMap::from([(
                "app.kubernetes.io/managed-by".to_owned(),
                FIELD_MANAGER.to_owned(),
            )]);
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    labels: Some(labels),
                    owner_references: owners,
                    ..ObjectMeta::default()
                },
                data: Some(material.to_secret()),
                type_: Some("Opaque".to_owned()),
                ..Secret::default()
            };
            call(self.secrets.create(&params, &secret)).await
        };
        written.map_err(RoundError::Secret)?;
        tracing::info!(
            authority_ends = %material.authority().not_after(),
            certificate_ends = %material.certificate().not_after(),
            "the Secret with the certificates was written"
        );
        Ok(Some(material))
    }

    /// Serves the Secret's certificate as soon as the API server trusts it.
    fn change_over(&mut self, have: &Material, registered: &Registered) -> Result<(), RoundError> {
        if believes(registered, have) {
            self.believed_since.get_or_insert_with(Instant::now);
        } else {
            self.believed_since = None;
        }
        let now = OffsetDateTime::now_utc();
        let settled = self.believed_since.is_some_and(|since| since.elapsed() >= self.settle);
        let at_once = match &self.serving {
            None => true,
            Some(serving) => {
                serving.authority() == have.authority()
                    || serving.certificate().not_after() <= now
                    || !believes(registered, serving) && believes(registered, have)
                    || !matches!(registered, Registered::Ours { .. })
            }
        };
        let changed = self.serving.as_ref().is_none_or(|serving| {
            serving.certificate() != have.certificate() || serving.bundle() != have.bundle()
        });
        if changed && (at_once || settled) {
            let ends = have.certificate().not_after();
            self.exchange.exchange(have.identity()?, ends, Some(have.authority().not_after()));
            self.serving = Some(have.clone());
        }
        Ok(())
    }
}

/// The contents of a Secret, if they are usable.
fn usable(secret: &Secret) -> Option<Material> {
    match Material::from_secret(secret.data.as_ref()?) {
        Ok(material) => Some(material),
        Err(error) => {
            let error = holdfast_telemetry::Chain(&error);
            tracing::warn!(%error, "the Secret with the certificates cannot be used");
            None
        }
    }
}

/// Whether the API server trusts this certificate, or does not use this operator.
fn believes(registered: &Registered, material: &Material) -> bool {
    let Registered::Ours { ca_bundle, .. } = registered else { return true };
    let believed = parse_bundle(ca_bundle).unwrap_or_default();
    believed
        .into_iter()
        .filter_map(|authority| Parsed::of(authority).ok())
        .any(|authority| material.certificate().is_signed_by(&authority))
}
