//! A namespace with the objects of the chart, a database, and a controller with the test's clock.

use holdfast_domain::{Money, ProductDraft, ProductName, Sale, SaleName, Stock};
use holdfast_operator::{
    OperatorMetrics,
    queues::{QueueListSettings, Queues, RedisAccess},
    sale::{
        SaleController, SaleSettings,
        resource::{FlashSale, Phase},
    },
};
use holdfast_sandbox::shared_postgres;
use holdfast_store::{Store, StoreSettings};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::templates::{deployment, hpa, keda_definition, scaled_object};
use crate::{
    cluster::{Cluster, until},
    objects, sale_resource,
};

/// A time on the day of the sales.
pub fn at(time: &str) -> Timestamp {
    format!("2036-11-27T{time}Z").parse().unwrap()
}

pub async fn merge(client: &Client, object: &Value, patch: &Value) {
    objects::merge(client, object, patch).await;
}

pub struct SaleFixture {
    pub namespace: &'static str,
    pub client: Client,
    sales: Api<FlashSale>,
    store: Option<Store>,
    /// The connection of the controllers to the database.
    controllers_store: Option<Store>,
    queues: Queues,
    controller: SaleController,
    /// The kind of the workers' autoscaler.
    workers: &'static str,
}

impl SaleFixture {
    pub async fn new(namespace: &'static str) -> Self {
        let url = Self::database().await;
        Self::with_databases(namespace, &url, &url, true).await
    }

    /// A database with a product.
    pub async fn database() -> String {
        let url = shared_postgres().await.unwrap().create_database().await.unwrap();
        Self::with_product(&Store::connect(&StoreSettings::new(&url).unwrap())).await;
        url
    }

    /// The controller uses the first address of the database, and the test uses the second.
    pub async fn with_databases(
        namespace: &'static str,
        controllers: &str,
        url: &str,
        fresh: bool,
    ) -> Self {
        let store = Store::connect(&StoreSettings::new(controllers).unwrap());
        let mut fixture = Self::on(namespace, Some(store), "HorizontalPodAutoscaler", fresh).await;
        fixture.store = Some(Store::connect(&StoreSettings::new(url).unwrap()));
        fixture
    }

    /// In the namespace of the shared replicas, with their database.
    pub async fn of_replicas(cluster: &Cluster, namespace: &'static str) -> Self {
        let store = Store::connect(&StoreSettings::new(&cluster.database_url).unwrap());
        Self::with_product(&store).await;
        Self::on(namespace, Some(store), "HorizontalPodAutoscaler", false).await
    }

    /// With KEDA's `ScaledObject` for the workers, and the relevant part of its definition.
    pub async fn with_keda(namespace: &'static str) -> Self {
        let store = Store::connect(&StoreSettings::new(&Self::database().await).unwrap());
        let client = Cluster::shared().await.client().await;
        objects::create(&client, &keda_definition()).await;
        let fixture = Self::on(namespace, Some(store), "ScaledObject", true).await;
        let object = scaled_object(namespace);
        let api = fixture.scaled_objects();
        let typed: DynamicObject = serde_json::from_value(object).unwrap();
        until("it is served", async || api.create(&PostParams::default(), &typed).await.is_ok())
            .await;
        fixture
    }

    fn scaled_objects(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
        Api::namespaced_with(self.client.clone(), self.namespace, &ApiResource::from_gvk(&kind))
    }

    pub async fn keda_minimum(&self) -> Option<i64> {
        let found = self.scaled_objects().get("holdfast-worker").await.unwrap();
        found.data["spec"]["minReplicaCount"].as_i64()
    }

    /// A sale that begins in this many seconds, lasts this many, and warms up immediately.
    pub async fn sale_from_now(
        &self,
        name: &str,
        begins_in: i64,
        lasts: i64,
    ) -> (Timestamp, Timestamp) {
        let now = Timestamp::from_second(self.database_time().await.as_second()).unwrap();
        let starts_at = now + SignedDuration::from_secs(begins_in);
        let ends_at = starts_at + SignedDuration::from_secs(lasts);
        self.sale(
            name,
            &json!({
                "startsAt": starts_at.to_string(), "endsAt": ends_at.to_string(),
                "workers": {"minReplicas": 3}, "api": {"minReplicas": 2},
            }),
        )
        .await;
        (starts_at, ends_at)
    }

    pub async fn database_time(&self) -> Timestamp {
        self.store.as_ref().unwrap().clock().await.unwrap()
    }

    async fn with_product(store: &Store) {
        store.migrate().await.unwrap();
        assert_eq!(Self::product(store).await, 1);
    }

