//! A sandbox that is killed with SIGKILL leaves no processes, and its folders only until the next start.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use holdfast_sandbox::until;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{Base, pids_in};

#[tokio::test]
async fn children_die_with_a_killed_parent() {
    let base = Base::new();
    let mut servers = base.servers();
    let processes = base.processes();
    assert!(processes.iter().any(|name| name.trim_end() == "redis-server"), "{processes:?}");
    assert!(processes.iter().any(|name| name.trim_end() == "postgres"), "{processes:?}");
    servers.child.kill().unwrap(); // SIGKILL
    servers.child.wait().unwrap();
    base.until_no_process_is_left().await;
    for port in [servers.postgres_port, servers.redis_port] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "{port}");
    }
}

#[tokio::test]
async fn paused_children_die_with_a_killed_parent() {
    let base = Base::new();
    let mut servers = base.servers();
    for run in base.runs() {
        for pid in pids_in(&run) {
            // PostgreSQL starts and ends helper processes.
            assert!(matches!(kill(pid, Signal::SIGSTOP), Ok(()) | Err(Errno::ESRCH)));
        }
    }
    // When their parent ends, the kernel wakes processes that have stopped, but not processes that are about to stop.
    let stopped = |pid: Pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        status.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    };
    until("all have stopped", async || pids_in(base.path()).into_iter().all(stopped)).await;
    servers.child.kill().unwrap();
    servers.child.wait().unwrap();
    base.until_no_process_is_left().await;
}

#[test]
fn stale_folders_are_swept_and_live_ones_are_not() {
    let base = Base::new();
    let mut killed = base.servers();
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    let stale = base.runs();
    assert_eq!(stale.len(), 2, "{stale:?}");

    // A start also removes stale folders.
    let alive = base.servers();
    let live = base.runs();
    assert_eq!(live.len(), 2, "{live:?}");
    assert!(stale.iter().all(|folder| !live.contains(folder)), "{stale:?} {live:?}");

    let sweep = base.command("sweep").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&sweep.stdout), "0 stale folders removed\n");
    assert_eq!(base.runs().len(), 2);
    TcpStream::connect(("127.0.0.1", alive.redis_port))
        .expect("the running server must not be stopped");
}

#[test]
fn a_sweep_stops_only_our_processes() {
    let base = Base::new();
    let stale = base.path().join("runs/redis-1-0");
    fs::create_dir_all(&stale).unwrap();
    let sleeper = |marked: bool| {
        let mut command = Command::new("sleep");
        command.arg("60").current_dir(&stale).stdout(Stdio::null());
        if marked {
            command.env("HOLDFAST_SANDBOX_FOLDER", &stale);
        }
        command.spawn().unwrap()
    };
    let (mut ours, mut a_persons) = (sleeper(true), sleeper(false));
    // Reaps the process, because it is a child of this test, which a real leftover is not.
    let reaper = std::thread::spawn(move || ours.wait().unwrap());
    let sweep = base.command("sweep").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&sweep.stdout), "1 stale folders removed\n");
    assert!(!reaper.join().unwrap().success());
    assert!(a_persons.try_wait().unwrap().is_none(), "a process of the user was killed");
    a_persons.kill().unwrap();
    a_persons.wait().unwrap();
}
