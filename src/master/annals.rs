//! What the master counts on the panel, for those who read `/metrics`: it only looks at what the fleet tells.
use super::Master;
use crate::child::Role;
use crate::notice::Notice;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

impl Master {
    /// The appliance begins.
    pub(super) fn open_annals(&self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.panel.annals().began_ms.store(millis, Relaxed);
    }

    pub(super) fn write_annals(&self, notice: &Notice) {
        let annals = self.panel.annals();
        let counter = match notice {
            Notice::Serving => return annals.has_served.store(1, Relaxed),
            Notice::Reloaded { generation, .. } => {
                annals.generation.store(*generation, Relaxed);
                &annals.reloads
            }
            Notice::ReloadFailed { .. } => &annals.failed_reloads,
            Notice::Lost { role: Role::Proxy, .. } => &annals.lost[0],
            Notice::Lost { role: Role::Template, .. } => &annals.lost[1],
            Notice::Lost { role: Role::Worker(_), .. } => &annals.lost[2],
            _ => return,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// A process of this worker is started: on the panel for `/metrics`, on the board for the application.
    pub(super) fn count_start(&self, worker: u32) {
        self.panel.annals().count_start(worker);
        self.board.count_start(worker);
    }
}
