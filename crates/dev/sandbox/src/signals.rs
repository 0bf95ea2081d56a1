//! Requests to stop: the first and the second.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// One Ctrl-C can reach this process twice, from the terminal and from `make`. A signal within this time belongs to the
/// same request.
const SAME_REQUEST: Duration = Duration::from_secs(1);

pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on, the signals no longer end the process by themselves.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let open = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            hangup: open(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGINT, SIGTERM or SIGHUP. Cancel safe.
    pub(crate) async fn asked_to_stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }

    /// After [`Self::asked_to_stop`]: waits for a second request.
    pub(crate) async fn asked_again(&mut self) {
        let echo = async {
            loop {
                self.asked_to_stop().await;
            }
        };
        let _ = tokio::time::timeout(SAME_REQUEST, echo).await;
        self.asked_to_stop().await;
    }
}
