//! The chart's network policies allow the connections of the pods. For each address in the settings of a container, the
//! policies of the client and of the server are evaluated as Kubernetes does.
//!
//! With Helm (`scripts/chart-tools`), each combination of values is rendered; without it, `k8s/base` is read.

mod evaluate;
mod rendered;
mod table;

use std::collections::BTreeSet;

use evaluate::{Policies, PolicyPeer};
use rendered::{Objects, Pod, renderings};

/// The destination of a connection.
#[derive(Debug)]
enum ConnectionTarget {
    /// A Service of the release.
    Inside { service: String, port: u16 },
    /// Any other host.
    Outside(u16),
}

/// The destinations of a pod, from its settings.
fn targets(objects: &Objects, pod: &Pod) -> Vec<(String, ConnectionTarget)> {
    let mut targets = Vec::new();
    for (name, value) in pod.environment(objects) {
        let default = match name.as_str() {
            "DATABASE_URL" => 5432,
            "REDIS_URL" => 6379,
            "HOLDFAST_OIDC_ISSUER"
            | "HOLDFAST_WEBHOOK_URL"
            | "RCLONE_CONFIG_STORE_ENDPOINT"
            | "OTEL_EXPORTER_OTLP_ENDPOINT"
            | "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => {
                if value.as_deref().is_some_and(|url| url.starts_with("https:")) { 443 } else { 80 }
            }
            _ => continue,
        };
        // The URL is in a Secret that does not belong to the chart, so it is unknown here.
        let url = value.unwrap_or_else(|| format!("x://elsewhere.example.com:{default}"));
        targets.push((name, target(&url, default)));
    }
    for argument in pod.arguments() {
        if let Some(address) = argument.strip_prefix("--metrics-addr=") {
            targets.push(("healthcheck".to_owned(), target(&format!("http://{address}"), 80)));
        }
    }
    if pod.has_token() {
        targets.push(("the Kubernetes API".to_owned(), ConnectionTarget::Outside(6443)));
    }
    targets
}

fn target(url: &str, default: u16) -> ConnectionTarget {
    let (_, rest) = url.split_once("://").unwrap_or_else(|| panic!("no URL: {url}"));
    let authority = rest.split(['/', '?']).next().unwrap();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap()),
        None => (authority, default),
    };
    // <service>.<namespace>.svc
    match host.split('.').collect::<Vec<_>>()[..] {
        [service, "orders" | "holdfast", "svc"] => {
            ConnectionTarget::Inside { service: service.to_owned(), port }
        }
        _ => ConnectionTarget::Outside(port),
    }
}

#[test]
fn each_pod_can_reach_the_servers_in_its_settings() {
    let mut seen = BTreeSet::new();
    for (way, objects) in renderings() {
        let policies = Policies::of(objects);
        for pod in objects.pods() {
            for (what, target) in targets(objects, &pod) {
                let who = format!("{way}: {} → {what} ({target:?})", pod.name);
                match target {
                    ConnectionTarget::Outside(port) => {
                        let sent = policies.sends(&pod, PolicyPeer::Elsewhere, port, "TCP");
                        assert!(sent, "{who}: the policies of the client forbid it");
                    }
                    ConnectionTarget::Inside { service, port } => {
                        let (server, port) = objects
                            .behind(&service, port)
                            .unwrap_or_else(|| panic!("{who}: there is no such Service"));
                        let sent = policies.sends(&pod, PolicyPeer::Pod(&server), port, "TCP");
                        assert!(sent, "{who}: the policies of the client forbid it");
                        let taken = policies.takes(&server, PolicyPeer::Pod(&pod), port, "TCP");
                        assert!(taken, "{who}: the policies of the server forbid it");
                    }
                }
                // Host names are resolved by DNS.
                for protocol in ["UDP", "TCP"] {
                    let sent = policies.sends(&pod, PolicyPeer::Elsewhere, 53, protocol);
                    assert!(sent, "{who}: DNS is forbidden");
                }
                seen.insert(format!("{} {what}", pod.component));
            }
        }
    }
    for known in [
        "api DATABASE_URL",
        "api REDIS_URL",
        "worker DATABASE_URL",
        "worker REDIS_URL",
        "operator DATABASE_URL",
        "operator REDIS_URL",
        "operator the Kubernetes API",
        "migrations DATABASE_URL",
    ] {
        assert!(seen.contains(known), "{known} was not checked: {seen:?}");
    }
}

#[test]
fn each_pod_has_policies_in_both_directions() {
    for (way, objects) in renderings() {
        let policies = Policies::of(objects);
        for pod in objects.pods() {
            assert!(policies.bind(&pod, "Ingress"), "{way}: any host can reach {}", pod.name);
            assert!(policies.bind(&pod, "Egress"), "{way}: {} can reach any host", pod.name);
        }
    }
}

#[test]
fn the_servers_of_a_trial_cannot_be_reached_by_other_pods() {
    for (way, objects) in renderings() {
        let policies = Policies::of(objects);
        let pods = objects.pods();
        let mut stranger = pods[0].clone();
        stranger.labels.insert("app.kubernetes.io/component".to_owned(), "stranger".to_owned());
        let of_test = pods.iter().filter(|pod| pod.component == "test");
        for server in pods.iter().filter(|pod| ["postgresql", "redis"].contains(&&*pod.component)) {
            for (_, port) in server.ports() {
                for client in of_test.clone().chain([&stranger]) {
                    let taken = policies.takes(server, PolicyPeer::Pod(client), port, "TCP");
                    assert!(!taken, "{way}: {} is open to {}", server.name, client.name);
                }
            }
        }
    }
}
