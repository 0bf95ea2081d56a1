//! Network policies as Kubernetes evaluates them: a pod that no policy selects is open; a pod that policies select may
//! do what any of them allows.

use serde_json::Value;

use super::rendered::{Objects, Pod};

/// The other end of a connection.
#[derive(Clone, Copy)]
pub enum PolicyPeer<'a> {
    /// A pod of the release.
    Pod(&'a Pod),
    /// A host that no selector matches.
    Elsewhere,
}

pub struct Policies(Vec<Value>);

impl Policies {
    pub fn of(objects: &Objects) -> Self {
        Self(objects.of_kind("NetworkPolicy").cloned().collect())
    }

    fn of_pod<'a>(&'a self, pod: &'a Pod, direction: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |policy| {
            let types = policy["spec"]["policyTypes"].as_array().unwrap();
            selects(&policy["spec"]["podSelector"], pod) && types.iter().any(|it| it == direction)
        })
    }

    /// Whether a policy applies to the pod in a direction.
    pub fn bind(&self, pod: &Pod, direction: &str) -> bool {
        self.of_pod(pod, direction).next().is_some()
    }

    /// Whether the policies of `client` let it connect to a port of `server`.
    pub fn sends(&self, client: &Pod, server: PolicyPeer<'_>, port: u16, protocol: &str) -> bool {
        let of_server = match server {
            PolicyPeer::Pod(pod) => pod.ports(),
            PolicyPeer::Elsewhere => Vec::new(),
        };
        self.allow(client, "Egress", "egress", "to", server, &of_server, (port, protocol))
    }

    /// Whether the policies of `server` let `client` connect to its port.
    pub fn takes(&self, server: &Pod, client: PolicyPeer<'_>, port: u16, protocol: &str) -> bool {
        let ports = server.ports();
        self.allow(server, "Ingress", "ingress", "from", client, &ports, (port, protocol))
    }

    #[allow(clippy::too_many_arguments)] // one function for both directions
    fn allow(
        &self,
        pod: &Pod,
        direction: &str,
        rules: &str,
        peers: &str,
        other: PolicyPeer<'_>,
        named_ports: &[(String, u16)],
        port: (u16, &str),
    ) -> bool {
        if !self.bind(pod, direction) {
            return true;
        }
        self.of_pod(pod, direction).any(|policy| {
            let rules = policy["spec"][rules].as_array();
            rules.into_iter().flatten().any(|rule| {
                has_port(&rule["ports"], named_ports, port) && has_peer(&rule[peers], other)
            })
        })
    }
}

fn has_port(ports: &Value, named: &[(String, u16)], (port, protocol): (u16, &str)) -> bool {
    let Some(ports) = ports.as_array() else { return true };
    ports.iter().any(|allowed| {
        let same = match &allowed["port"] {
            Value::Number(number) => number.as_u64() == Some(port.into()),
            Value::String(name) => named.iter().any(|it| it == &(name.clone(), port)),
            _ => true,
        };
        same && allowed["protocol"].as_str().unwrap_or("TCP") == protocol
    })
}

/// All peers of a rule are in the namespace of the release, unless the rule says otherwise.
fn has_peer(peers: &Value, other: PolicyPeer<'_>) -> bool {
    let Some(peers) = peers.as_array() else { return true };
    let PolicyPeer::Pod(other) = other else { return false };
    peers.iter().any(|peer| {
        let namespace = match peer.get("namespaceSelector") {
            None => true,
            // Of the labels of its namespace, those that Kubernetes sets are known.
            Some(selector) => labels(&selector["matchLabels"]).all(|(name, value)| {
                name == "kubernetes.io/metadata.name" && value == other.namespace
            }),
        };
        let pod = peer.get("podSelector").is_none_or(|selector| selects(selector, other));
        namespace && pod && peer.get("ipBlock").is_none()
    })
}

fn selects(selector: &Value, pod: &Pod) -> bool {
    assert!(selector.get("matchExpressions").is_none(), "not evaluated here: {selector}");
    labels(&selector["matchLabels"]).all(|(name, value)| pod.labels.get(name) == Some(&value))
}

fn labels(map: &Value) -> impl Iterator<Item = (&String, String)> {
    let map = map.as_object().into_iter().flatten();
    map.map(|(name, value)| (name, value.as_str().unwrap().to_owned()))
}
