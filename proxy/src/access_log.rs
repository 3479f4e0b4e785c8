//! The access log: one line per request, collected per proxy thread and written to standard error in few large writes; what a
//! line says is in [`appliance_link::access`]. `exchange.rs` and `conn.rs` hand in entries; `runtime.rs` runs the flusher.
//! Whoever cannot write its log can only serve on without it: lines that nobody takes are lost. Every entry is counted here too,
//! also without a log, so that the log and `/metrics` cannot tell different stories.
use crate::error::Failure;
use crate::{Occurrence, Upstreams};
use appliance_link::access::{Entry, FLUSH_AFTER, Lines, Style};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::sync::Notify;

/// The core that ran a request, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppTime {
    pub(crate) core: u32,
    pub(crate) micros: u64,
}

/// The log of one proxy thread.
pub(crate) struct AccessLog {
    upstreams: Arc<dyn Upstreams>,
    /// `None`: switched off.
    lines: Option<Mutex<Lines>>,
    filled: Notify,
}

impl AccessLog {
    pub(crate) fn new(style: Option<Style>, upstreams: Arc<dyn Upstreams>) -> Self {
        let lines = style.map(|style| Mutex::new(Lines::new(style)));
        Self { upstreams, lines, filled: Notify::new() }
    }

    /// Counts a request that `failure` has ended, if one has, and adds its line.
    pub(crate) fn add(&self, entry: &Entry<'_>, failure: Option<Failure>) {
        self.upstreams.count_in(Occurrence::Ended {
            status: entry.status,
            worker: entry.worker,
            took: entry.took,
            bytes: entry.bytes,
            reason: failure.map(|failure| failure as usize),
        });
        let Some(lines) = &self.lines else { return };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.add(entry, SystemTime::now());
        if lines.is_large() {
            self.write_out(&mut lines);
        } else {
            self.filled.notify_one();
        }
    }

    /// Writes what was collected.
    pub(crate) fn flush(&self) {
        if let Some(lines) = &self.lines {
            self.write_out(&mut lines.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Flushes for as long as its thread lives.
    pub(crate) async fn flush_for_ever(&self) {
        loop {
            self.filled.notified().await;
            tokio::time::sleep(FLUSH_AFTER).await;
            self.flush();
        }
    }

    fn write_out(&self, lines: &mut Lines) {
        lines.drain(|text| self.upstreams.write_log(text));
    }
}
