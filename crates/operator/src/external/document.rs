//! Discovery: the documents about the group and its version. The aggregator's probes read the version, and its cache
//! reads everything in one aggregated document.

use http::{HeaderMap, HeaderValue, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    APIGroup, APIGroupList, APIResource, APIResourceList, GroupVersionForDiscovery,
};
use serde_json::{Value, json};

use super::metric::{GROUP, Metric, VERSION};

const AGGREGATED: &str = "APIGroupDiscoveryList";
const DISCOVERY_GROUP: &str = "apidiscovery.k8s.io";

/// A format of aggregated discovery. Both have the same fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregated {
    /// Kubernetes 1.30 and newer.
    V2,
    /// Older than 1.30.
    V2Beta1,
}

impl Aggregated {
    /// The format that the caller prefers; `None` if it does not accept an aggregated one.
    pub fn asked_for(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(header::ACCEPT).iter().filter_map(|text| text.to_str().ok());
        texts.flat_map(|text| text.split(',')).find_map(Self::of_media_range)
    }

    fn of_media_range(range: &str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("application/json") {
            return None;
        }
        let (mut group, mut version, mut kind) = ("", "", "");
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name {
                "g" => group = value,
                "v" => version = value,
                "as" => kind = value,
                _ => {}
            }
        }
        match (group, version, kind) {
            (DISCOVERY_GROUP, "v2", AGGREGATED) => Some(Self::V2),
            (DISCOVERY_GROUP, "v2beta1", AGGREGATED) => Some(Self::V2Beta1),
            _ => None,
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }

    /// The media type that identifies the format.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        })
    }

    /// The group, its version and its metrics.
    pub fn document(self) -> Value {
        let resource = |metric: Metric| {
            json!({
                "resource": metric.as_str(),
                "responseKind":
                    {"group": GROUP, "version": VERSION, "kind": "ExternalMetricValueList"},
                "scope": "Namespaced",
                "singularResource": "",
                "verbs": ["get"],
            })
        };
        json!({
            "kind": AGGREGATED,
            "apiVersion": format!("{DISCOVERY_GROUP}/{}", self.version()),
            "metadata": {},
            "items": [{
                "metadata": {"name": GROUP, "creationTimestamp": null},
                "versions": [{
                    "version": VERSION,
                    "resources": Metric::ALL.into_iter().map(resource).collect::<Vec<_>>(),
                    "freshness": "Current",
                }],
            }],
        })
    }
}

/// The groups, for callers that do not accept an aggregated document.
pub fn groups() -> APIGroupList {
    APIGroupList { groups: vec![group()] }
}

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

pub fn version() -> APIResourceList {
    let resource = |metric: Metric| APIResource {
        name: metric.as_str().to_owned(),
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
    use http::{HeaderMap, header::ACCEPT};
    use serde_json::json;

    use super::Aggregated;

    #[test]
    fn discovery_is_aggregated_in_the_first_supported_version() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let v2beta1 = v2.replace("v=v2", "v=v2beta1");
        for (accept, form) in [
            (format!("{v2},{v2beta1}"), Some(Aggregated::V2)),
            (format!("{v2beta1}, {v2}"), Some(Aggregated::V2Beta1)),
            (format!("application/yaml, {} ;q=0.9", v2.replace(';', " ; ")), Some(Aggregated::V2)),
            (v2.replace("v=v2", "v=v3"), None),
            (v2.replace("json", "vnd.kubernetes.protobuf"), None),
            ("application/json".to_owned(), None),
            ("*/*".to_owned(), None),
            (String::new(), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(ACCEPT, accept.parse().unwrap());
            assert_eq!(Aggregated::asked_for(&headers), form, "{accept}");
        }
    }

    #[test]
    fn the_content_type_names_the_form_that_the_document_has() {
        for form in [Aggregated::V2, Aggregated::V2Beta1] {
            let mut headers = HeaderMap::new();
            headers.append(ACCEPT, form.content_type());
            assert_eq!(Aggregated::asked_for(&headers), Some(form));
            let version = format!("apidiscovery.k8s.io/{}", form.version());
            assert_eq!(form.document()["apiVersion"], version);
        }
    }

    #[test]
    fn the_aggregator_can_read_the_documents() {
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
