//! The master's part in the locks: it frees what workers have held that are gone. Nobody else may, and nothing else of them
//! is its business.
use super::Master;
use std::collections::BTreeMap;

impl Master {
    /// Frees what nobody holds any more. After every end of a process; and now and then, because what stands in the memory may
    /// be anything.
    pub(super) fn free_locks(&self) {
        let freed = self.locks.free_dead(|holder| self.fleet.has_seat(holder.worker(), holder.life()));
        if freed.is_empty() {
            return;
        }
        self.lock_bell.ring();
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for holder in freed {
            *counts.entry(holder.worker()).or_default() += 1;
        }
        for (worker, locks) in counts {
            tracing::warn!(worker, locks, "a worker has died with locks; they are free again");
        }
    }
}
