//! The custom resource `FlashSale`, and its definition for the API server.

use std::collections::BTreeMap;

use holdfast_domain::named;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt as _, KubeSchema, ResourceExt as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// When a sale is, of what, and how much capacity is to be ready for it.
//
// Times stay texts: the API server's idea of a date-time is wider than any one parser's, and one
// object that cannot be read must not hide all the others of a list.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sales.holdfast.dev",
    version = "v1alpha1",
    kind = "FlashSale",
    namespaced,
    status = "FlashSaleStatus",
    shortname = "sale",
    category = "holdfast",
    doc = "A flash sale: products, a window of time, and the capacity to be ready before it opens.",
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
    /// The ids of the products that are sold.
    #[schemars(schema_with = "products")]
    pub products: Vec<i64>,
    /// When orders are taken from.
    #[schemars(schema_with = "date_time")]
    pub starts_at: String,
    /// When no order is taken any more.
    #[schemars(schema_with = "date_time")]
    pub ends_at: String,
    /// How many seconds before the start the minimums are raised (0 to 86400).
    #[serde(default = "default_lead")]
    #[schemars(range(min = 0, max = 86400))]
    pub warm_up_seconds: i64,
    /// The most units of one product that one customer gets in this sale; no limit unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 1, max = 1_000_000))]
    pub per_customer: Option<i64>,
    /// The fewest workers from the warm-up to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MinimumReplicas")]
    pub workers: Option<MinimumReplicas>,
    /// The fewest API replicas from the warm-up to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MinimumReplicas")]
    pub api: Option<MinimumReplicas>,
    /// The release (`app.kubernetes.io/instance`) in this namespace; needed where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 63))]
    pub release: Option<String>,
    /// Whether the sale opens at its start although the capacity is not there.
    #[serde(default = "default_open")]
    pub open_when_not_ready: bool,
}

/// The capacity of one part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MinimumReplicas {
    /// The fewest replicas (1 to 10000).
    #[schemars(range(min = 1, max = 10000))]
    pub min_replicas: i32,
}

/// Where a sale stands, as the operator last saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlashSaleStatus {
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// `Ready`, `Reconciling` and `Stalled`, as kstatus reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How it goes, or went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SaleProgress")]
    pub report: Option<SaleProgress>,
}

/// How a sale goes, or went. If a product is in other sales at the same time, those count as well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SaleProgress {
    /// Units sold since the sale was written down, less those that came back.
    pub sold: i64,
    /// Units left.
    pub left: i64,
    /// Requests refused, by reason.
    #[serde(default)]
    pub refused: BTreeMap<String, i64>,
    /// The most orders accepted within one second.
    pub peak_orders_per_second: i64,
    /// 99 of 100 batches waited less than that for a product's lock, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub lock_wait_p99_micros: Option<i64>,
    /// The most orders that were seen in the workers' queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub highest_depth: Option<i64>,
    /// The most workers that were seen ready.
    #[serde(default)]
    pub most_workers: i32,
}

named! {
    /// Where a sale stands.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
    pub enum Phase {
        /// Its warm-up has not begun.
        Scheduled = "scheduled",
        /// The capacity is being made ready.
        Warming = "warming",
        /// Orders are taken.
        Open = "open",
        /// It is over.
        Closed = "closed",
        /// The database does not have it, so it is not enforced. The operator tries again.
        Stalled = "stalled",
        /// The spec has to be changed.
        Failed = "failed",
    }
}

impl Phase {
    /// Whether the database has nothing of the sale.
    pub fn is_not_written(self) -> bool {
        matches!(self, Self::Stalled | Self::Failed)
    }
}

/// One condition, as in `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Since when the status is this.
    #[schemars(schema_with = "date_time")]
    pub last_transition_time: String,
    /// The generation of the spec that it speaks of.
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
pub const REVISION: u32 = 1;

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
