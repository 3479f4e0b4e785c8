//! What others may see of the fleet: its condition and its children. Read by the master for `appliance status`; nothing
//! is changed here.
use super::{Fleet, Phase, Reload};
use crate::child::{Child, Role};

/// What the whole appliance is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No worker has ever been ready.
    Starting,
    /// It serves.
    Serving,
    /// It serves, and a reload is under way.
    Reloading,
    /// No worker can live; it goes on trying.
    CrashLoop,
    /// It finishes what it has, or is about to.
    Stopping,
}

impl Fleet {
    /// What the whole appliance is at.
    pub fn condition(&self) -> Condition {
        match (self.phase, self.reload) {
            _ if self.leave_at.is_some() => Condition::Stopping,
            (Phase::Starting, _) => Condition::Starting,
            (Phase::Serving, Reload::Idle | Reload::Rolling) if self.is_in_crash_loop() => {
                Condition::CrashLoop
            }
            (Phase::Serving, Reload::Idle) => Condition::Serving,
            (Phase::Serving, _) => Condition::Reloading,
            (Phase::Stopping { .. } | Phase::Over, _) => Condition::Stopping,
        }
    }

    /// Generation that new workers belong to.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Generation of the proxy that is in force.
    pub fn proxy(&self) -> u32 {
        self.proxy
    }

    /// Every process, in the order in which they came.
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// Whether this life of a worker is there, or has been asked for.
    pub fn has_seat(&self, worker: u32, life: u32) -> bool {
        let seat = (Role::Worker(worker), life);
        self.children.iter().any(|child| (child.role, child.life) == seat)
            || self.orders.iter().any(|order| (order.role, order.life) == seat)
    }

    /// Whether this child has been asked for and has not been seen yet.
    pub fn is_ordered(&self, role: Role) -> bool {
        self.orders.iter().any(|order| order.role == role)
    }
}
