//! Probes a server while it is under load.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::processes::resident_mib;

const INTERVAL: Duration = Duration::from_millis(100);

/// The default time limit of probes in Kubernetes.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// Calls a function at regular intervals on its own thread until it is stopped.
struct PeriodicProbe<T> {
    stop: Sender<()>,
    thread: JoinHandle<T>,
}

impl<T: Default + Send + 'static> PeriodicProbe<T> {
    fn start(mut look: impl FnMut(&mut T) + Send + 'static) -> std::io::Result<Self> {
        let (stop, stopping) = mpsc::channel();
        let thread = std::thread::Builder::new().name("probe".into()).spawn(move || {
            let mut seen = T::default();
            loop {
                look(&mut seen);
                if !matches!(stopping.recv_timeout(INTERVAL), Err(RecvTimeoutError::Timeout)) {
                    return seen;
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    fn stop(self) -> T {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

/// Requests `/livez` as Kubernetes does, each time on a new connection.
pub(super) struct Liveness(PeriodicProbe<Lived>);

/// The results of the probes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lived {
    pub probes: u32,
    /// Probes that were not answered with 200 within a second.
    pub failed: u32,
    pub slowest: Duration,
}

impl Liveness {
    pub fn watch(target: SocketAddr) -> std::io::Result<Self> {
        let watch = PeriodicProbe::start(move |lived: &mut Lived| {
            let started = Instant::now();
            let alive = probe(target).unwrap_or(false);
            lived.probes += 1;
            lived.failed += u32::from(!alive || started.elapsed() > PROBE_LIMIT);
            lived.slowest = lived.slowest.max(started.elapsed());
        })?;
        Ok(Self(watch))
    }

    pub fn stop(self) -> Lived {
        self.0.stop()
    }
}

fn probe(target: SocketAddr) -> std::io::Result<bool> {
    const OK: &[u8] = b"HTTP/1.1 200";
    let mut stream = TcpStream::connect_timeout(&target, PROBE_LIMIT)?;
    stream.set_read_timeout(Some(PROBE_LIMIT))?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; OK.len()];
    stream.read_exact(&mut head)?;
    Ok(head == OK)
}

/// Measures the maximum memory of a process.
pub(super) struct PeakMemory(PeriodicProbe<f64>);

impl PeakMemory {
    pub fn watch(pid: u32) -> std::io::Result<Self> {
        let watch = PeriodicProbe::start(move |peak: &mut f64| {
            *peak = peak.max(resident_mib(pid).unwrap_or(0.0));
        })?;
        Ok(Self(watch))
    }

    /// In MiB.
    pub fn stop(self) -> f64 {
        self.0.stop()
    }
}
