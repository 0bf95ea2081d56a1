//! The command `doctor`.

use std::collections::BTreeMap;

use holdfast_sandbox::{Port, shared_postgres};
use serde_json::Value;

use super::{DONE, FAILED, Said, UNREACHABLE, USAGE, on, run};
use crate::server::Server;

/// The state of each check, by name.
fn checks(said: &Said) -> BTreeMap<String, String> {
    let text = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    let checks = said.json();
    for check in checks.as_array().unwrap() {
        assert_eq!(check["state"] == "ok", check["todo"].is_null(), "{check}");
    }
    checks.as_array().unwrap().iter().map(|it| (text(it, "check"), text(it, "state"))).collect()
}

#[tokio::test]
async fn the_doctor_finds_no_problem_on_healthy_servers() {
    let server = Server::start().await;
    let said = on(&server, &["doctor", "-o", "json"]);
    assert_eq!(said.code, DONE, "{}{}", said.out, said.error);
    let found = checks(&said);
    for check in [
        "settings",
        "database",
        "database version",
        "database writes",
        "schema",
        "permissions",
        "clock",
        "redis",
        "redis version",
        "open files",
    ] {
        assert_eq!(found[check], "ok", "{}", said.out);
    }
    let table = on(&server, &["doctor"]).out;
    assert!(table.starts_with("CHECK ") && table.contains("schema "), "{table}");
}

#[tokio::test]
async fn the_doctor_names_what_is_wrong() {
    let server = Server::start().await;
    let redis = server.redis.url();
    let free = Port::lease().unwrap();
    let away = format!("postgres://me:hunter2@{}/shop", free.address());
    let redis_away = format!("redis://:hunter2@{}", free.address());
    let empty = shared_postgres().await.unwrap().create_database().await.unwrap();
    let url = server.database_url.clone();
    let read_only = format!("{url}?options=-c%20default_transaction_read_only%3Don");
    for (database, redis, check, code) in [
        (&away, &redis, "database", UNREACHABLE),
        (&url, &redis_away, "redis", UNREACHABLE),
        (&empty, &redis, "schema", FAILED),
        (&read_only, &redis, "database writes", FAILED),
    ] {
        let environment = [("DATABASE_URL", database.as_str()), ("REDIS_URL", redis.as_str())];
        let said = run(&environment, &["doctor", "-o", "json"]);
        assert_eq!(said.code, code, "{check}: {}{}", said.out, said.error);
        assert_eq!(checks(&said)[check], "problem", "{}", said.out);
        assert!(!said.out.contains("hunter2"), "{}", said.out);
    }
    let together = ["doctor", "--lock-timeout-ms=50", "--statement-timeout-ms=50"];
    assert_eq!(on(&server, &together).code, USAGE);
}
