//! The names of the operator's objects in the cluster.

use crate::kubernetes_names::{is_dns_label, is_dns_name};

/// The APIService of the external metrics API. A cluster can have only one.
pub const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";

/// The names of the operator's objects.
#[derive(Clone, Debug)]
pub struct ObjectNames {
    pub namespace: String,
    /// This replica, as the holder of the Lease.
    pub identity: String,
    /// The Service by which the API server reaches the operator.
    pub service: String,
    /// The Secret with the authority.
    pub tls_secret: String,
    /// The Lease of the replica that writes.
    pub lease: String,
    /// The operator's Deployment, if the operator removes its registration when that has no replicas.
    pub deployment: Option<String>,
}

impl ObjectNames {
    /// The DNS names that the API server may use. It calls `SERVICE.NAMESPACE.svc`.
    pub fn host_names(&self) -> Vec<String> {
        let (service, namespace) = (&self.service, &self.namespace);
        vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
        ]
    }

    /// A parser for the name of a namespace or a Service.
    ///
    /// # Errors
    /// The name is not allowed in Kubernetes.
    pub fn label(text: &str) -> Result<String, holdfast_telemetry::settings::MustBe> {
        if is_dns_label(text) {
            return Ok(text.to_owned());
        }
        Err(holdfast_telemetry::settings::MustBe::new(
            "must be 1 to 63 lower-case letters, digits and -, such as holdfast-operator",
        ))
    }

    /// A parser for the name of a Secret or a Lease.
    ///
    /// # Errors
    /// The name is not allowed in Kubernetes.
    pub fn name(text: &str) -> Result<String, holdfast_telemetry::settings::MustBe> {
        if is_dns_name(text) {
            return Ok(text.to_owned());
        }
        Err(holdfast_telemetry::settings::MustBe::new(
            "must be lower-case letters, digits, - and ., such as holdfast-operator-tls",
        ))
    }
}
