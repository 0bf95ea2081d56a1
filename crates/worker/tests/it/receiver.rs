//! A webhook receiver that behaves as a test requires.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast_telemetry::Registry;
use holdfast_worker::webhook::{Webhook, WebhookSettings};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    pub at: Instant,
    pub line: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl ReceivedRequest {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

/// The behaviour of the receiver for a request.
#[derive(Clone, Debug)]
pub enum ReceiverReply {
    /// Answers with a status and no body.
    Status(u16),
    /// The same, with additional header lines and a body.
    Full(u16, &'static str, Vec<u8>),
    /// Answers after a delay.
    Slow(Duration, u16),
    /// Writes these bytes, then closes.
    Raw(Vec<u8>),
    /// Answers with a body that never ends.
    Endless(u16),
    /// Writes the first text, then the second repeatedly, with this pause.
    Forever(&'static str, &'static str, Duration),
    /// Never answers.
    Hang,
}

type Behaviour = Arc<dyn Fn(&ReceivedRequest, usize) -> ReceiverReply + Send + Sync>;

#[derive(Default)]
struct ReceiverLog {
    requests: Mutex<Vec<ReceivedRequest>>,
    connections: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Dropping it closes the port and all connections.
pub struct Receiver {
    pub address: SocketAddr,
    log: Arc<ReceiverLog>,
    _tasks: JoinSet<()>,
}

impl Receiver {
    /// `behaviour` gets each request and its number, from 0.
    pub async fn start(
        behaviour: impl Fn(&ReceivedRequest, usize) -> ReceiverReply + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), behaviour)
    }

    pub fn on(
        listener: TcpListener,
        behaviour: impl Fn(&ReceivedRequest, usize) -> ReceiverReply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (log, behaviour): (Arc<ReceiverLog>, Behaviour) = (Arc::default(), Arc::new(behaviour));
        let mut tasks = JoinSet::new();
        let logging = Arc::clone(&log);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let stream: TcpStream = listener.accept().await.unwrap().0;
                logging.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, Arc::clone(&logging), Arc::clone(&behaviour)));
            }
        });
        Self { address, log, _tasks: tasks }
    }

    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.log.requests.lock().unwrap().clone()
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    /// The maximum number of concurrent requests so far.
    pub fn most_at_once(&self) -> usize {
        self.log.most.load(Ordering::SeqCst)
    }

    /// The current number of requests in progress.
    pub fn now(&self) -> usize {
        self.log.now.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}/orders", self.address)
    }

    pub fn settings(&self) -> WebhookSettings {
        settings(&self.url())
    }

    pub fn webhook(&self) -> Webhook {
        Webhook::new(self.settings(), &Registry::default()).unwrap()
    }
}

/// Short times, and private addresses allowed.
pub fn settings(url: &str) -> WebhookSettings {
    WebhookSettings {
        target: url.parse().unwrap(),
        secrets: SECRET.parse().unwrap(),
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(2),
        shutdown_timeout: Duration::from_secs(5),
        connections: 16,
        orders: 64,
        allow_private: true,
        pause_base: Duration::from_millis(20),
        retry_after_max: Duration::from_millis(100),
    }
}

/// Serves one connection. Written by hand, because a server library would not allow such behaviour.
pub async fn serve_plainly(stream: impl AsyncRead + AsyncWrite + Unpin) -> Vec<ReceivedRequest> {
    let log = Arc::<ReceiverLog>::default();
    serve(stream, Arc::clone(&log), Arc::new(|_, _| ReceiverReply::Status(200))).await;
    std::mem::take(&mut log.requests.lock().unwrap())
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: Arc<ReceiverLog>,
    behaviour: Behaviour,
) {
    while let Some(request) = read(&mut stream).await {
        let number = {
            let mut requests = log.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        log.most.fetch_max(log.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let goes_on = answer(&mut stream, behaviour(&request, number)).await;
        log.now.fetch_sub(1, Ordering::SeqCst);
        if !goes_on {
            return;
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<ReceivedRequest> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers["content-length"].parse().unwrap();
    let mut body = bytes.split_off(head_end);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(ReceivedRequest { at: Instant::now(), line, headers, body })
}

/// Whether the connection can be used again.
async fn answer(stream: &mut (impl AsyncWrite + Unpin), reply: ReceiverReply) -> bool {
    let head = |status: u16, headers: &str, length: usize| {
        format!("HTTP/1.1 {status} Something\r\n{headers}content-length: {length}\r\n\r\n")
    };
    match reply {
        ReceiverReply::Status(status) => {
            stream.write_all(head(status, "", 0).as_bytes()).await.is_ok()
        }
        ReceiverReply::Full(status, headers, body) => {
            let mut bytes = head(status, headers, body.len()).into_bytes();
            bytes.extend(body);
            stream.write_all(&bytes).await.is_ok()
        }
        ReceiverReply::Slow(time, status) => {
            // A slow receiver is the subject.
            tokio::time::sleep(time).await;
            stream.write_all(head(status, "", 0).as_bytes()).await.is_ok()
        }
        ReceiverReply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            false
        }
        ReceiverReply::Endless(status) => {
            let head = format!("HTTP/1.1 {status} Something\r\ntransfer-encoding: chunked\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {}
            false
        }
        ReceiverReply::Forever(first, again, pause) => {
            let _ = stream.write_all(first.as_bytes()).await;
            while stream.write_all(again.as_bytes()).await.is_ok() {
                if pause > Duration::ZERO {
                    // A slow receiver is the subject.
                    tokio::time::sleep(pause).await;
                }
            }
            false
        }
        ReceiverReply::Hang => std::future::pending().await,
    }
}
