//! Upgrades the definition of `FlashSale`.
//!
//! Helm installs it with the first release and never changes it, so that it belongs to no release. The operators of all
//! releases in the cluster compare it with their own version: a newer operator writes it, and the others do not. Fields
//! are only added, so an older operator works with a newer definition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    calls::{CallError, FIELD_MANAGER, call},
    sale::resource::{REVISION, REVISION_ANNOTATION, definition},
};

/// Why the definition may be out of date.
#[derive(Debug, thiserror::Error)]
#[error("the definition of FlashSale could not be read or upgraded")]
pub struct DefinitionError(#[from] CallError);

pub struct Definition {
    definitions: Api<CustomResourceDefinition>,
}

impl Definition {
    pub fn new(client: Client) -> Self {
        Self { definitions: Api::all(client) }
    }

    /// Upgrades it if it is older than this operator's. Does not create it, because an installation may do without it.
    pub async fn upgrade(&self) -> Result<(), DefinitionError> {
        let own = definition();
        let name = own.name_any();
        let Some(found) = call(self.definitions.get_opt(&name)).await? else { return Ok(()) };
        let before = revision(&found);
        if before >= REVISION {
            return Ok(());
        }
        let patch = json!({
            // Refused if another operator was faster.
            "metadata": {
                "resourceVersion": found.resource_version(),
                "annotations": {REVISION_ANNOTATION: REVISION.to_string()},
            },
            "spec": own.spec,
        });
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        match call(self.definitions.patch(&name, &params, &Patch::Merge(patch))).await {
            Ok(_) => {
                tracing::info!(before, now = REVISION, "the definition of FlashSale was upgraded");
                Ok(())
            }
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// 0 for a definition from before there were revisions.
fn revision(found: &CustomResourceDefinition) -> u32 {
    let revision = found.annotations().get(REVISION_ANNOTATION);
    revision.and_then(|revision| revision.parse().ok()).unwrap_or(0)
}
