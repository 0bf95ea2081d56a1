//! Flash sales on a real control plane with a real HPA and a real database. The time is an argument of each round, so
//! that no test waits for a sale. Pods are made ready by the test, because there is no kubelet.

pub mod fixture;
mod pods;
mod templates;

use holdfast_operator::sale::resource::Phase;
use serde_json::{Value, json};

use tokio::sync::OnceCell;

use crate::{
    cluster::{Cluster, NAMESPACE, until},
    objects,
};
use fixture::{SaleFixture, at, merge};

/// How many seconds late a phase may be shown in these tests.
const ALLOWED: i128 = 3;

/// A sale of a few seconds in the namespace of the shared replicas, with the real clock: the minimums are raised before
/// it, it opens and closes on the second, and they are restored.
pub async fn hold_one(cluster: &Cluster) {
    static HELD: OnceCell<()> = OnceCell::const_new();
    HELD.get_or_init(async || {
        let fixture = SaleFixture::of_replicas(cluster, NAMESPACE).await;
        // There is enough time, because other tests take the Lease from the leader in the meantime.
        let (starts_at, ends_at) = fixture.sale_from_now("now", 20, 4).await;
        until("the minimums are raised", async || fixture.minimums().await == (2, 3)).await;
        for (phase, since) in [(Phase::Open, starts_at), (Phase::Closed, ends_at)] {
            until("the phase is shown", async || fixture.shown("now").await == Some(phase)).await;
            let late = fixture.database_time().await.duration_since(since);
            // The operator polls, and so does this test, on a busy machine.
            assert!(late.as_millis() < 1000 * ALLOWED, "{phase:?} came {late} late");
        }
        until("the minimums are restored", async || fixture.minimums().await == (1, 1)).await;
        stall_twice(&fixture).await;
    })
    .await;
}

