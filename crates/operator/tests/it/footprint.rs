//! The memory for serving twenty queues. The time is printed and not checked; `docs/operator.md` has the figures of an
//! optimised build.

use std::time::Instant;

use holdfast_sandbox::Redis;
use serde_json::json;

use crate::{
    answers::{publish, queue},
    cluster::{API, Cluster, OperatorReplica, SECRET, install, redis},
    objects,
    wire::{Asker, decode},
};

const QUEUES: usize = 20;
const MEMORY_LIMIT_KIB: u64 = 32 * 1024;

/// A line of `/proc/<pid>/status`.
fn memory_kib(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn twenty_queues_need_less_than_32_mib() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let kubeconfig = install(&cluster.kubernetes, &client, "footprint").await;
    // Twenty queues on a few servers, because only the memory of the operator is measured.
    let servers: Vec<Redis> = vec![redis().await, redis().await];
    for server in &servers {
        let queue = queue(&server.url());
        crate::answers::ready(&queue).await;
        publish(&queue, 5000).await;
    }
    let queues: Vec<_> = (0..QUEUES)
        .map(|index| {
            json!({
                "namespace": "footprint",
                "release": format!("shop-{index}"),
                "redisUrl": servers[index % servers.len()].url(),
            })
        })
        .collect();
    let file = cluster.kubernetes.folder().join("footprint.yaml");
    std::fs::write(&file, json!({ "queues": queues }).to_string()).unwrap();
    let settings = [("HOLDFAST_QUEUES_FILE", file.to_str().unwrap())];
    let replica = OperatorReplica::start(&kubeconfig, "footprint", &settings).await;
    let secret = objects::get(&client, &objects::secret("footprint", SECRET)).await.unwrap();
    let ca = decode(secret["data"]["ca.crt"].as_str().unwrap());
    let proxy = cluster.kubernetes.front_proxy().unwrap();
    let root = [("x-remote-user", "root"), ("x-remote-group", "system:masters")];
    let host = "holdfast-operator.footprint.svc";
    let asker = Asker::of(&ca, host, replica.tls, Some(proxy), &root);
    let path = format!("{API}/namespaces/footprint/holdfast_queue_depth");
    let mut times = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        let (status, list) = asker.get(&path).await;
        times.push(begun.elapsed());
        assert_eq!(status, 200, "{list}");
        assert_eq!(list["items"].as_array().unwrap().len(), QUEUES);
    }
    times.sort();
    let (median, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let (now, most) =
        (memory_kib(replica.process.pid(), "VmRSS:"), memory_kib(replica.process.pid(), "VmHWM:"));
    println!(
        "{QUEUES} queues: median {median:?}, 99 of 100 within {late:?}; resident {now} KiB, at most {most} KiB"
    );
    // Without the pages of the program itself, which are larger in an unoptimised build.
    let own = memory_kib(replica.process.pid(), "RssAnon:");
    assert!(own < MEMORY_LIMIT_KIB, "{own} KiB");
}
