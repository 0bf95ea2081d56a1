//! Databases within a cluster: one for each test, from nothing or from a template.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::Postgres;

/// A password in each test's URL, which PostgreSQL does not ask for: no log may ever show it.
const PLANTED_PASSWORD: &str = "planted-password";

/// A copy takes tens of milliseconds; many tests start at once.
const LIMIT: Duration = Duration::from_secs(30);

impl Postgres {
    /// Makes a new empty database with a name of its own and returns its URL, with a password that is
    /// not needed, and must not be seen again in any log.
    ///
    /// # Errors
    /// When the server does not answer in time.
    pub async fn create_database(&self) -> anyhow::Result<String> {
        self.create_named_from("template0").await
    }

    /// Makes a new database as a copy of a template, which `fill` is called to make the first
    /// time that this `template` name is asked for (it gets the URL of an empty database, and must
    /// have closed its connections when it returns). Cheaper than running the migrations each time.
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
        // With our process id: a kept cluster has seen other processes.
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

    /// Makes the database `name` unless it is there, and returns its URL.
    ///
    /// # Errors
    /// When the name is not of lower-case letters and `_`, or the server does not answer in time.
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
