//! Failovers by Sentinels.

use holdfast_sandbox::{RedisSentinels, until};

use crate::{connected, port, set, shared, until_written};

async fn group() -> RedisSentinels {
    let group = RedisSentinels::start(&[], "").await.unwrap();
    group.until_complete("").await;
    group
}

/// Waits until the Sentinels report a different primary.
async fn until_replaced(group: &RedisSentinels) {
    let first = group.servers()[0].port();
    until("another server is the primary", async || {
        group.primary().await.is_ok_and(|primary| primary.port() != first)
    })
    .await;
}

#[tokio::test]
async fn a_connection_finds_the_new_primary_after_the_old_one_is_killed() {
    let group = group().await;
    let connection = connected(&group.url()).await;
    group.servers()[0].kill9().await.unwrap();
    until_written(&connection, &group, "second").await;
}

#[tokio::test]
async fn a_primary_that_is_switched_over_is_left() {
    let group = group().await;
    let connection = connected(&group.url()).await;
    group.fail_over().await.unwrap();
    until_replaced(&group).await;
    until_written(&connection, &group, "second").await;
}

#[tokio::test]
async fn a_frozen_primary_is_left() {
    let group = group().await;
    let connection = connected(&group.url()).await;
    group.servers()[0].pause().unwrap();
    until_written(&connection, &group, "second").await;
}

/// When the server resumes, it still accepts writes, which would be lost.
#[tokio::test]
async fn a_connection_without_calls_leaves_a_primary_that_was_frozen() {
    let group = group().await;
    let connection = connected(&group.url()).await;
    let first = port(&connection).await.unwrap();
    group.servers()[0].pause().unwrap();
    until_replaced(&group).await;
    let watcher = shared(&group.url());
    until("the new primary is found", async || set(&watcher, "second").await).await;
    until("the first connection uses the new primary", async || {
        // A call on the frozen server would not be answered.
        let found = port(&connection).await.map_err(|error| error.to_string())?;
        if found == first { Err(found.to_string()) } else { Ok(()) }
    })
    .await;
    group.servers()[0].resume().unwrap();
    until_written(&connection, &group, "third").await;
}

#[tokio::test]
async fn frozen_sentinels_do_not_keep_the_others_from_answering() {
    let group = group().await;
    group.sentinels().next().unwrap().pause().unwrap();
    connected(&group.url()).await;
}

#[tokio::test]
async fn one_remaining_sentinel_is_enough_for_a_connection() {
    let group = group().await;
    for sentinel in group.sentinels().skip(1) {
        sentinel.kill9().await.unwrap();
    }
    connected(&group.url()).await;
}

#[tokio::test]
async fn connections_continue_to_work_while_no_sentinel_answers() {
    let group = group().await;
    let connection = connected(&group.url()).await;
    for sentinel in group.sentinels() {
        sentinel.kill9().await.unwrap();
    }
    until("the connection still works", async || set(&connection, "second").await).await;
    let error = set(&shared(&group.url()), "third").await.unwrap_err();
    assert!(!error.is_empty());
}
