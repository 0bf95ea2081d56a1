//! `holdfast-sandbox run`, with the real API and worker, which `make test` builds first.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Stdio};

use holdfast_sandbox::{Port, http_get, http_post_json, until};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::json;

use crate::command::{Base, pids_in};

#[test]
fn a_port_in_use_is_reported_before_anything_is_started() {
    let base = Base::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let free = Port::lease().unwrap();
    let run = base
        .command("run")
        .args(["--metrics-port", &port])
        .env("PORT", free.number().to_string())
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1));
    let said = String::from_utf8_lossy(&run.stderr);
    let sentence =
        format!("Port {port} for the API's metrics is in use by another program. METRICS_PORT=");
    let suggested = said.strip_prefix(&sentence).and_then(|rest| rest.split(' ').next());
    let suggested: u16 = suggested.and_then(|port| port.parse().ok()).expect(&said);
    TcpListener::bind(("127.0.0.1", suggested)).expect("the suggested port is free");
    assert!(base.runs().is_empty());
    assert!(run.stdout.is_empty());
}

/// A `run` that is ready, on its own ports.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    api: String,
    /// Its output until it was ready.
    said: String,
    /// Held only for the lease.
    ports: Vec<Port>,
}

fn running(base: &Base) -> Running {
    running_with(base, &[])
}

const PORTS: [&str; 4] = ["PORT", "METRICS_PORT", "WORKER_METRICS_PORT", "ADMIN_PORT"];

fn running_with(base: &Base, settings: &[(&str, &str)]) -> Running {
    let ports = PORTS.map(|name| (name, Port::lease().unwrap()));
    let numbers = ports.each_ref().map(|(name, port)| (*name, port.number().to_string()));
    let numbers = numbers.iter().map(|(name, number)| (*name, number.as_str()));
    let settings: Vec<_> = numbers.chain(settings.iter().copied()).collect();
    let mut run = on_usual_ports(base, &settings);
    run.ports.extend(ports.map(|(_, port)| port));
    run
}

/// On the usual ports, unless a test sets others.
fn on_usual_ports(base: &Base, settings: &[(&str, &str)]) -> Running {
    let mut command = base.command("run");
    for name in PORTS.iter().chain(&["KEEP", "OBSERVE"]) {
        command.env_remove(name);
    }
    let mut child = command
        .env("HOST", "127.0.0.1")
        .envs(settings.iter().copied())
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("redis-cli -u") {
        if stdout.read_line(&mut said).unwrap() == 0 {
            let mut error = String::new();
            child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
            panic!("it ended:\n{said}{error}");
        }
    }
    let api = url_after(&said, "Swagger").trim_end_matches("/docs").to_owned();
    Running { child, stdout, api, said, ports: Vec::new() }
}

/// The address that is printed after a word.
fn url_after<'a>(said: &'a str, word: &str) -> &'a str {
    let mut words = said.split_whitespace().skip_while(|it| *it != word);
    words.nth(1).unwrap_or_else(|| panic!("no {word}: {said}"))
}

