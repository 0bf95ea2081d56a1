use super::*;

const PASSWORD: &str = "hunter2";

#[test]
fn urls_of_each_kind_are_read() {
    for (good, place) in [
        ("redis://h", "Redis at h:6379, database 0"),
        ("redis://:hunter2@h:6380/1", "Redis at h:6380, database 1"),
        ("rediss://user:hunter2@h", "Redis at h:6379, database 0"),
        (
            "redis+sentinel://a,b:1,[::1]:2/orders",
            "Redis service orders of the Sentinels a:26379, b:1, [::1]:2, database 0",
        ),
        (
            "rediss+sentinel://user:hunter2@a/orders/3?sentinel_password=hunter2",
            "Redis service orders of the Sentinels a:26379, database 3",
        ),
        (
            "redis+sentinel://:a%2Fb%40c%23@10.0.0.1:5/my-master/",
            "Redis service my-master of the Sentinels 10.0.0.1:5, database 0",
        ),
        ("redis+cluster://:hunter2@a,b,c:7000", "Redis Cluster at a:6379, b:6379, c:7000"),
        ("rediss+cluster://a/0", "Redis Cluster at a:6379"),
    ] {
        let url: RedisUrl = good.parse().unwrap_or_else(|why| panic!("{good}: {why}"));
        assert_eq!(url.place(), place, "{good}");
        assert_eq!(url.tls(), good.starts_with("rediss"), "{good}");
        assert!(!format!("{url:?} {}", url.place()).contains(PASSWORD), "{good}");
    }
}

#[test]
fn an_invalid_url_is_refused_without_showing_it() {
    let many = format!("redis+sentinel://{}/s", vec!["a"; 40].join(","));
    let long = format!("redis://:hunter2@{}", "a".repeat(5000));
    let deep = format!("redis+cluster://{}hunter2", "@".repeat(1000));
    for bad in [
        "",
        "h:6379",
        "http://:hunter2@h",
        "redis://",
        "redis://:hunter2@h/x",
        "redis://:hunter2@h/-1",
        "redis://:hunter2@h1,h2",
        "redis://:hunter2@h1:1,h2:2",
        "redis://:hunter2@0.0.0.0",
        "redis://:hunter2@h?protocol=hunter2",
        "REDIS+SENTINEL://:hunter2@h/s",
        "redis-sentinel://:hunter2@h/s",
        "redis+sentinel+tls://:hunter2@h/s",
        "redis+sentinel:",
        "redis+sentinel://",
        "redis+sentinel:///orders",
        "redis+sentinel://:hunter2@h",
        "redis+sentinel://:hunter2@h/",
        "redis+sentinel://:hunter2@h//0",
        "redis+sentinel://:hunter2@h/orders/x",
        "redis+sentinel://:hunter2@h/orders/1/2",
        "redis+sentinel://:hunter2@h/orders/99999999999",
        "redis+sentinel://:hunter2@h/or ders",
        "redis+sentinel://:hunter2@h/or%0Aders",
        "redis+sentinel://hunter2@h/orders",
        "redis+sentinel://:hunter2%@h/orders",
        "redis+sentinel://:hunter2%zz@h/orders",
        "redis+sentinel://:hunter2%ff@h/orders",
        "redis+sentinel://:hunter2/x@h/orders",
        "redis+sentinel://:hunter2#@h/orders",
        "redis+sentinel://:hunter2@h,/orders",
        "redis+sentinel://:hunter2@,h/orders",
        "redis+sentinel://:hunter2@h,h:26379/orders",
        "redis+sentinel://:hunter2@h:0/orders",
        "redis+sentinel://:hunter2@h:65536/orders",
        "redis+sentinel://:hunter2@h:/orders",
        "redis+sentinel://:hunter2@h:x/orders",
        "redis+sentinel://:hunter2@h h/orders",
        "redis+sentinel://:hunter2@::1/orders",
        "redis+sentinel://:hunter2@[::1/orders",
        "redis+sentinel://:hunter2@[::]:1/orders",
        "redis+sentinel://:hunter2@0.0.0.0/orders",
        "redis+sentinel://:hunter2@h;h2/orders",
        "redis+sentinel://:hunter2@h%0a/orders",
        "redis+sentinel://:hunter2@h\r\n/orders",
        "redis+sentinel://h/orders?password=hunter2",
        "redis+sentinel://h/orders?sentinel_user=hunter2",
        "redis+sentinel://h/orders#hunter2",
        "redis+cluster://",
        "redis+cluster://:hunter2@h/1",
        "redis+cluster://:hunter2@h/orders",
        "redis+cluster://:hunter2@h?a=hunter2",
        many.as_str(),
        long.as_str(),
        deep.as_str(),
    ] {
        let refusal = bad.parse::<RedisUrl>().err().map(|why| why.to_string());
        let refusal = refusal.unwrap_or_else(|| panic!("{bad} is taken"));
        assert!(refusal.starts_with("must "), "{bad}: {refusal}");
        assert!(!refusal.contains(PASSWORD), "{bad}: {refusal}");
    }
}

#[test]
fn passwords_of_sentinels_and_of_servers_differ() {
    let url =
        "redis+sentinel://app:of%40servers@h/orders?sentinel_user=w&sentinel_password=of%26them";
    let url: RedisUrl = url.parse().unwrap();
    let RedisTarget::Sentinels { sentinel, server, .. } = &*url.target else {
        panic!("another kind")
    };
    assert_eq!((server.username(), server.password()), (Some("app"), Some("of@servers")));
    assert_eq!((sentinel.username(), sentinel.password()), (Some("w"), Some("of&them")));
}