    /// Creates another product.
    pub async fn create_product(&self) {
        Self::product(self.store.as_ref().unwrap()).await;
    }

    async fn product(store: &Store) -> i64 {
        let product = ProductDraft {
            name: ProductName::new("Sneaker".to_owned()).unwrap(),
            description: None,
            price: Money::from_minor(100).unwrap(),
            stock: Stock::new(50).unwrap(),
        };
        store.create_product(&product).await.unwrap().id.0
    }

    pub fn sales(&self) -> &Api<FlashSale> {
        &self.sales
    }

    pub async fn without_database(namespace: &'static str) -> Self {
        Self::on(namespace, None, "HorizontalPodAutoscaler", true).await
    }

    async fn on(
        namespace: &'static str,
        store: Option<Store>,
        workers: &'static str,
        fresh: bool,
    ) -> Self {
        let cluster = Cluster::shared().await;
        let client = cluster.client().await;
        sale_resource::install(&client).await;
        if fresh {
            cluster.namespace(&client, namespace).await;
        }
        for part in ["api", "worker"] {
            objects::create(&client, &deployment(namespace, part)).await;
            objects::create(&client, &hpa(namespace, part)).await;
        }
        let queues = QueueListSettings::One {
            namespace: namespace.to_owned(),
            release: "holdfast".to_owned(),
            // There is no Redis, so the depth is unknown.
            redis_url: "redis://127.0.0.1:1".parse().unwrap(),
        };
        let reach = RedisAccess { timeout: std::time::Duration::from_millis(100), redis_ca: None };
        let queues = Queues::load(queues, reach, None).await.unwrap();
        let controller = controller(namespace, &client, store.as_ref(), &queues, workers);
        let sales = Api::namespaced(client.clone(), namespace);
        let controllers_store = store.clone();
        Self { namespace, client, sales, store, controllers_store, queues, controller, workers }
    }

    pub fn controller(&self) -> SaleController {
        let store = self.controllers_store.as_ref();
        controller(self.namespace, &self.client, store, &self.queues, self.workers)
    }

    /// The previous operator has ended with its memory.
    pub fn another_operator(&mut self) {
        self.controller = self.controller();
    }

