use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;

use super::*;

const LIMIT: Duration = Duration::from_mins(1);

fn lamp() -> ChangedRow {
    ChangedRow::Product(ProductId(1))
}

/// Retries until `attempt` reports that it is done.
async fn run(
    turn: &Turn,
    mut attempt: impl AsyncFnMut(WhenLocked) -> Tried<()>,
) -> Result<(), StoreError> {
    let mut tries = turn.tries().await?;
    loop {
        let result = attempt(tries.waits()).await;
        if let Some(()) = tries.again::<_, StoreError>(Ok(result)).await? {
            return Ok(());
        }
    }
}

fn is_lock_timeout<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::LockTimeout(_)))
}

#[tokio::test(start_paused = true)]
async fn the_changes_of_a_row_are_made_in_order_of_arrival() {
    let rows = LockedRows::new(4);
    let first = rows.turn(lamp(), LIMIT).await.unwrap();
    let mut second = Box::pin(rows.turn(lamp(), LIMIT));
    let mut third = Box::pin(rows.turn(lamp(), LIMIT));
    assert!(second.as_mut().now_or_never().is_none());
    assert!(third.as_mut().now_or_never().is_none());
    let other = rows.turn(ChangedRow::Product(ProductId(2)), LIMIT).now_or_never();
    assert!(other.unwrap().is_ok(), "another row is another turn");
    drop(first);
    assert!(third.as_mut().now_or_never().is_none());
    let second = second.now_or_never().unwrap().unwrap();
    // A dropped request is skipped.
    drop(second);
    assert!(third.now_or_never().unwrap().is_ok());
    assert!(rows.0.rows.lock().rows.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_does_not_end_is_a_lock_timeout() {
    let rows = LockedRows::new(4);
    let _first = rows.turn(lamp(), LIMIT).await.unwrap();
    assert!(is_lock_timeout(&rows.turn(lamp(), LIMIT).await));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_stays_locked_is_a_lock_timeout() {
    let rows = LockedRows::new(4);
    let turn = rows.turn(lamp(), LIMIT).await.unwrap();
    let tries = AtomicUsize::new(0);
    let result = run(&turn, async |waits| {
        assert_eq!(waits, WhenLocked::No);
        tries.fetch_add(1, Ordering::Relaxed);
        Tried::Locked(Some(7))
    })
    .await;
    assert!(is_lock_timeout(&result));
    assert!(tries.load(Ordering::Relaxed) > 100);
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_version_changes_is_waited_for_in_the_database() {
    let rows = LockedRows::new(4);
    let turn = rows.turn(lamp(), LIMIT).await.unwrap();
    let mut versions = [Some(1), Some(1), Some(2), None, Some(3), Some(4)].into_iter();
    let mut asked = Vec::new();
    let result = run(&turn, async |waits| {
        asked.push(waits == WhenLocked::HandOver);
        versions.next().map_or(Tried::Done(()), Tried::Locked)
    })
    .await;
    result.unwrap();
    assert_eq!(asked, [false, false, false, true, false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn only_one_change_of_locked_rows_tries_at_a_time() {
    let rows = LockedRows::new(4);
    let (at_once, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let change = async |id, mut is_known: bool| {
        let turn = rows.turn(ChangedRow::Product(ProductId(id)), LIMIT).await.unwrap();
        let result = run(&turn, async |_| {
            if std::mem::replace(&mut is_known, true) {
                most.fetch_max(at_once.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                sleep(Duration::from_millis(1)).await;
                at_once.fetch_sub(1, Ordering::Relaxed);
            }
            Tried::Locked(None)
        })
        .await;
        assert!(is_lock_timeout(&result));
    };
    futures::future::join_all((0..50).map(|id| change(id, false))).await;
    // From the first attempt on, because the rows are already known to be locked.
    futures::future::join_all((0..50).map(|id| change(id, true))).await;
    assert_eq!(most.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_row_is_forgotten_after_it_is_unlocked() {
    let rows = LockedRows::new(4);
    let turn = rows.turn(lamp(), LIMIT).await.unwrap();
    let mut tries = [Tried::Locked(None), Tried::Done(())].into_iter();
    run(&turn, async |_| tries.next().unwrap()).await.unwrap();
    drop(turn);
    assert!(rows.0.rows.lock().rows.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bounded_number_of_locked_rows_is_remembered() {
    let rows = LockedRows::new(4);
    for id in 0..3000 {
        let turn = rows.turn(ChangedRow::Product(ProductId(id)), Duration::ZERO).await.unwrap();
        assert!(is_lock_timeout(&run(&turn, async |_| Tried::Locked(None)).await));
    }
    assert!(rows.0.rows.lock().rows.len() <= REMEMBERED_MAX + 1);
}

#[tokio::test(start_paused = true)]
async fn too_many_waiting_changes_are_refused_at_once() {
    let rows = LockedRows::new(4);
    let enter = |id| rows.enter(ChangedRow::Product(ProductId(id))).map(|(place, _)| place);
    let mut places: Vec<_> = (0..ROW_MAX).map(|_| enter(1).unwrap()).collect();
    assert!(matches!(enter(1), Err(StoreError::TooManyWaiting)));
    for id in 2.. {
        match enter(id) {
            Ok(place) => places.push(place),
            Err(error) => {
                assert!(matches!(error, StoreError::TooManyWaiting));
                break;
            }
        }
    }
    assert_eq!(places.len(), ALL_MAX);
    drop(places);
    assert!(enter(1).is_ok());
}
