//! What a reload would change: two configurations compared key by key, and what each difference needs before it is in
//! force. Pure. The master asks here for what to do with a configuration that it has read again; the table that says what
//! a key needs is in `keys.rs`.
use crate::form::Form;
use crate::keys::{KEYS, Key};
use crate::settings::{Admin, Listen, Log, Settings};
use crate::show::{length, value, variables_of};
use crate::written::Value;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What it takes until a changed value is in force. A reload does all of it but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Nothing: the master takes it up.
    Live,
    /// A new template and new workers, one after the other; every reload makes them.
    Rolling,
    /// A new proxy on the same listeners.
    Proxy,
    /// Listeners opened or closed, and a new proxy.
    Listener,
    /// The master itself must be started again.
    Restart,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::Live => "live",
            Need::Rolling => "rolling",
            Need::Proxy => "new proxy",
            Need::Listener => "new listener",
            Need::Restart => "restart",
        })
    }
}

/// One difference. Displays as a line such as `workers.cores: 100 → 50 (rolling, new proxy)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The key, such as `workers.cores` or `app.env.DEBUG`.
    pub key: String,
    /// What is in force, as it would be written; `None`: not set.
    pub old: Option<String>,
    /// What has been read.
    pub new: Option<String>,
    /// What it needs.
    pub needs: Vec<Need>,
}

/// Shown instead of a value that may be a secret.
const HIDDEN: &str = "(not shown)";

impl Change {
    fn of(key: &Key, path: String, old: Option<String>, new: Option<String>) -> Change {
        Change { key: path, old, new, needs: key.needs.to_vec() }
    }

    /// Whether a proxy that runs cannot take it up.
    pub fn needs_proxy(&self) -> bool {
        self.needs.iter().any(|need| matches!(need, Need::Proxy | Need::Listener))
    }

    /// Whether no reload brings it into force.
    pub fn needs_restart(&self) -> bool {
        self.needs.contains(&Need::Restart)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        let needs = needs_text(&self.needs);
        write!(f, "{}: {} → {} ({needs})", self.key, side(&self.old), side(&self.new))
    }
}

/// The words of some needs, as the manual has them.
pub fn needs_text(needs: &[Need]) -> String {
    needs.iter().map(Need::to_string).collect::<Vec<_>>().join(", ")
}

/// Every difference, in the order of the table of keys. The values of `app.env` and `app.options`
/// are never part of it.
pub fn changes(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut changes = Vec::new();
    for key in KEYS {
        if let Some((array, name)) = key.in_array() {
            let text = |settings: &Settings| column(settings, array, name);
            changes.extend(difference(key, text(old), text(new)));
            continue;
        }
        match key.form {
            Form::Variables { .. } => variables(key, old, new, &mut changes),
            Form::Listeners => {
                let text = |settings: &Settings| Some(addresses(&settings.listen));
                changes.extend(difference(key, text(old), text(new)));
            }
            _ => {
                for path in paths(key, old, new) {
                    let text = |settings: &Settings| value(settings, &path).map(|value| value.to_string());
                    let (was, is) = (text(old), text(new));
                    changes.extend((was != is).then(|| Change::of(key, path.clone(), was, is)));
                }
            }
        }
    }
    changes
}

/// The paths of a key in two configurations: one, or one for each name that one of them has.
fn paths(key: &Key, old: &Settings, new: &Settings) -> Vec<String> {
    let Some((table, rest)) = key.by_name() else { return vec![key.path.to_owned()] };
    let mut names: Vec<&str> = Vec::new();
    for cache in old.caches.iter().chain(&new.caches) {
        if !names.contains(&cache.name.as_str()) {
            names.push(&cache.name);
        }
    }
    names.into_iter().map(|name| format!("{table}.{name}.{rest}")).collect()
}

fn difference(key: &Key, old: Option<String>, new: Option<String>) -> Option<Change> {
    (old != new).then(|| Change::of(key, key.path.to_owned(), old, new))
}

/// What all tables of an array say for one of their keys; `None`: there are none.
fn column(settings: &Settings, array: &str, name: &str) -> Option<String> {
    let one =
        |n| value(settings, &format!("{array}[{n}].{name}")).map_or("not set".to_owned(), |v| v.to_string());
    let all: Vec<String> = (0..length(settings, array)).map(one).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn addresses(listen: &[Listen]) -> String {
    Value::List(listen.iter().map(|listen| Value::text(&listen.address)).collect()).to_string()
}

fn variables(key: &Key, old: &Settings, new: &Settings, changes: &mut Vec<Change>) {
    let (old, new) = (variables_of(old, key.path), variables_of(new, key.path));
    let find = |env: &[(String, String)], name: &str| {
        env.iter().find(|(known, _)| known == name).map(|(_, v)| v.clone())
    };
    let added = new.iter().filter(|(name, _)| find(old, name).is_none());
    for (name, _) in old.iter().chain(added) {
        let (was, is) = (find(old, name), find(new, name));
        if was != is {
            let hide = |value: Option<String>| value.map(|_| HIDDEN.to_owned());
            changes.push(Change::of(key, format!("{}.{name}", key.path), hide(was), hide(is)));
        }
    }
}

/// What is in force once `new` has been reloaded over `old`: everything but what needs a restart.
pub fn without_restart(old: &Settings, new: Settings) -> Settings {
    Settings {
        log: Log { format: old.log.format, ..new.log },
        admin: Admin { run_dir: old.admin.run_dir.clone(), ..new.admin },
        security: old.security.clone(),
        queue: old.queue,
        areas: old.areas.clone(),
        ..new
    }
}
