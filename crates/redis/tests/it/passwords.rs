//! Passwords of Sentinels and of servers.

use holdfast_sandbox::{RedisSentinels, until};

use crate::{connected, set, shared};

#[tokio::test]
async fn sentinels_and_servers_have_different_passwords() {
    let lines = "requirepass of-sentinels\nsentinel sentinel-pass of-sentinels\n\
        sentinel auth-pass orders of-servers\n";
    let group = RedisSentinels::start(&[], lines).await.unwrap();
    for server in group.servers() {
        let set = "CONFIG SET masterauth of-servers requirepass of-servers";
        assert_eq!(server.command(set).await.unwrap().trim_end(), "+OK");
    }
    group.until_complete("AUTH of-sentinels").await;
    let url = |server: &str, sentinel: &str| {
        let url = group.url().replace("//", &format!("//:{server}@"));
        format!("{url}?sentinel_password={sentinel}")
    };
    let connection = connected(&url("of-servers", "of-sentinels")).await;
    for (wrong, what) in [
        (url("of-servers", "wrong"), "WRONGPASS"),
        (url("wrong", "of-sentinels"), "WRONGPASS"),
        (group.url(), "sentinel_password"),
        (group.url() + "?sentinel_password=of-sentinels", "NOAUTH"),
    ] {
        let error = set(&shared(&wrong), "no").await.unwrap_err();
        assert!(error.contains(what) || error.contains("uthentication"), "{what}: {error}");
        assert!(!error.contains("of-servers") && !error.contains("of-sentinels"), "{error}");
    }
    group.servers()[0].kill9().await.unwrap();
    until("the new primary takes a write", async || set(&connection, "second").await).await;
}
