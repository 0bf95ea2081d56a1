//! A PgBouncer in front of a PostgreSQL server.

use std::net::SocketAddr;

use nix::unistd::Uid;

use crate::{
    port::Port,
    postgres::Postgres,
    process::{Process, ProcessOptions, Ready},
    programs::{on_path, server_user},
};

/// A running PgBouncer. Dropping it ends it.
#[derive(Debug)]
pub struct PgBouncer {
    _process: Process,
    port: Port,
}

impl PgBouncer {
    /// Starts one with these settings in front of the server; `None` if it is not installed.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(server: &Postgres, settings: &str) -> anyhow::Result<Option<Self>> {
        let Some(program) = on_path("pgbouncer") else { return Ok(None) };
        let port = Port::lease()?;
        let file = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = any\n{settings}\n",
            server.port(),
            port.number(),
        );
        let mut options = ProcessOptions::new(program).file("pgbouncer.ini", file);
        if Uid::effective().is_root() {
            // It refuses to run as root, and can change the user itself.
            let user = server_user()?.map_or_else(|| "nobody".to_owned(), |user| user.name);
            options = options.arg("-u").arg(user);
        }
        let options = options.arg("pgbouncer.ini").ready(Ready::Tcp(port.address()));
        Ok(Some(Self { _process: Process::start(options).await?, port }))
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The URL of a database of the server, through the pooler.
    pub fn database_url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.port.address())
    }
}
