//! What all workers share in memory: caches, the queue, areas and metrics. A part of the settings.
use crate::remote::Shared;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// `[cache.NAME]`; sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// Letters, digits, `_` and `-`.
    pub name: String,
    /// Most items.
    pub items: u64,
    /// Most bytes of all items, with what each takes to store.
    pub size: u64,
    /// Longest value.
    pub item_size: u64,
    /// Longest key.
    pub key_size: u64,
    /// Whether the least recently used items make room for new ones; otherwise these are refused.
    pub lru: bool,
    /// How long an item lives that is stored without a time of its own (0 = for ever).
    pub expires: Duration,
    /// Absolute path of the file in which the contents outlive the appliance.
    pub persist: Option<PathBuf>,
    /// With whom it is shared beyond this appliance.
    pub shared: Shared,
}

/// `[queue]`: messages in memory that all workers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// How many it holds; 0: there is no queue.
    pub slots: u32,
    /// Bytes of the longest one.
    pub slot_size: usize,
}

/// Most shared areas.
pub const MOST_AREAS: usize = 64;

/// `[[sharedarea]]`: memory that all workers share and lay out as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedArea {
    /// Its bytes, at least 1.
    pub size: usize,
}

/// `[[metric]]`: a metric of the application's (uWSGI `--metric`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name as it was written; no other metric has the same one once dots and dashes are underscores.
    pub name: String,
    /// What its value may do.
    pub kind: MetricKind,
    /// What it means; may be empty.
    pub help: String,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// Its first value, if it has no labels.
    pub initial: i64,
    /// The metric that this one is another name of.
    pub alias: Option<String>,
}

/// What the value of a metric may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Grow.
    Counter,
    /// Grow and shrink.
    Gauge,
}
