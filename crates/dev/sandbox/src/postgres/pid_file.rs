//! `postmaster.pid`: whether a server is ready, and what a killed server leaves behind.

use std::path::Path;

use crate::programs;

/// The first line of `postmaster.pid` is the process id and the eighth the state, as `pg_ctl` reads them.
pub(super) fn is_ready(pid_file: &Path, pid: u32) -> bool {
    let text = std::fs::read_to_string(pid_file).unwrap_or_default();
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.trim() == pid.to_string())
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

/// Removes the pid file of a killed server, and the small System V shared memory segment that it names. Each killed
/// server leaves one behind, and the kernel allows 4,096.
pub(super) fn remove_leftovers(pid_file: &Path) {
    let Ok(text) = std::fs::read_to_string(pid_file) else { return };
    if let Some(line) = text.lines().nth(6) {
        let mut words = line.split_whitespace();
        if let (Some(key), Some(id)) = (words.next(), words.next()) {
            remove_segment(key, id);
        }
    }
    let _ = std::fs::remove_file(pid_file);
}

fn remove_segment(key: &str, id: &str) {
    // Columns: key shmid perms size cpid lpid nattch … . Ids are reused, so the key is compared as well. A segment that
    // a process uses is left alone.
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let is_orphan = segments.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.first() == Some(&key) && columns.get(1) == Some(&id) && columns.get(6) == Some(&"0")
    });
    if is_orphan && let Some(ipcrm) = programs::on_path("ipcrm") {
        let _ = std::process::Command::new(ipcrm).args(["-m", id]).status();
    }
}