impl Running {
    /// Waits for the end. Returns the exit code, and the output since it was ready.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // With SIGTERM, so that it removes the file for other terminals.
        let _ = kill(self.pid(), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn an_order_completes_and_one_ctrl_c_leaves_nothing() {
    let base = Base::new();
    let run = running(&base);
    for step in ["PostgreSQL", "Redis", "Migrations", "API", "Worker", "Demo products", "/docs"] {
        assert!(run.said.contains(step), "{step}: {}", run.said);
    }
    let products = http_get(&format!("{}/products", run.api)).await.unwrap().json().unwrap();
    assert_eq!(products.as_array().unwrap().len(), 8, "{products}");
    let order = json!({"product_id": products[0]["id"], "quantity": 1});
    let order = http_post_json(&format!("{}/orders", run.api), &order).await.unwrap();
    assert_eq!(order.status, 201, "{}", order.body);
    let url = format!("{}/orders/{}", run.api, order.json().unwrap()["id"]);
    until("the order is completed", async || {
        http_get(&url).await.unwrap().json().unwrap()["status"] == "completed"
    })
    .await;

    // Like a terminal, which signals the whole foreground process group.
    killpg(run.pid(), Signal::SIGINT).unwrap();
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        !said.contains("WARN") && !said.contains('{'),
        "its own start warns of nothing: {said}"
    );
    let at = |name: &str| said.find(&format!("{name} stopped")).unwrap_or_else(|| panic!("{said}"));
    assert!(at("Worker") < at("API") && at("API") < at("Redis") && at("Redis") < at("PostgreSQL"));
    assert!(base.processes().is_empty());
    assert!(base.runs().is_empty());
}

#[tokio::test]
async fn a_second_run_uses_free_ports_and_reports_them() {
    let (one, other) = (Base::new(), Base::new());
    let (first, second) = (on_usual_ports(&one, &[]), on_usual_ports(&other, &[]));
    assert!(second.said.contains("Some of the usual ports are in use."), "{}", second.said);
    for name in ["Swagger", "Admin", "Metrics"] {
        let urls = [&first, &second].map(|run| url_after(&run.said, name));
        assert_ne!(urls[0], urls[1]);
        for url in urls {
            assert_eq!(http_get(url).await.unwrap().status, 200, "{url}");
        }
    }
}

#[tokio::test]
async fn the_printed_commands_work_in_another_terminal() {
    let base = Base::new();
    let run = running(&base);
    let (_, commands) = run.said.split_once("In another terminal:").unwrap();
    let commands: Vec<_> = commands.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    assert!(commands.len() >= 5, "{commands:?}");
    let script = format!("set -e\n{}", commands.join(" </dev/null\n"));
    let mut shell = tokio::process::Command::new("bash");
    let shell = shell.args(["-c", &script]).env_clear().env("PATH", "/usr/bin:/bin");
    let shell = shell.output().await.unwrap();
    let said = String::from_utf8_lossy(&shell.stdout);
    assert!(shell.status.success() && said.contains("hf_"), "{shell:?}");
    let (_, tried) = run.said.split_once("To try:").unwrap();
    let (tried, _) = tried.split_once("In another").unwrap();
    let shell = tokio::process::Command::new("bash").args(["-c", tried]).output().await.unwrap();
    let said = String::from_utf8_lossy(&shell.stdout);
    assert!(said.contains("\"status\":\"pending\"") && !said.contains("problems/"), "{said}");

    let file = commands[0].split_whitespace().nth(1).unwrap().to_owned();
    drop(run);
    assert!(!std::path::Path::new(&file).exists(), "{file} goes with the run");
}

#[tokio::test]
async fn a_worker_that_stops_is_reported_and_stops_everything() {
    let base = Base::new();
    let run = running(&base);
    let folder = |name: &str| {
        base.runs().into_iter().find(|run| run.to_string_lossy().contains(name)).unwrap()
    };
    for pid in pids_in(&folder("holdfast-worker")) {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    let (code, said) = run.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("holdfast-worker (signal: 9 (SIGKILL)) ended unexpectedly"), "{said}");
    assert!(base.processes().is_empty());
}

#[tokio::test]
async fn a_run_after_a_killed_one_starts_normally() {
    let base = Base::new();
    let mut killed = running(&base);
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    base.until_no_process_is_left().await;
    assert!(!base.runs().is_empty());
    let run = running(&base);
    kill(run.pid(), Signal::SIGTERM).unwrap();
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(base.runs().is_empty(), "the killed run's folders must be swept");
}

#[tokio::test]
async fn with_observe_a_prometheus_with_the_alerts_scrapes_it() {
    let base = Base::new();
    let port = Port::lease().unwrap();
    let number = port.number().to_string();
    let run = running_with(&base, &[("OBSERVE", "1"), ("PROMETHEUS_PORT", &number)]);
    let graphs = format!("http://localhost:{number}/consoles/graphs.html");
    assert_eq!(url_after(&run.said, "Graphs"), graphs);
    let page = http_get(&graphs).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
    let panels = page.body.split_once("const PANELS = ").unwrap().1.lines().next().unwrap();
    let panels: serde_json::Value = serde_json::from_str(panels.trim_end_matches(';')).unwrap();
    for target in panels.as_array().unwrap().iter().flat_map(|it| it["targets"].as_array().unwrap())
    {
        let expression = target[0].as_str().unwrap();
        let mut url =
            reqwest::Url::parse(&format!("http://localhost:{number}/api/v1/query")).unwrap();
        url.query_pairs_mut().append_pair("query", expression);
        assert_eq!(http_get(url.as_str()).await.unwrap().status, 200, "{expression}");
    }
    let api = format!("http://{}/api/v1", port.address());
    let question = format!("{api}/query?query=sum(up%7Bjob%3D~%22holdfast-.*%22%7D)");
    until("both programs are scraped", async || {
        let up = http_get(&question).await.unwrap().json().unwrap();
        up["data"]["result"][0]["value"][1] == "2"
    })
    .await;
    let rules = http_get(&format!("{api}/rules?type=alert")).await.unwrap().body;
    assert!(rules.contains("HoldfastLockWait"), "{rules}");

    killpg(run.pid(), Signal::SIGINT).unwrap();
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Prometheus stopped"), "{said}");
    assert!(base.processes().is_empty());
}
