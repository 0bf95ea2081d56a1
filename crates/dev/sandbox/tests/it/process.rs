//! `Process`, with `holdfast-sandbox` as the program that it starts.

use std::time::Duration;

use holdfast_sandbox::{Port, Process, ProcessOptions, Ready};

use crate::command::Base;

const LIMIT: Duration = holdfast_sandbox::PATIENCE;

fn servers(base: &Base) -> ProcessOptions {
    ProcessOptions::new(env!("CARGO_BIN_EXE_holdfast-sandbox"))
        .arg("servers")
        .env("HOLDFAST_SANDBOX_DIR", base.path().to_str().unwrap())
}

/// Starts it, and waits until both its servers are up.
async fn started(base: &Base) -> Process {
    let process = Process::start(servers(base)).await.unwrap();
    process.logs(&["REDIS_URL="]).await;
    process
}

#[tokio::test]
async fn a_process_stops_gracefully_when_asked_and_at_once_when_killed() {
    let base = Base::new();
    let process = started(&base).await;
    let status = process.stop(LIMIT).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(base.processes().is_empty());
    assert!(base.runs().is_empty(), "an orderly shutdown removes its folders");

    let process = started(&base).await;
    let status = process.kill9().await.unwrap();
    assert!(!status.success());
    assert_eq!(process.status(), Some(status));
    base.until_no_process_is_left().await;
}

#[tokio::test]
async fn a_paused_process_does_nothing_until_resumed() {
    let base = Base::new();
    let process = started(&base).await;
    process.pause().unwrap();
    process.terminate().unwrap();
    assert_eq!(process.wait(Duration::from_millis(200)).await, None);
    process.resume().unwrap();
    assert!(process.wait(LIMIT).await.unwrap().success());
}

#[tokio::test]
async fn a_process_that_does_not_become_ready_fails_with_its_log() {
    let base = Base::new();
    let port = Port::lease().unwrap();
    let address = port.address();
    let options = servers(&base).ready(Ready::Tcp(address));
    let options = ProcessOptions { ready_limit: Duration::from_secs(2), ..options };
    let error = Process::start(options).await.unwrap_err().to_string();
    assert!(error.contains("is not ready after 2s"), "{error}");
    base.until_no_process_is_left().await;

    let wrong = ProcessOptions::new(env!("CARGO_BIN_EXE_holdfast-sandbox")).arg("fly");
    let error = Process::start(wrong.ready(Ready::Tcp(address))).await.unwrap_err().to_string();
    assert!(error.contains("ended before it was ready"), "{error}");
    assert!(error.contains("unrecognized subcommand 'fly'"), "{error}");

    let error = Process::start(ProcessOptions::new("/nowhere/holdfast-api")).await.unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/holdfast-api is missing; build it first");
}
