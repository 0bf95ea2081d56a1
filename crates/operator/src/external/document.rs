//! The documents about the group and its version. The aggregator's probes ask for the latter.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    APIGroup, APIResource, APIResourceList, GroupVersionForDiscovery,
};

use super::{GROUP, VERSION, value::Metric};

/// The group, of which there is one version.
pub fn group() -> APIGroup {
    let version = GroupVersionForDiscovery {
        group_version: format!("{GROUP}/{VERSION}"),
        version: VERSION.to_owned(),
    };
    APIGroup {
        name: GROUP.to_owned(),
        versions: vec![version.clone()],
        preferred_version: Some(version),
        server_address_by_client_cidrs: None,
    }
}

/// The metrics that there are.
pub fn version() -> APIResourceList {
    let resource = |metric: Metric| APIResource {
        name: metric.name().to_owned(),
        singular_name: String::new(),
        namespaced: true,
        kind: "ExternalMetricValueList".to_owned(),
        verbs: vec!["get".to_owned()],
        ..Default::default()
    };
    APIResourceList {
        group_version: format!("{GROUP}/{VERSION}"),
        resources: Metric::ALL.into_iter().map(resource).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn documents_are_as_the_aggregator_reads_them() {
        assert_eq!(
            serde_json::to_value(super::group()).unwrap(),
            json!({
                "kind": "APIGroup",
                "apiVersion": "v1",
                "name": "external.metrics.k8s.io",
                "versions": [
                    {"groupVersion": "external.metrics.k8s.io/v1beta1", "version": "v1beta1"},
                ],
                "preferredVersion":
                    {"groupVersion": "external.metrics.k8s.io/v1beta1", "version": "v1beta1"},
            })
        );
        let resource = |name| {
            json!({
                "name": name,
                "singularName": "",
                "namespaced": true,
                "kind": "ExternalMetricValueList",
                "verbs": ["get"],
            })
        };
        assert_eq!(
            serde_json::to_value(super::version()).unwrap(),
            json!({
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": "external.metrics.k8s.io/v1beta1",
                "resources": [
                    resource("holdfast_queue_depth"),
                    resource("holdfast_queue_oldest_age_seconds"),
                ],
            })
        );
    }
}
