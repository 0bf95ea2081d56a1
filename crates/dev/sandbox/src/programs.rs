//! Finds the programs that a sandbox runs, and says what to install if one is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, anyhow, bail};
use nix::unistd::{Uid, User};

/// The oldest PostgreSQL version that Holdfast supports.
const POSTGRES_OLDEST: u32 = 15;

/// The programs of one PostgreSQL version.
#[derive(Debug, Clone)]
pub(crate) struct PostgresPrograms {
    pub(crate) major: u32,
    pub(crate) initdb: PathBuf,
    pub(crate) postgres: PathBuf,
}

/// A version of PostgreSQL that is installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PostgresVersion {
    /// The newest one.
    #[default]
    Newest,
    /// The oldest one that Holdfast supports.
    Oldest,
}

/// PostgreSQL from `PATH` or from the folders of Debian.
pub(crate) fn postgres(version: PostgresVersion) -> anyhow::Result<&'static PostgresPrograms> {
    static FOUND: OnceLock<Vec<PostgresPrograms>> = OnceLock::new();
    let found = FOUND.get_or_init(installed_postgres);
    let programs = match version {
        PostgresVersion::Newest => found.last(),
        PostgresVersion::Oldest => found.first(),
    };
    programs.ok_or_else(|| {
        anyhow!(
            "PostgreSQL {POSTGRES_OLDEST} or newer is not installed; \
             type: sudo apt-get install --no-install-recommends postgresql"
        )
    })
}

/// All supported versions, the oldest first.
fn installed_postgres() -> Vec<PostgresPrograms> {
    let mut folders = path_folders();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let mut found: Vec<PostgresPrograms> = folders
        .iter()
        .filter_map(|folder| {
            // On `PATH` there may be a link. The other programs are beside its target.
            let postgres = folder.join("postgres").canonicalize().ok()?;
            let initdb = postgres.with_file_name("initdb");
            let major = postgres_major(&postgres)?;
            (major >= POSTGRES_OLDEST && initdb.is_file()).then_some(PostgresPrograms {
                major,
                initdb,
                postgres,
            })
        })
        .collect();
    found.sort_by_key(|programs| programs.major);
    found
}

/// From `postgres (PostgreSQL) 15.18 (Debian …)` or `… 18beta1`.
fn postgres_major(postgres: &Path) -> Option<u32> {
    let output = Command::new(postgres).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_whitespace().nth(2)?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// `redis-server`, or Valkey.
pub(crate) fn redis() -> anyhow::Result<PathBuf> {
    on_path("redis-server").or_else(|| on_path("valkey-server")).context(
        "Redis is not installed; type: sudo apt-get install --no-install-recommends redis-server",
    )
}

pub(crate) fn prometheus() -> anyhow::Result<PathBuf> {
    on_path("prometheus").context(
        "Prometheus is not installed; type: sudo apt-get install --no-install-recommends prometheus",
    )
}

/// `setpriv` of util-linux.
pub(crate) fn setpriv() -> anyhow::Result<PathBuf> {
    on_path("setpriv").context(
        "setpriv is not installed; type: sudo apt-get install --no-install-recommends util-linux",
    )
}

/// PostgreSQL refuses to run as root. Returns the user to run it as; `None` if this process is not root.
pub(crate) fn server_user() -> anyhow::Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).context("cannot read the list of users")? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

/// The path of a program on `PATH` or in the folders of Debian.
pub fn on_path(program: &str) -> Option<PathBuf> {
    path_folders().into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn path_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Debian does not include these in the PATH of ordinary users.
    folders.extend(["/usr/sbin", "/usr/bin", "/bin", "/usr/local/bin"].map(PathBuf::from));
    folders
}
