//! Where in the memory everything lies. Pure; master and workers reckon it from the same settings.
use crate::queue;
use appliance_config::Settings;
use std::num::NonZeroUsize;
use std::ops::Range;

/// Everything begins at a page, so that no two things share a line of the processor's cache, and views are aligned.
const PAGE: usize = 4096;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of the whole.
    pub size: NonZeroUsize,
    /// The queue.
    pub queue: Option<Range<usize>>,
    /// The areas, by number.
    pub areas: Vec<Range<usize>>,
}

impl Plan {
    /// For these settings, whose sizes are bounded: no sum of them overflows.
    pub fn of(settings: &Settings) -> Plan {
        let mut end = 0_usize;
        let mut take = |size: usize| {
            let start = end;
            end += size.next_multiple_of(PAGE);
            start..start + size
        };
        let wanted = settings.queue;
        let queue = (wanted.slots > 0).then(|| take(queue::size(wanted.slots, wanted.slot_size)));
        let areas = settings.areas.iter().map(|area| take(area.size)).collect();
        // There is always something to map, so nobody has to ask.
        Plan { size: NonZeroUsize::new(end).unwrap_or(NonZeroUsize::MIN), queue, areas }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use appliance_config::{Request, load};

    #[test]
    fn nothing_lies_in_anything_else_and_everything_begins_a_page() {
        let flags = [
            ("app.module", "native:hello"),
            ("queue.slots", "3"),
            ("queue.slot_size", "1000B"),
            ("sharedarea", "[{size=\"4097B\"},{size=\"1B\"}]"),
        ];
        let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let request = Request { dir: std::env::temp_dir(), flags, cpus: 1, file: None, env: Vec::new() };
        let plan = Plan::of(&load(&request).unwrap().settings);
        let queue = 0..8 + 3 * 8 + 3 * 2 * 1000;
        assert_eq!((plan.queue, plan.size.get()), (Some(queue), 5 * PAGE));
        assert_eq!(plan.areas, [2 * PAGE..3 * PAGE + 1, 4 * PAGE..4 * PAGE + 1]);
    }

    #[test]
    fn without_anything_there_is_still_something_to_map() {
        let flags = vec![("app.module".to_owned(), "native:hello".to_owned())];
        let request = Request { dir: std::env::temp_dir(), flags, cpus: 1, file: None, env: Vec::new() };
        let plan = Plan::of(&load(&request).unwrap().settings);
        assert_eq!((plan.queue, plan.areas.len(), plan.size.get()), (None, 0, 1));
    }
}
