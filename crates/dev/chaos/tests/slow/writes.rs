//! Writes on every route: answered writes exist, and the audit finds each kind of loss.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_bench::audit::{Expectation, Log, Write, audit};
use holdfast_chaos::clients::{ClientsRecord, Crowd};
use holdfast_chaos::environment::{Environment, EnvironmentOptions};
use holdfast_sandbox::{PATIENCE, Process, until, workspace_binary};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::lost::{self, Lost};

/// The number of writes on each route.
const SOME: usize = 10;

fn document(arguments: &[&str]) -> Value {
    let mut command = std::process::Command::new(workspace_binary("holdfast-api").unwrap());
    let output = command.arg("openapi").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_route_that_writes_has_a_client() {
    let mut routes = BTreeSet::new();
    for document in [document(&[]), document(&["--admin"])] {
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                if ["post", "put", "patch", "delete"].contains(&method.as_str()) {
                    routes.insert(format!("{} {path}", method.to_uppercase()));
                }
            }
        }
    }
    // It changes only the process.
    assert!(routes.remove("PUT /log-level"));
    let written: BTreeSet<_> = Write::ROUTES.map(ToOwned::to_owned).into();
    assert_eq!(written, routes);
}

/// An environment in which each route was used several times.
async fn written() -> (Environment, ClientsRecord) {
    let environment = Environment::start(&EnvironmentOptions::default()).await.unwrap();
    let crowd = Crowd { buyers: 2, writers: 8, hang_ups: 0.3, seed: rand::random() };
    eprintln!("{crowd:?}");
    let clients = environment.crowd(&crowd);
    let answered = |route: &str| {
        clients.look(|seen| seen.log.answered.iter().filter(|it| it.route() == route).count())
    };
    until("every route is answered", async || {
        // An order can be cancelled until a worker claims it, so the workers are paused now and then.
        for pause in [true, false] {
            for worker in &environment.workers {
                let act = async |it: &Process| if pause { it.pause() } else { it.resume() };
                worker.with(act).await.unwrap();
            }
            // Time for some orders to be cancelled, and then for some to be fulfilled.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let missing = Write::ROUTES.iter().find(|route| answered(route) < SOME);
        missing.map_or(Ok(()), |route| {
            Err(format!("{route}: {:#?}", clients.look(|seen| seen.answers.clone())))
        })
    })
    .await;
    let seen = clients.stop().await;
    (environment, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answered_writes_of_every_route_exist_and_each_kind_of_loss_is_named() {
    let (environment, seen) = written().await;
    let findings = environment.audit(&seen, PATIENCE).await.unwrap();
    assert!(findings.hold(), "{findings}\n{:#?}", seen.answers);
    assert!(Write::ROUTES.iter().all(|route| findings.answered[*route] >= 10), "{findings:?}");

    // A database can be copied only while it has no other sessions.
    for member in environment.apis.iter().chain(&environment.workers) {
        member.kill9().await.unwrap();
    }
    let mut unfound = Vec::new();
    for (number, lost) in lost::each(&seen.log).into_iter().enumerate() {
        let name = format!("tampered_{number}");
        let violations = tampered(&environment, &name, &lost).await;
        if !violations.iter().any(|violation| violation.contains(&lost.expected)) {
            unfound.push(format!("{}: no {:?} in {violations:#?}", lost.what, lost.expected));
        }
    }
    assert!(unfound.is_empty(), "{unfound:#?}");
}

/// The result of the audit of a copy of the database with a loss.
async fn tampered(environment: &Environment, name: &str, lost: &Lost) -> Vec<String> {
    let (server, original) = environment.database_url.rsplit_once('/').unwrap();
    let mut connection = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
    let copy = format!("CREATE DATABASE {name} TEMPLATE {original}");
    connection.execute(AssertSqlSafe(copy)).await.unwrap();
    let url = format!("{server}/{name}");
    let mut copied = PgConnection::connect(&url).await.unwrap();
    // It would increase the version again.
    copied.execute("ALTER TABLE products DISABLE TRIGGER USER").await.unwrap();
    let done = copied.execute(AssertSqlSafe(lost.sql.clone())).await;
    let done = done.unwrap_or_else(|error| panic!("{}: {error}", lost.what));
    assert!(done.rows_affected() > 0, "{}: {}", lost.what, lost.sql);
    copied.close().await.unwrap();
    let log: &Log = &lost.log;
    audit(&url, Some(log), Expectation::default()).await.unwrap().violations
}
