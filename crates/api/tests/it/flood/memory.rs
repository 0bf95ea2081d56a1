//! The memory of the server, of its sockets and of its control group.

use std::{fs, path::PathBuf};

use holdfast_sandbox::Process;

pub fn resident(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The memory of the system's TCP sockets, in pages.
pub fn socket_memory() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

/// The control group of the server, version 1 or 2.
pub fn cgroup() -> Option<PathBuf> {
    std::env::var_os("TEST_FLOOD_CGROUP").map(PathBuf::from)
}

/// The memory of the control group, including that of its sockets, which version 1 counts separately.
pub fn group_memory() -> u64 {
    let Some(folder) = cgroup() else { return 0 };
    let files =
        ["memory.current", "memory.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes"].into_iter();
    let texts = files.filter_map(|file| fs::read_to_string(folder.join(file)).ok());
    texts.map(|text| text.trim().parse::<u64>().unwrap()).sum()
}

/// The number of processes in the control group that were killed because it had no memory left.
pub fn killed() -> String {
    let Some(folder) = cgroup() else { return "0".to_owned() };
    let files = ["memory.events", "memory.oom_control"].into_iter();
    let text: String =
        files.filter_map(|file| fs::read_to_string(folder.join(file)).ok()).collect();
    let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    killed.unwrap_or_else(|| panic!("no memory controller in {}", folder.display())).to_owned()
}
