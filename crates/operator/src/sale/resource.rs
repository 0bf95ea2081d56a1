//! The custom resource `FlashSale`, and its definition for the API server.

use std::collections::BTreeMap;

use holdfast_domain::named;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt as _, KubeSchema, ResourceExt as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The products, the time and the required capacity of a sale.
//
// Times are strings, because the API server accepts more date-time formats than any single parser,
// and one unreadable object must not hide the other objects of a list.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sales.holdfast.dev",
    version = "v1alpha1",
    kind = "FlashSale",
    namespaced,
    status = "FlashSaleStatus",
    shortname = "sale",
    category = "holdfast",
    doc = "A flash sale: its products, its time window, and the capacity that is needed when it opens.",
    derive = "PartialEq",
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || !(oldSelf.status.phase in ['Open', 'Closed']) || (self.spec.startsAt == oldSelf.spec.startsAt && self.spec.endsAt == oldSelf.spec.endsAt)").message("startsAt and endsAt cannot be changed once the sale is open"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Starts", type_ = "string", json_path = ".spec.startsAt"),
    printcolumn(name = "Ends", type_ = "string", json_path = ".spec.endsAt"),
    printcolumn(name = "Sold", type_ = "integer", json_path = ".status.report.sold"),
    printcolumn(name = "Left", type_ = "integer", json_path = ".status.report.left"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".spec.workers.minReplicas"),
    printcolumn(name = "API", type_ = "integer", json_path = ".spec.api.minReplicas"),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.conditions[?(@.type=='Stalled')].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.endsAt > self.startsAt").message("endsAt must be after startsAt"))]
#[x_kube(validation = Rule::new("has(self.workers) || has(self.api)").message("workers, api or both must have a minimum"))]
pub struct FlashSaleSpec {
    /// The ids of the products.
    #[schemars(schema_with = "products")]
    pub products: Vec<i64>,
    /// The time from which orders are accepted.
    #[schemars(schema_with = "date_time")]
    pub starts_at: String,
    /// The time from which orders are no longer accepted.
    #[schemars(schema_with = "date_time")]
    pub ends_at: String,
    /// The number of seconds before the start at which the minimums are raised (0 to 86400).
    #[serde(default = "default_lead")]
    #[schemars(range(min = 0, max = 86400))]
    pub warm_up_seconds: i64,
    /// The most units of one product for each customer in this sale; no limit if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 1, max = 1_000_000))]
    pub per_customer: Option<i64>,
    /// The minimum number of workers from the warm-up to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MinimumReplicas")]
    pub workers: Option<MinimumReplicas>,
    /// The minimum number of API replicas from the warm-up to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MinimumReplicas")]
    pub api: Option<MinimumReplicas>,
    /// The release (`app.kubernetes.io/instance`) in this namespace; needed if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 63))]
    pub release: Option<String>,
    /// Whether the sale opens at its start even if the capacity is not ready.
    #[serde(default = "default_open")]
    pub open_when_not_ready: bool,
}

/// The required capacity of the workers or of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MinimumReplicas {
    /// The minimum number of replicas (1 to 10000).
    #[schemars(range(min = 1, max = 10000))]
    pub min_replicas: i32,
}

/// The status of a sale, as the operator last observed it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlashSaleStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The phase of the sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The conditions `Ready`, `Reconciling` and `Stalled`, as defined by kstatus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The report of the sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SaleProgress")]
    pub report: Option<SaleProgress>,
}

/// The report of a sale. If a product is in several sales at the same time, each report includes
/// the sales of all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SaleProgress {
    /// The number of units sold since the sale was recorded, minus returned units.
    pub sold: i64,
    /// The number of units left.
    pub left: i64,
    /// The number of refused requests, by reason.
    #[serde(default)]
    pub refused: BTreeMap<String, i64>,
    /// The highest number of orders accepted within one second.
    pub peak_orders_per_second: i64,
    /// The 99th percentile of the time that batches waited for a product's lock, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub lock_wait_p99_micros: Option<i64>,
    /// The highest observed number of orders in the workers' queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub highest_depth: Option<i64>,
    /// The highest observed number of ready workers.
    #[serde(default)]
    pub most_workers: i32,
}

named! {
    /// The phase of a sale.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
    pub enum Phase {
        /// The warm-up has not begun.
        Scheduled = "scheduled",
        /// The capacity is being increased.
        Warming = "warming",
        /// Orders are accepted.
        Open = "open",
        /// The sale is over.
        Closed = "closed",
        /// The sale is not recorded in the database, so it is not enforced. The operator tries
        /// again.
        Stalled = "stalled",
        /// The spec is invalid and must be changed.
        Failed = "failed",
    }
}

impl Phase {
    /// Whether the sale is not recorded in the database.
    pub fn is_not_written(self) -> bool {
        matches!(self, Self::Stalled | Self::Failed)
    }
}

/// A condition, as in `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type of the condition.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// The reason, in one word.
    pub reason: String,
    /// The reason as a sentence.
    pub message: String,
    /// The time of the last change of `status`.
    #[schemars(schema_with = "date_time")]
    pub last_transition_time: String,
    /// The generation of the spec that this condition describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

fn default_lead() -> i64 {
    300
}

fn default_open() -> bool {
    true
}

fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 40})
}

fn products(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 100,
        "x-kubernetes-list-type": "set",
        "items": {"type": "integer", "format": "int64", "minimum": 1},
    })
}

/// The annotation of the definition with its revision.
pub const REVISION_ANNOTATION: &str = "holdfast.dev/revision";
/// The revision of the definition. Every change of the definition raises it.
pub const REVISION: u32 = 2;

/// The definition that the chart installs, and that the operator upgrades.
pub fn definition() -> CustomResourceDefinition {
    let mut definition = FlashSale::crd();
    definition.annotations_mut().insert(REVISION_ANNOTATION.to_owned(), REVISION.to_string());
    definition
}

/// The definition as YAML, as in the chart.
///
/// # Errors
/// It cannot be written as YAML.
pub fn yaml() -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    // Through JSON, which omits fields that are not set.
    let definition = serde_json::to_value(definition())?;
    Ok(format!("# Printed by `holdfast-operator crd`.\n{}", serde_saphyr::to_string(&definition)?))
}
