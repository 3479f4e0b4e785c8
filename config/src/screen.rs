//! The first look at what one source wrote: reports keys and tables that do not exist and tables that are none, and
//! takes them out, so that the layers above it always merge table with table. Called by `load.rs`. Pure: judges shape
//! and names only, never a value.
use crate::error::Error;
use crate::keys;
use crate::suggest;
use crate::written::{Table, Value};

/// Returns what is left of `table`. `place` tells where a path was written.
pub fn screen(table: Table, place: &dyn Fn(&str) -> String, problems: &mut Vec<Error>) -> Table {
    level("", table, place, problems)
}

fn level(parent: &str, table: Table, place: &dyn Fn(&str) -> String, problems: &mut Vec<Error>) -> Table {
    let mut kept = Table::new();
    for (name, value) in table {
        let path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        let below = if name.is_empty() { Vec::new() } else { keys::names_in(&path) };
        match value {
            value if keys::find(&path).is_some() => {
                kept.insert(name, value);
            }
            Value::Table(inner) if !below.is_empty() => {
                let inner = level(&path, inner, place, problems);
                kept.insert(name, Value::Table(inner));
            }
            value if !below.is_empty() => problems.push(Error::Value {
                place: place(&path),
                reason: match below[..] {
                    [keys::NAME] => format!("is not a table; write [{path}.NAME] with a name of your choice"),
                    _ => format!("is not a table; the keys of [{path}] are {}", below.join(", ")),
                },
                key: path,
                value: value.to_string(),
            }),
            value => problems.push(Error::Unknown {
                place: place(&path),
                kind: if matches!(value, Value::Table(_)) { "table" } else { "key" },
                hint: suggest::hint(parent, &name),
                key: path,
            }),
        }
    }
    kept
}
