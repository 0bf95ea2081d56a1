//! Databases of a cluster, one for each test: empty, or copied from a template.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::Postgres;

/// A password in the URL of each test. PostgreSQL does not require it, and it must not appear in any log.
const PLANTED_PASSWORD: &str = "planted-password";

/// Copying takes tens of milliseconds, and many tests start at the same time.
const LIMIT: Duration = Duration::from_secs(30);

impl Postgres {
    /// Creates an empty database with a unique name. Returns its URL, with a password that is not required and must not
    /// appear in any log.
    ///
    /// # Errors
    /// The server does not answer in time.
    pub async fn create_database(&self) -> anyhow::Result<String> {
        self.create_named_from("template0").await
    }

    /// Creates a database as a copy of a template, which is faster than running the migrations each time. When a
    /// template name is used for the first time, `fill` gets the URL of an empty database. It must close its
    /// connections before it returns.
    ///
    /// # Errors
    /// When `fill` fails or the server does not answer in time.
    pub async fn create_database_from<F, Filled>(
        &self,
        template: &str,
        fill: F,
    ) -> anyhow::Result<String>
    where
        F: FnOnce(String) -> Filled,
        Filled: Future<Output = anyhow::Result<()>>,
    {
        let mut templates = self.templates.lock().await;
        let source = if let Some(source) = templates.get(template) {
            source.clone()
        } else {
            let url = self.create_database().await?;
            fill(url.clone()).await?;
            let source = url.rsplit('/').next().unwrap_or_default().to_owned();
            templates.insert(template.to_owned(), source.clone());
            source
        };
        drop(templates);
        self.create_named_from(&source).await
    }

    async fn create_named_from(&self, source: &str) -> anyhow::Result<String> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        // With the process id, because other processes may have used a kept cluster.
        let name = format!("test_{}_{number}", std::process::id());
        let create = format!("CREATE DATABASE {name} TEMPLATE {source}");
        let work = async {
            let mut connection = PgConnection::connect(&self.url()).await?;
            connection.execute(AssertSqlSafe(create)).await?;
            connection.close().await
        };
        tokio::time::timeout(LIMIT, work)
            .await
            .context("PostgreSQL did not create a database in time")?
            .context("cannot create a database")?;
        Ok(self.database_url(&name).replacen('@', &format!(":{PLANTED_PASSWORD}@"), 1))
    }

    /// Creates the database `name` if it does not exist. Returns its URL.
    ///
    /// # Errors
    /// The name is not of lower-case letters and `_`, or the server does not answer in time.
    pub async fn ensure_database(&self, name: &str) -> anyhow::Result<String> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            bail!("{name:?} is no plain database name");
        }
        let work = async {
            let mut connection = PgConnection::connect(&self.url()).await?;
            let there: bool =
                sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                    .bind(name)
                    .fetch_one(&mut connection)
                    .await?;
            if !there {
                connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
            }
            connection.close().await
        };
        tokio::time::timeout(LIMIT, work)
            .await
            .context("PostgreSQL did not create a database in time")?
            .context("cannot create a database")?;
        Ok(self.database_url(name))
    }
}
