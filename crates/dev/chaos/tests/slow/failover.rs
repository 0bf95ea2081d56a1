//! Failovers of a real Patroni. `make test-ha` does more of them.

use holdfast_chaos::failover::{self, FailoverCluster, FailoverFault, KeyedLoad};
use holdfast_sandbox::{PatroniMode, Program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Patroni: make test-ha-quick"]
async fn no_answered_order_is_lost_when_patroni_replaces_a_killed_primary_or_switches_over() {
    let cluster = FailoverCluster::start(PatroniMode::Synchronous).await.unwrap();
    let targets: Vec<_> = cluster.apis.iter().map(Program::address).collect();
    let load = KeyedLoad::start(&targets);
    for fault in [FailoverFault::Killed, FailoverFault::Switchover] {
        let trial = failover::run(&cluster, &load, fault).await.unwrap();
        eprintln!("{trial:?}");
        assert!(trial.holds(cluster.mode), "{trial:?}");
    }
    let seen = load.stop().await;
    let findings = cluster.audit(&seen, &[], 0).await.unwrap();
    assert!(findings.hold(), "{findings}");
}