/// A sale that stalls twice for the same reason, which publishes the same event twice.
async fn stall_twice(fixture: &SaleFixture) {
    fixture.sale_from_now("twice", 60, 60).await;
    for (wanted, status) in [(50, "True"), (3, "False"), (50, "True")] {
        fixture.edit("twice", &json!({"spec": {"workers": {"minReplicas": wanted}}})).await;
        until("it is stalled, or not any more", async || {
            let shown = fixture.status("twice").await;
            let conditions = shown["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|it| it["type"] == "Stalled" && it["status"] == status)
        })
        .await;
    }
    fixture.delete("twice").await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn the_operator_runs_a_sale_by_the_databases_clock() {
    hold_one(Cluster::shared().await).await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_scaled_object_of_keda_is_raised_and_restored() {
    let fixture = SaleFixture::with_keda("sale-keda").await;
    fixture.sale("a", &json!({"workers": {"minReplicas": 4}})).await;
    for (time, minimum) in [("09:00:00", None), ("09:55:00", Some(4)), ("11:00:00", Some(0))] {
        fixture.round(time).await;
        assert_eq!(fixture.keda_minimum().await, minimum, "at {time}");
    }
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_sale_from_the_schedule_to_the_report() {
    let fixture = SaleFixture::new("sale-whole").await;
    fixture
        .sale(
            "friday",
            &json!({"workers": {"minReplicas": 3}, "api": {"minReplicas": 2}, "perCustomer": 2}),
        )
        .await;

    // Long before the sale: it is recorded, and nothing is raised.
    fixture.round("09:00:00").await;
    let status = fixture.status("friday").await;
    assert_eq!(
        (&status["phase"], fixture.condition(&status)),
        (&json!("Scheduled"), "Ready".to_owned())
    );
    assert_eq!(status["observedGeneration"], 1);
    let written = fixture.in_database("friday").await.unwrap();
    assert_eq!((written.starts_at, written.ends_at), (at("10:00:00"), at("11:00:00")));
    assert_eq!((written.per_customer, written.held_back), (Some(2), false));
    assert_eq!(fixture.minimums().await, (1, 1));

    // Five minutes before: the minimums are raised, and the HPA creates pods.
    fixture.round("09:55:00").await;
    assert_eq!(fixture.minimums().await, (2, 3));
    let status = fixture.status("friday").await;
    assert_eq!(
        (&status["phase"], fixture.condition(&status)),
        (&json!("Warming"), "Reconciling".to_owned())
    );
    fixture.pods_are_ready("worker", 3).await;
    fixture.pods_are_ready("api", 2).await;
    fixture.round("09:57:00").await;
    let status = fixture.status("friday").await;
    assert_eq!(fixture.condition(&status), "Ready", "{status}");

    // It opens and closes on the second. The original minimums are restored, and there is a report.
    fixture.round("09:59:59").await;
    assert_eq!(fixture.phase("friday").await, Phase::Warming);
    fixture.round("10:00:00").await;
    assert_eq!(fixture.phase("friday").await, Phase::Open);
    fixture.round("10:59:59").await;
    assert_eq!(fixture.phase("friday").await, Phase::Open);
    fixture.round("11:00:00").await;
    assert_eq!((fixture.phase("friday").await, fixture.minimums().await), (Phase::Closed, (1, 1)));
    fixture.round("11:00:10").await;
    let status = fixture.status("friday").await;
    let report = &status["report"];
    assert_eq!(
        (&report["sold"], &report["left"], &report["mostWorkers"]),
        (&json!(0), &json!(50), &json!(3))
    );

    // Each transition has one event.
    fixture.round("11:00:20").await;
    let expected = ["Closed", "Open", "Scheduled", "Warming"];
    until("the events are there", async || fixture.events("friday").await.len() >= expected.len())
        .await;
    assert_eq!(fixture.events("friday").await, expected);
    // The operator leaves nothing on the autoscalers, not even the management of a field.
    for hpa in fixture.hpas().await {
        assert!(!hpa.to_string().contains("sales.holdfast.dev"), "{hpa}");
        let managers = hpa["metadata"]["managedFields"].as_array().unwrap();
        assert!(managers.iter().all(|entry| entry["manager"] != "holdfast-operator"), "{hpa}");
    }
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn sales_that_overlap_compose_and_each_restores_its_own_part() {
    let fixture = SaleFixture::new("sale-overlap").await;
    fixture.sale("a", &json!({"workers": {"minReplicas": 3}})).await;
    fixture
        .sale("b", &json!({"workers": {"minReplicas": 5}, "startsAt": "2036-11-27T10:30:00Z", "endsAt": "2036-11-27T12:00:00Z"}))
        .await;
    for (time, minimum) in
        [("09:00:00", 1), ("09:55:00", 3), ("10:25:00", 5), ("11:00:00", 5), ("12:00:00", 1)]
    {
        fixture.round(time).await;
        assert_eq!(fixture.minimums().await.1, minimum, "at {time}");
    }
    // If the clock steps backwards, the minimum is raised again; if it steps past the sales, it is restored.
    fixture.round("10:40:00").await;
    assert_eq!(fixture.minimums().await.1, 5);
    fixture.round("18:00:00").await;
    assert_eq!(fixture.minimums().await.1, 1);
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn foreign_changes_in_between_are_kept() {
    let mut fixture = SaleFixture::new("sale-hands").await;
    fixture.sale("a", &json!({"workers": {"minReplicas": 4}})).await;
    fixture.round("09:55:00").await;
    assert_eq!(fixture.minimums().await.1, 4);

    // A user lowers the minimum: the sale gets what it wants, and the user's value is restored.
    merge(&fixture.client, &fixture.hpa("worker"), &json!({"spec": {"minReplicas": 2}})).await;
    fixture.round("09:56:00").await;
    assert_eq!(fixture.minimums().await.1, 4);

    // `helm upgrade` of Helm 4 uses a server-side apply without force.
    let chart = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "holdfast-worker", "namespace": "sale-hands"},
        "spec": {"minReplicas": 1, "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "holdfast-worker"}},
    });
    fixture.apply_as("helm", &chart).await;
    fixture.round("09:57:00").await;
    assert_eq!(fixture.minimums().await.1, 4);
    fixture.apply_as("helm", &chart).await;
    fixture.round("09:58:00").await;
    assert_eq!(fixture.minimums().await.1, 4);

    // Another operator continues after any step: here, the minimum is raised and the field is not released yet.
    fixture.claim("worker").await;
    fixture.another_operator();
    fixture.round("10:10:00").await;
    assert_eq!(fixture.minimums().await.1, 4);
    fixture.apply_as("helm", &chart).await;
    fixture.round("10:11:00").await;
    assert_eq!(fixture.minimums().await.1, 4);
    // The sale is deleted while no operator runs. Afterwards its minimum and its entry in the database are removed.
    fixture.delete("a").await;
    fixture.another_operator();
    fixture.round("10:20:00").await;
    assert_eq!((fixture.minimums().await.1, fixture.in_database("a").await), (1, None));
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn an_edited_sale_is_updated_and_one_without_capacity_is_reported() {
    let fixture = SaleFixture::new("sale-stalled").await;
    fixture.sale("a", &json!({"workers": {"minReplicas": 3}})).await;
    fixture.round("09:56:00").await;
    assert_eq!(fixture.minimums().await.1, 3);
    // Edited during the warm-up: a later start and a higher minimum.
    let later =
        json!({"spec": {"startsAt": "2036-11-27T10:30:00Z", "workers": {"minReplicas": 6}}});
    fixture.edit("a", &later).await;
    fixture.round("09:57:00").await;
    assert_eq!((fixture.minimums().await.1, fixture.phase("a").await), (1, Phase::Scheduled));
    assert_eq!(fixture.in_database("a").await.unwrap().starts_at, at("10:30:00"));
    assert_eq!(fixture.status("a").await["observedGeneration"], 2);
    fixture.round("10:26:00").await;
    assert_eq!(fixture.minimums().await.1, 6);

    // It opens anyway, and its status has the reason.
    fixture.round("10:30:00").await;
    let status = fixture.status("a").await;
    assert_eq!(
        (&status["phase"], fixture.reason(&status)),
        (&json!("Open"), "PodsNotReady".to_owned())
    );
    // From then on, its window cannot be changed.
    let error = fixture.try_edit("a", &json!({"spec": {"startsAt": "2036-11-27T10:40:00Z"}})).await;
    assert!(error.unwrap_err().to_string().contains("once the sale is open"));
    fixture.pods_are_ready("worker", 6).await;
    fixture.round("10:31:00").await;
    assert_eq!(fixture.condition(&fixture.status("a").await), "Ready");

    // More than the maximum, no autoscaler, and products that do not exist.
    fixture.edit("a", &json!({"spec": {"workers": {"minReplicas": 50}}})).await;
    fixture.round("10:32:00").await;
    assert_eq!(fixture.reason(&fixture.status("a").await), "MaximumTooLow");
    assert_eq!(fixture.minimums().await.1, 9, "as much as there can be");
    objects::delete(&fixture.client, &fixture.hpa("worker")).await;
    fixture.round("10:33:00").await;
    assert_eq!(fixture.reason(&fixture.status("a").await), "NoAutoscaler");
    fixture.sale("b", &json!({"workers": {"minReplicas": 1}, "products": [1, 99_999]})).await;
    fixture.round("10:34:00").await;
    let status = fixture.status("b").await;
    assert_eq!(
        (&status["phase"], fixture.reason(&status)),
        (&json!("Stalled"), "UnknownProducts".to_owned())
    );
    assert!(status["conditions"].to_string().contains("99999"), "{status}");
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_sale_that_must_be_ready_is_held_back_until_it_is() {
    let fixture = SaleFixture::new("sale-held").await;
    fixture.sale("a", &json!({"workers": {"minReplicas": 2}, "openWhenNotReady": false})).await;
    fixture.round("09:55:00").await;
    fixture.round("10:00:00").await;
    let status = fixture.status("a").await;
    assert_eq!(
        (&status["phase"], fixture.reason(&status)),
        (&json!("Warming"), "PodsNotReady".to_owned())
    );
    assert!(fixture.in_database("a").await.unwrap().held_back);
    fixture.pods_are_ready("worker", 2).await;
    fixture.round("10:00:05").await;
    assert!(!fixture.in_database("a").await.unwrap().held_back);
    assert_eq!(fixture.phase("a").await, Phase::Open);
    // If a pod is lost, it stays open.
    fixture.lose_pods("worker").await;
    fixture.round("10:00:10").await;
    assert!(!fixture.in_database("a").await.unwrap().held_back);
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn two_operators_do_not_conflict_and_a_namespace_can_be_deleted() {
    let fixture = SaleFixture::new("sale-two").await;
    fixture.sale("a", &json!({"workers": {"minReplicas": 4}})).await;
    let second = fixture.controller();
    let first = fixture.controller();
    for time in ["09:55:00", "10:00:00", "10:30:00"] {
        // The slower one may only have conflicts.
        let rounds = vec![fixture.try_round(&first, time), fixture.try_round(&second, time)];
        for outcome in futures::future::join_all(rounds).await {
            if let Err(error) = outcome {
                assert!(error.contains("409"), "{error}");
            }
        }
        fixture.round(time).await;
        assert_eq!(fixture.minimums().await.1, 4, "at {time}");
    }
    assert_eq!(fixture.recorded("worker").await, json!({"found": 1, "set": 4}));
    // The state after an uninstall: no operator, and the resource exists.
    objects::delete(&fixture.client, &objects::namespace("sale-two")).await;
    // Deleted, or empty and without finalizers: in these tests, the API server can take a minute to notice that the
    // port of the metrics has moved, and it waits for that in the last step.
    let none_remain = |namespace: &Value| {
        let conditions = namespace["status"]["conditions"].as_array().cloned().unwrap_or_default();
        ["NamespaceContentRemaining", "NamespaceFinalizersRemaining"]
            .iter()
            .all(|kind| conditions.iter().any(|it| it["type"] == *kind && it["status"] == "False"))
    };
    until("nothing blocks the namespace", async || {
        let found = objects::get(&fixture.client, &objects::namespace("sale-two")).await;
        found.is_none_or(|namespace| none_remain(&namespace))
    })
    .await;
    // When an operator runs again, no sale remains in the database.
    fixture.round("10:31:00").await;
    assert_eq!(fixture.in_database("a").await, None);
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn without_a_database_a_sale_names_the_missing_setting() {
    let fixture = SaleFixture::without_database("sale-nowhere").await;
    fixture.sale("a", &json!({"workers": {"minReplicas": 1}})).await;
    fixture.round("09:00:00").await;
    let status: Value = fixture.status("a").await;
    assert_eq!(
        (&status["phase"], fixture.reason(&status)),
        (&json!("Stalled"), "NoDatabase".to_owned())
    );
    assert!(status["conditions"].to_string().contains("DATABASE_URL"), "{status}");
}
