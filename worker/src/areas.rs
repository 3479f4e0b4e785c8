//! Memory that all workers share and that the configuration sizes: the queue ([`crate::queue`]) and the areas that an application
//! lays out as it likes (uWSGI `sharedarea`). The master makes it at its start and never looks into it; the template maps it
//! before the application is imported, and its workers have the same mapping, so what lies there outlives them all. Nothing is
//! ever unmapped, because applications hold views of it.
//!
//! Pieces are read and written under a lock of the kernel's (`gate`), whole numbers that lie where the machine can reach them at
//! once without one. All calls may be made from any thread.
use crate::shared;
use crate::suspend::Suspend;
use appliance_config::Settings;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

pub mod copy;
mod gate;
mod number;
mod plan;
pub use gate::{Access, Gate};
pub use number::Width;
use plan::Plan;

/// The lock of the queue; those of the areas follow.
const QUEUE: u32 = 0;

/// Makes the memory that these settings ask for. Master only.
pub fn create(settings: &Settings) -> io::Result<OwnedFd> {
    shared::create_sealed(c"appliance-areas", Plan::of(settings).size)
}

/// The mapped memory.
#[derive(Debug)]
pub struct Areas {
    /// The queue, if there is one.
    pub queue: Option<crate::queue::Queue>,
    areas: Vec<Area>,
}

impl Areas {
    /// Maps what the master made of the same settings: what sizes it is changed by a restart only.
    pub fn open(memory: OwnedFd, settings: &Settings) -> io::Result<Areas> {
        let plan = Plan::of(settings);
        let bytes = shared::map_for_good(&memory, plan.size)?;
        let gate = Arc::new(Gate::new(memory));
        let queue = plan.queue.map(|range| {
            let (slots, most) = (settings.queue.slots, settings.queue.slot_size);
            crate::queue::Queue::new(&bytes[range], slots, most, Arc::clone(&gate), QUEUE)
        });
        let areas = plan.areas.into_iter().zip(QUEUE + 1..);
        let areas = areas.map(|(range, lock)| Area { bytes: &bytes[range], gate: Arc::clone(&gate), lock });
        Ok(Areas { queue, areas: areas.collect() })
    }

    /// The area with this number, from 0.
    pub fn area(&self, number: usize) -> Option<&Area> {
        self.areas.get(number)
    }

    /// How many areas there are.
    pub fn count(&self) -> usize {
        self.areas.len()
    }
}

/// Why nothing was read or written.
#[derive(Debug)]
pub enum Failed {
    /// It would not lie within the area, which has so many bytes.
    Outside(usize),
    /// The wait for whoever is just writing was ended, or took too long.
    Wait(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Wait(error)
    }
}

/// One area.
#[derive(Debug)]
pub struct Area {
    bytes: &'static [AtomicU8],
    gate: Arc<Gate>,
    lock: u32,
}

impl Area {
    /// All of its bytes, for whoever shares them with code that knows no atomics.
    pub fn bytes(&self) -> &'static [AtomicU8] {
        self.bytes
    }

    fn piece(&self, at: usize, length: usize) -> Result<&'static [AtomicU8], Failed> {
        let end = at.checked_add(length);
        let piece = end.and_then(|end| self.bytes.get(at..end));
        piece.ok_or(Failed::Outside(self.bytes.len()))
    }

    /// A copy of `length` bytes from `at` on, without half of what another call is just writing; 0: all the rest.
    pub fn read(&self, at: usize, length: usize, suspend: &dyn Suspend) -> Result<Vec<u8>, Failed> {
        let rest = || self.bytes.len().checked_sub(at).filter(|rest| *rest > 0);
        let length = if length == 0 { rest().unwrap_or(1) } else { length };
        let piece = self.piece(at, length)?;
        Ok(self.gate.pass(self.lock, Access::Read, suspend, || copy::out(piece))?)
    }

    /// Writes bytes from `at` on; no other call reads half of them.
    pub fn write(&self, at: usize, data: &[u8], suspend: &dyn Suspend) -> Result<(), Failed> {
        let piece = self.piece(at, data.len())?;
        Ok(self.gate.pass(self.lock, Access::Write, suspend, || copy::into(piece, data))?)
    }

    /// The number that lies at `at`.
    pub fn number(&self, at: usize, width: Width, suspend: &dyn Suspend) -> Result<i64, Failed> {
        let piece = self.piece(at, width.bytes())?;
        match number::load(piece, width) {
            Some(number) => Ok(number),
            None => Ok(self.gate.pass(self.lock, Access::Read, suspend, || number::read(piece))?),
        }
    }

    /// Writes a number; what does not fit is cut off at the top.
    pub fn set_number(
        &self,
        at: usize,
        width: Width,
        value: i64,
        suspend: &dyn Suspend,
    ) -> Result<(), Failed> {
        let piece = self.piece(at, width.bytes())?;
        match number::store(piece, width, value) {
            Some(()) => Ok(()),
            None => Ok(self.gate.pass(self.lock, Access::Write, suspend, || number::write(piece, value))?),
        }
    }

    /// Adds to a number, which no other process's adding comes between; beyond its ends it begins again at the other one.
    pub fn add(&self, at: usize, width: Width, amount: i64, suspend: &dyn Suspend) -> Result<(), Failed> {
        let piece = self.piece(at, width.bytes())?;
        match number::add(piece, width, amount) {
            Some(()) => Ok(()),
            None => Ok(self.gate.pass(self.lock, Access::Write, suspend, || {
                number::write(piece, number::read(piece).wrapping_add(amount));
            })?),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
