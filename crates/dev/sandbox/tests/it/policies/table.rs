//! The table of allowed connections in `docs/security.md`, generated from the policies in `k8s/base`.

use std::{collections::BTreeSet, env, fmt::Write as _, fs};

use super::{
    evaluate::{Policies, PolicyPeer},
    rendered::{Objects, Pod, renderings, root},
};

const BEGINS: &str = "<!-- from the rendered network policies -->\n";
const ENDS: &str = "<!-- end -->\n";

/// Which clients may connect to a port of a pod.
fn clients(policies: &Policies, pods: &[Pod], server: &Pod, port: u16) -> String {
    if policies.takes(server, PolicyPeer::Elsewhere, port, "TCP") {
        return "everybody".to_owned();
    }
    let mut stranger = server.clone();
    stranger.labels.clear();
    "elsewhere".clone_into(&mut stranger.namespace);
    if policies.takes(server, PolicyPeer::Pod(&stranger), port, "TCP") {
        return "every pod of the cluster".to_owned();
    }
    let clients: BTreeSet<_> = pods
        .iter()
        .filter(|client| policies.takes(server, PolicyPeer::Pod(client), port, "TCP"))
        .map(|client| client.component.as_str())
        .collect();
    clients.into_iter().collect::<Vec<_>>().join(", ")
}

/// Where a pod may connect to.
fn servers(objects: &Objects, policies: &Policies, pods: &[Pod], client: &Pod) -> String {
    let mut servers = Vec::new();
    for server in pods {
        for (_, port) in server.ports() {
            let everywhere = policies.sends(client, PolicyPeer::Elsewhere, port, "TCP");
            if !everywhere && policies.sends(client, PolicyPeer::Pod(server), port, "TCP") {
                servers.push(format!("{}: {port}", server.component));
            }
        }
    }
    let mut anywhere = BTreeSet::new();
    for policy in objects.of_kind("NetworkPolicy") {
        for rule in policy["spec"]["egress"].as_array().into_iter().flatten() {
            for port in rule["ports"].as_array().into_iter().flatten() {
                let Some(number) = port["port"].as_u64().and_then(|it| u16::try_from(it).ok())
                else {
                    continue;
                };
                let protocol = port["protocol"].as_str().unwrap_or("TCP");
                if policies.sends(client, PolicyPeer::Elsewhere, number, protocol) {
                    anywhere.insert((number, protocol));
                }
            }
        }
    }
    let anywhere: Vec<_> =
        anywhere.into_iter().map(|(port, protocol)| format!("{port} {protocol}")).collect();
    if !anywhere.is_empty() {
        servers.push(format!("any address: {}", anywhere.join(", ")));
    }
    servers.join("; ")
}

fn table() -> String {
    let (_, objects) = &renderings()[0];
    let (policies, pods) = (Policies::of(objects), objects.pods());
    let mut table = "| pods | accept connections | may connect to |\n|---|---|---|\n".to_owned();
    for pod in &pods {
        let accepted: Vec<_> = pod
            .ports()
            .into_iter()
            .map(|(_, port)| format!("{port} from {}", clients(&policies, &pods, pod, port)))
            .collect();
        let accepted = if accepted.is_empty() { "none".to_owned() } else { accepted.join("; ") };
        let servers = servers(objects, &policies, &pods, pod);
        let servers = if servers.is_empty() { "nothing".to_owned() } else { servers };
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| {} | {accepted} | {servers} |", pod.component);
    }
    table
}

#[test]
fn the_table_of_the_security_page_matches_the_policies() {
    let path = root().join("docs/security.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(BEGINS).unwrap();
    let (_, tail) = rest.split_once(ENDS).unwrap();
    let fresh = format!("{head}{BEGINS}{}{ENDS}{tail}", table());
    if env::var_os("WRITE_DOCS").is_some() {
        return fs::write(&path, fresh).unwrap();
    }
    assert!(
        page == fresh,
        "docs/security.md is out of date; type: WRITE_DOCS=1 cargo test -p holdfast-sandbox --test it policies"
    );
}
