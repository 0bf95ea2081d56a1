//! Faults of a machine: a full disk, a clock that jumps.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use holdfast_sandbox::{Clock, Disk, Postgres, PostgresOptions};
use sqlx::{Connection as _, PgConnection};

#[test]
fn a_disk_is_full_until_there_is_room_again() {
    let disk = match Disk::mount(1 << 30) {
        Ok(disk) => disk,
        Err(error) if std::env::var("HOLDFAST_DISK_TESTS").as_deref() != Ok("required") => {
            eprintln!("SKIPPED: {error:#}");
            return;
        }
        Err(error) => panic!("{error:#}"),
    };
    let path = disk.path().to_owned();
    fs::write(path.join("before"), vec![1; 100_000]).unwrap();
    disk.fill().unwrap();
    let refused = fs::write(path.join("during"), vec![2; 100_000]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    assert_eq!(fs::read(path.join("before")).unwrap().len(), 100_000, "nothing was lost");
    disk.make_room().unwrap();
    fs::write(path.join("during"), vec![2; 100_000]).unwrap();
    drop(disk);
    assert!(!path.exists(), "it is gone");
}

#[tokio::test]
async fn a_clock_jumps_only_for_selected_processes() {
    let clock = Clock::new().unwrap();
    let options = PostgresOptions { env: clock.env(), ..PostgresOptions::default() };
    let postgres = Postgres::start(options).await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let mut hours_ahead = async || {
        let now = "SELECT extract(epoch FROM clock_timestamp())::bigint";
        let seconds: i64 = sqlx::query_scalar(now).fetch_one(&mut connection).await.unwrap();
        let here = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let ahead = seconds - i64::try_from(here).unwrap() + 60;
        ahead.div_euclid(3600)
    };
    assert_eq!(hours_ahead().await, 0);
    clock.ahead(Duration::from_hours(2)).unwrap();
    assert_eq!(hours_ahead().await, 2);
    clock.behind(Duration::from_hours(1)).unwrap();
    assert_eq!(hours_ahead().await, -1);
    clock.right().unwrap();
    assert_eq!(hours_ahead().await, 0);
}
