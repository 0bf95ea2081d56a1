//! Hot standbys, and their promotion.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};

use super::Postgres;
use crate::child::{Child, Launch};
use crate::folder::{Folder, Keep};

const COPY_LIMIT: Duration = Duration::from_mins(2);
const PROMOTE_LIMIT: Duration = Duration::from_mins(1);

impl Postgres {
    /// Starts a standby of this cluster, with the same options. It follows this cluster and answers reads, but accepts
    /// no writes until it is [promoted](Self::promote).
    ///
    /// # Errors
    /// This cluster is down, or the standby does not start within two minutes.
    pub async fn standby(&self) -> anyhow::Result<Self> {
        let folder = Folder::open(&Keep::Nothing, "standby")?;
        let data = folder.path().join("data");
        DirBuilder::new().mode(0o700).create(&data)?;
        if let Some(user) = &self.user {
            chown(&data, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let copy = Launch {
            program: &self.programs.postgres.with_file_name("pg_basebackup"),
            args: vec![
                format!("--pgdata={}", data.display()),
                format!("--dbname=postgres://postgres@{}", self.port.address()),
                "--write-recovery-conf".to_owned(),
                "--wal-method=stream".to_owned(),
                "--checkpoint=fast".to_owned(),
                "--no-sync".to_owned(),
            ],
            env: vec![("LC_ALL".to_owned(), "C".to_owned())],
            folder: folder.path(),
            log: &data.with_file_name("copy.log"),
            user: self.user.as_ref(),
            death_signal: Signal::SIGKILL,
        };
        Child::run(&copy, COPY_LIMIT).await.context("cannot copy the primary")?;
        Self::prepared(self.options.clone(), folder)?.launched().await
    }

    /// Starts a standby for which every commit of this cluster waits from now on.
    ///
    /// # Errors
    /// As [`Self::standby`].
    pub async fn synchronous_standby(&self) -> anyhow::Result<Self> {
        let standby = self.standby().await?;
        let mut connection = PgConnection::connect(&self.url()).await?;
        for statement in
            ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"]
        {
            sqlx::query(statement).execute(&mut connection).await?;
        }
        crate::until("the standby is synchronous", async || {
            let sql = "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')";
            sqlx::query_scalar::<_, bool>(sql)
                .fetch_one(&mut connection)
                .await
                .map_err(|error| error.to_string())?
                .then_some(())
                .ok_or_else(|| "it is not".to_owned())
        })
        .await;
        connection.close().await?;
        Ok(standby)
    }

    /// Makes a standby accept writes. Returns when it does.
    ///
    /// # Errors
    /// It is down, or no standby.
    pub async fn promote(&self) -> anyhow::Result<()> {
        let promote = async {
            let mut connection = PgConnection::connect(&self.url()).await?;
            let promoted: bool =
                sqlx::query_scalar("SELECT pg_promote()").fetch_one(&mut connection).await?;
            connection.close().await?;
            ensure!(promoted, "the standby was not promoted in time");
            Ok(())
        };
        tokio::time::timeout(PROMOTE_LIMIT, promote).await.context("the standby does not answer")?
    }
}
