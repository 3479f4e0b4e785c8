//! The end of the proxy: SIGTERM begins the drain, and what is still running after `timeouts.graceful` is cut. `runtime.rs`
//! drives it, every accept loop and connection watches it. It must never close a listener: the master owns them.
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The side that decides.
pub(crate) struct Drain {
    begun: watch::Sender<bool>,
    cut: watch::Sender<bool>,
}

/// The side that obeys; one clone per task.
#[derive(Clone)]
pub(crate) struct DrainWatch {
    begun: watch::Receiver<bool>,
    cut: watch::Receiver<bool>,
}

impl Drain {
    pub(crate) fn new() -> (Self, DrainWatch) {
        let (begun, begun_watch) = watch::channel(false);
        let (cut, cut_watch) = watch::channel(false);
        (Self { begun, cut }, DrainWatch { begun: begun_watch, cut: cut_watch })
    }

    /// From now on nothing is accepted, and every answer is the last on its connection.
    pub(crate) fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// From now on nothing is waited for.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }
}

impl DrainWatch {
    pub(crate) fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits for the drain; returns at once if it has begun. A vanished `Drain` counts as one.
    pub(crate) async fn begun(&mut self) {
        let _ = self.begun.wait_for(|begun| *begun).await;
    }

    /// Waits for the end of patience.
    pub(crate) async fn cut(&mut self) {
        let _ = self.cut.wait_for(|cut| *cut).await;
    }

    /// As pingora wants to see it.
    pub(crate) fn as_pingora(&self) -> &pingora::server::ShutdownWatch {
        &self.begun
    }
}

/// Waits for SIGTERM. The signals are taken here, not when the wait begins: a SIGTERM that comes as soon as the first client
/// is served must not find the default action. SIGINT is ignored: a terminal sends it to every process, and the master
/// decides what it means. Must be called within a runtime.
pub(crate) fn terminated() -> io::Result<impl Future<Output = ()>> {
    let ignored = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        terminate.recv().await;
        drop(ignored);
    })
}