    /// Does what is due at a time.
    pub async fn round(&self, time: &str) {
        // Another client may have changed an object in the meantime, so conflicts are retried.
        for _ in 0..20 {
            match self.try_round(&self.controller, time).await {
                Ok(()) => return,
                Err(error) if error.contains("409") => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("there are too many conflicts");
    }

    /// The same by another controller, without retries.
    pub async fn try_round(&self, controller: &SaleController, time: &str) -> Result<(), String> {
        let sales = self.sales.list(&ListParams::default()).await.unwrap().items;
        let names: Vec<_> = sales.iter().map(|sale| sale.metadata.name.clone().unwrap()).collect();
        controller.delete_others(Some(&names)).await.map_err(|error| format!("{error:?}"))?;
        let all: Vec<_> = sales.iter().collect();
        controller.scale_all(&all, at(time)).await.map_err(|error| format!("{error:?}"))?;
        for sale in sales {
            let reconciled = controller.reconcile(&sale, Some(at(time))).await;
            reconciled.map_err(|error| format!("{error:?}"))?;
        }
        Ok(())
    }

    /// Lets a controller manage the sales by the database's clock, until the task is dropped.
    pub fn lead(&self) -> AbortOnDropHandle<()> {
        let (leads, leading) = tokio::sync::watch::channel(true);
        let controller = self.controller();
        AbortOnDropHandle::new(tokio::spawn(async move {
            Box::pin(controller.run(leading)).await;
            drop(leads);
        }))
    }

    /// From 10:00 to 11:00, with these additional fields.
    pub async fn sale(&self, name: &str, fields: &Value) {
        let mut spec = json!({
            "products": [1], "startsAt": "2036-11-27T10:00:00Z", "endsAt": "2036-11-27T11:00:00Z",
        });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let sale = json!({
            "apiVersion": "sales.holdfast.dev/v1alpha1", "kind": "FlashSale",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        let sale: FlashSale = serde_json::from_value(sale).unwrap();
        self.sales.create(&PostParams::default(), &sale).await.unwrap();
    }

    pub async fn try_edit(&self, name: &str, patch: &Value) -> kube::Result<FlashSale> {
        self.sales.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    pub async fn edit(&self, name: &str, patch: &Value) {
        self.try_edit(name, patch).await.unwrap();
    }

    pub async fn delete(&self, name: &str) {
        self.sales.delete(name, &kube::api::DeleteParams::default()).await.unwrap();
        // Nothing blocks the deletion.
        assert!(self.sales.get_opt(name).await.unwrap().is_none());
    }

    pub async fn status(&self, name: &str) -> Value {
        serde_json::to_value(self.sales.get(name).await.unwrap().status).unwrap()
    }

    pub async fn phase(&self, name: &str) -> Phase {
        self.shown(name).await.unwrap()
    }

    /// Its phase, if it has a status.
    pub async fn shown(&self, name: &str) -> Option<Phase> {
        self.sales.get(name).await.unwrap().status?.phase
    }

    /// The only condition that is true.
    pub fn condition(&self, status: &Value) -> String {
        self.holding(status)["type"].as_str().unwrap().to_owned()
    }

    pub fn reason(&self, status: &Value) -> String {
        assert_eq!(self.condition(status), "Stalled", "{status}");
        self.holding(status)["reason"].as_str().unwrap().to_owned()
    }

    #[allow(clippy::unused_self)]
    fn holding<'a>(&self, status: &'a Value) -> &'a Value {
        let conditions = status["conditions"].as_array().unwrap();
        let on: Vec<_> = conditions.iter().filter(|it| it["status"] == "True").collect();
        assert_eq!(on.len(), 1, "{status}");
        on[0]
    }

    pub async fn in_database(&self, name: &str) -> Option<Sale> {
        let name = SaleName::new(format!("{}/{name}", self.namespace)).unwrap();
        self.store.as_ref().unwrap().sale(&name).await.unwrap()
    }

    pub fn hpa(&self, part: &str) -> Value {
        hpa(self.namespace, part)
    }

    pub async fn hpas(&self) -> Vec<Value> {
        let mut found = Vec::new();
        for part in ["api", "worker"] {
            found.push(objects::get(&self.client, &self.hpa(part)).await.unwrap());
        }
        found
    }

    /// The minimums of the API and of the workers.
    pub async fn minimums(&self) -> (i64, i64) {
        let hpas = self.hpas().await;
        let minimum = |at: usize| hpas[at]["spec"]["minReplicas"].as_i64().unwrap();
        (minimum(0), minimum(1))
    }

    pub async fn recorded(&self, part: &str) -> Value {
        let hpa = objects::get(&self.client, &self.hpa(part)).await.unwrap();
        let record = hpa["metadata"]["annotations"]["sales.holdfast.dev/minimum"].as_str();
        serde_json::from_str(record.unwrap()).unwrap()
    }

    /// The state that an operator leaves if it ends between its two writes.
    pub async fn claim(&self, part: &str) {
        let kind = GroupVersionKind::gvk("autoscaling", "v2", "HorizontalPodAutoscaler");
        let kind = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), self.namespace, &kind);
        let params = PatchParams {
            field_manager: Some("holdfast-operator".to_owned()),
            ..Default::default()
        };
        for minimum in [5, 4] {
            let patch = json!({"spec": {"minReplicas": minimum}});
            api.patch(&format!("holdfast-{part}"), &params, &Patch::Merge(&patch)).await.unwrap();
        }
    }

    pub async fn apply_as(&self, manager: &str, object: &Value) {
        let kind = GroupVersionKind::gvk("autoscaling", "v2", "HorizontalPodAutoscaler");
        let kind = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), self.namespace, &kind);
        let name = object["metadata"]["name"].as_str().unwrap();
        api.patch(name, &PatchParams::apply(manager), &Patch::Apply(object)).await.unwrap();
    }

    /// The reasons of the events of a sale, sorted.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), self.namespace);
        let mut reasons: Vec<_> = events
            .list(&ListParams::default())
            .await
            .unwrap()
            .into_iter()
            .filter(|event| {
                event.regarding.as_ref().is_some_and(|of| {
                    of.kind.as_deref() == Some("FlashSale") && of.name.as_deref() == Some(name)
                })
            })
            .filter_map(|event| event.reason)
            .collect();
        reasons.sort_unstable();
        reasons
    }
}

fn controller(
    namespace: &str,
    client: &Client,
    store: Option<&Store>,
    queues: &Queues,
    workers: &str,
) -> SaleController {
    let autoscaler =
        |kind: &str, part: &str| Some(format!("{kind}/holdfast-{part}").parse().unwrap());
    let settings = SaleSettings {
        namespace: namespace.to_owned(),
        release: "holdfast".to_owned(),
        identity: "test".to_owned(),
        api: autoscaler("HorizontalPodAutoscaler", "api"),
        workers: autoscaler(workers, "worker"),
    };
    let metrics = OperatorMetrics::unmeasured(&holdfast_telemetry::Registry::default()).unwrap();
    SaleController::new(settings, client, store.cloned(), queues.clone(), metrics)
}
