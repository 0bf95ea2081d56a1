//! A new PostgreSQL data folder, copied from one that `initdb` created earlier. Copying takes a tenth of the time.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use nix::unistd::User;

use crate::child::{Child, Launch};
use crate::folder;
use crate::programs::{self, PostgresPrograms};

const LIMIT: Duration = Duration::from_mins(2);

/// A cache older than this is created again, because cleaners of `/tmp` delete files after days, one by one.
const CACHE_AGE_MAX: Duration = Duration::from_hours(24);

/// Creates the data folder `data`, with a superuser `postgres` that needs no password.
pub(crate) async fn initialise(
    programs: &PostgresPrograms,
    user: Option<&User>,
    data: &Path,
    scratch: &Path,
) -> anyhow::Result<()> {
    let cache = cached(programs, user, scratch).await?;
    let copy = Launch {
        program: &programs::on_path("cp").context("cp is not on the PATH")?,
        args: vec![
            "--archive".to_owned(),
            "--reflink=auto".to_owned(),
            cache.display().to_string(),
            data.display().to_string(),
        ],
        env: Vec::new(),
        folder: scratch,
        log: &scratch.join("copy.log"),
        user: None,
        death_signal: Signal::SIGKILL,
    };
    Child::run(&copy, LIMIT).await.context("cannot copy a fresh PostgreSQL data folder")
}

/// The cache for this version and user. It is created if it is missing or old.
async fn cached(
    programs: &PostgresPrograms,
    user: Option<&User>,
    scratch: &Path,
) -> anyhow::Result<PathBuf> {
    let base = folder::base()?;
    let owner = user.map_or_else(String::new, |user| format!("-{}", user.name));
    let cache = base.join(format!("initdb-{}{owner}", programs.major));
    let lock = File::create(cache.with_extension("lock"))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    if is_fresh(&cache) {
        return Ok(cache);
    }
    // Beside the cache, so that it can be renamed.
    let made = cache.with_extension("new");
    let old = cache.with_extension("old");
    for left_over in [&made, &old] {
        if left_over.exists() {
            fs::remove_dir_all(left_over)?;
        }
    }
    DirBuilder::new().mode(0o700).create(&made)?;
    if let Some(user) = user {
        chown(&made, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    let args =
        ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"];
    let initdb = Launch {
        program: &programs.initdb,
        args: args
            .iter()
            .map(ToString::to_string)
            .chain([format!("--pgdata={}", made.display())])
            .collect(),
        env: vec![("LC_ALL".to_owned(), "C".to_owned())],
        folder: scratch,
        log: &scratch.join("initdb.log"),
        user,
        death_signal: Signal::SIGKILL,
    };
    Child::run(&initdb, LIMIT).await.context("cannot make a PostgreSQL data folder")?;
    if cache.exists() {
        fs::rename(&cache, &old)?;
    }
    fs::rename(&made, &cache)?;
    let _ = fs::remove_dir_all(&old);
    drop(lock);
    Ok(cache)
}

fn is_fresh(cache: &Path) -> bool {
    fs::metadata(cache.join("PG_VERSION"))
        .and_then(|meta| meta.modified())
        .is_ok_and(|made| made.elapsed().is_ok_and(|age| age < CACHE_AGE_MAX))
}
