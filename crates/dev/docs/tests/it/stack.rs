//! A stack like that of `make run`, for trying the documents.

use std::path::PathBuf;

use holdfast_sandbox::{Port, Process, ProcessOptions, http_get, until, workspace_binary};

/// All servers and programs, with the demo products, on other ports.
pub struct RunningStack {
    pub database_url: String,
    pub redis_url: String,
    /// The file of variables with which another terminal can reach the stack.
    pub environment: String,
    /// Host and port of the API; then of the admin port and of the metrics.
    pub api: String,
    pub admin: String,
    pub internal: String,
    pub _process: Process,
    _ports: [Port; 4],
}

/// The folder of the programs.
pub fn programs() -> PathBuf {
    workspace_binary("holdfast-api").unwrap().parent().unwrap().to_owned()
}

impl RunningStack {
    pub async fn start() -> Self {
        let ports = [(); 4].map(|()| Port::lease().unwrap());
        let [api, admin, internal, worker] = ports.each_ref().map(|port| port.number().to_string());
        let process = ProcessOptions::new(workspace_binary("holdfast-sandbox").unwrap())
            .arg("run")
            .env("HOST", "127.0.0.1")
            .env("PORT", &api)
            .env("ADMIN_PORT", &admin)
            .env("METRICS_PORT", &internal)
            .env("WORKER_METRICS_PORT", &worker)
            .env("KEEP", "")
            .env("OBSERVE", "");
        let process = Process::start(process).await.unwrap();
        process.logs(&["To try:"]).await;
        let line = process.logs(&[".env"]).await;
        let environment = line.split_whitespace().nth(1).unwrap().to_owned();
        let line = process.logs(&["postgres://"]).await;
        let database_url = line.split_whitespace().find(|word| word.starts_with("postgres://"));
        let [api, admin, internal] = [api, admin, internal].map(|it| format!("127.0.0.1:{it}"));
        let database_url = database_url.unwrap().to_owned();
        let line = process.logs(&["redis://"]).await;
        let redis_url = line.split_whitespace().find(|word| word.starts_with("redis://"));
        let redis_url = redis_url.unwrap().to_owned();
        Self {
            database_url,
            redis_url,
            environment,
            api,
            admin,
            internal,
            _process: process,
            _ports: ports,
        }
    }

    /// The status of a GET.
    pub async fn status(&self, address: &str, path: &str) -> u16 {
        let url = format!("http://{address}{path}");
        until(&url, async || http_get(&url).await.ok().map(|answer| answer.status)).await
    }
}
