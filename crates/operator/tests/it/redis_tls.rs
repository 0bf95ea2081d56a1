//! A queue whose Redis uses TLS, and one without TLS.

use std::{str::FromStr as _, time::Duration};

use holdfast_operator::queues::{QueueListSettings, Queues, RedisAccess};
use holdfast_queue::{Job, Queue};
use holdfast_redis::RedisCa;
use holdfast_sandbox::{Port, Redis, RedisOptions};

/// A server with three orders in its queue, which also accepts TLS on the port.
async fn redis(folder: &std::path::Path) -> (Redis, Port) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, content: String| {
        std::fs::write(folder.join(name), content).unwrap();
        folder.join(name).to_str().unwrap().to_owned()
    };
    let certificate = file("tls.crt", certified.cert.pem());
    let key = file("tls.key", certified.signing_key.serialize_pem());
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    file("other.crt", other.cert.pem());

    let port = Port::lease().unwrap();
    let args = ["--tls-port", &port.number().to_string(), "--tls-auth-clients", "no"]
        .into_iter()
        .chain(["--tls-cert-file", &certificate, "--tls-key-file", &key])
        .map(str::to_owned)
        .collect();
    let redis = Redis::start(RedisOptions { args, ..RedisOptions::default() }).await.unwrap();
    let queue = Queue::connect(holdfast_queue::QueueSettings::new(redis.url())).unwrap();
    crate::answers::ready(&queue).await;
    let jobs: Vec<_> = (1..=3).map(|order_id| Job { order_id, trace_context: None }).collect();
    queue.publish_many(&jobs).await.unwrap();
    (redis, port)
}

#[tokio::test]
async fn a_queue_behind_tls_is_counted_only_with_the_right_ca() {
    let folder = tempfile::tempdir().unwrap();
    let (redis, port) = redis(folder.path()).await;
    let list = folder.path().join("queues.yaml");
    let text = format!(
        "queues:\n  - {{namespace: a, redisUrl: 'rediss://localhost:{}'}}\n  - {{namespace: b, redisUrl: '{}'}}\n",
        port.number(),
        redis.url()
    );
    std::fs::write(&list, text).unwrap();
    for (authority, known) in [("tls.crt", true), ("other.crt", false)] {
        let ca = RedisCa::from_str(folder.path().join(authority).to_str().unwrap()).unwrap();
        let reach = RedisAccess { timeout: Duration::from_secs(5), redis_ca: Some(ca) };
        let queues =
            Queues::load(QueueListSettings::File(list.clone()), reach, None).await.unwrap();
        let all = queues.all();
        assert_eq!(all[0].depth().await.ok(), known.then_some(3), "{authority}");
        assert_eq!(all[1].depth().await.unwrap(), 3, "in the clear, {authority}");
    }
}
