//! The `holdfast-sandbox` binary with its own base folder, so that a test sees only its own folders and processes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use holdfast_sandbox::until;
use nix::unistd::Pid;

pub(crate) struct Base {
    folder: tempfile::TempDir,
}

impl Base {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("holdfast-it-").tempdir_in("/tmp").unwrap();
        // PostgreSQL's user must be able to enter it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-sandbox"));
        command.arg(subcommand).env("HOLDFAST_SANDBOX_DIR", self.path()).stdin(Stdio::null());
        command
    }

    /// Starts `servers` and waits for the two addresses.
    pub(crate) fn servers(&self) -> RunningServers {
        let mut child = self.command("servers").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut port = |name: &str| {
            let line = lines.next().unwrap().unwrap();
            let url = line.strip_prefix(name).unwrap_or_else(|| panic!("{line}"));
            let digits = url.rsplit(':').next().unwrap().split('/').next().unwrap();
            digits.parse().unwrap()
        };
        let postgres_port = port("DATABASE_URL=");
        let redis_port = port("REDIS_URL=");
        RunningServers { child, postgres_port, redis_port }
    }

    /// The folders of servers.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        let runs = fs::read_dir(self.path().join("runs"));
        runs.map(|runs| runs.map(|run| run.unwrap().path()).collect()).unwrap_or_default()
    }

    /// The names of the processes in the base folder.
    pub(crate) fn processes(&self) -> Vec<String> {
        pids_in(self.path())
            .iter()
            .map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default())
            .collect()
    }

    pub(crate) async fn until_no_process_is_left(&self) {
        until("no process is left", async || self.processes().is_empty()).await;
    }
}

pub(crate) struct RunningServers {
    pub(crate) child: Child,
    pub(crate) postgres_port: u16,
    pub(crate) redis_port: u16,
}

impl Drop for RunningServers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The ids of the processes in `folder`.
pub(crate) fn pids_in(folder: &Path) -> Vec<Pid> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let process = entry.unwrap();
            let cwd = fs::read_link(process.path().join("cwd")).ok()?;
            let pid = process.file_name().to_str()?.parse().ok()?;
            cwd.starts_with(folder).then_some(Pid::from_raw(pid))
        })
        .collect()
}
