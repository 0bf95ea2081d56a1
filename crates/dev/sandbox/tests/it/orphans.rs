//! What is left when a sandbox is killed with -9: no process, and folders only until the next.

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
            // PostgreSQL has helpers that come and go.
            assert!(matches!(kill(pid, Signal::SIGSTOP), Ok(()) | Err(Errno::ESRCH)));
        }
    }
    // The kernel wakes those who have stopped when their parent ends, and not those who are about to stop.
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

    // A start sweeps by itself.
    let alive = base.servers();
    let live = base.runs();
    assert_eq!(live.len(), 2, "{live:?}");
    assert!(stale.iter().all(|folder| !live.contains(folder)), "{stale:?} {live:?}");

    let sweep = base.command("sweep").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&sweep.stdout), "0 stale folders removed\n");
    assert_eq!(base.runs().len(), 2);
    TcpStream::connect(("127.0.0.1", alive.redis_port)).expect("the live server must be spared");
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
    // Reaps, as the process is this test's child, which a real leftover is not.
    let reaper = std::thread::spawn(move || ours.wait().unwrap());
    let sweep = base.command("sweep").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&sweep.stdout), "1 stale folders removed\n");
    assert!(!reaper.join().unwrap().success());
    assert!(a_persons.try_wait().unwrap().is_none(), "a person's process was killed");
    a_persons.kill().unwrap();
    a_persons.wait().unwrap();
}
