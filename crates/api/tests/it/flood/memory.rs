//! The memory of the server, of its sockets and of its control group.

use std::{fs, path::PathBuf};

use holdfast_sandbox::Process;

pub fn resident(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The pages of memory that the system's TCP sockets have.
pub fn socket_memory() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

/// The control group that the server runs in, of version 1 or 2.
pub fn cgroup() -> Option<PathBuf> {
    std::env::var_os("TEST_FLOOD_CGROUP").map(PathBuf::from)
}

/// What the control group has of memory, with that of its sockets, which version 1 counts by itself.
pub fn group_memory() -> u64 {
    let Some(folder) = cgroup() else { return 0 };
    let files =
        ["memory.current", "memory.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes"].into_iter();
    let texts = files.filter_map(|file| fs::read_to_string(folder.join(file)).ok());
    texts.map(|text| text.trim().parse::<u64>().unwrap()).sum()
}

/// How often the control group has killed for want of memory.
pub fn killed() -> String {
    let Some(folder) = cgroup() else { return "0".to_owned() };
    let files = ["memory.events", "memory.oom_control"].into_iter();
    let text: String =
        files.filter_map(|file| fs::read_to_string(folder.join(file)).ok()).collect();
    let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    killed.unwrap_or_else(|| panic!("no memory controller in {}", folder.display())).to_owned()
}
