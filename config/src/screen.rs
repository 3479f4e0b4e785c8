//! The first look at what one source wrote: reports keys and tables that do not exist and tables that are none, and
//! takes them out, so that the layers above it always merge table with table. Called by `load.rs`. Pure: judges shape
//! and names only, never a value.
use crate::error::Error;
use crate::keys::{self, EACH};
use crate::suggest;
use crate::written::{Table, Value};

/// Returns what is left of `table`. `place` tells where a path was written.
pub fn screen(table: Table, place: &dyn Fn(&str) -> String, problems: &mut Vec<Error>) -> Table {
    level("", "", table, place, problems)
}

/// `parent` is where the table is (`metric[2]`), `known` where its keys are in the table of keys (`metric[]`).
fn level(
    parent: &str,
    known: &str,
    table: Table,
    place: &dyn Fn(&str) -> String,
    problems: &mut Vec<Error>,
) -> Table {
    let mut kept = Table::new();
    for (name, value) in table {
        let below_of =
            |parent: &str| if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        let (path, key) = (below_of(parent), below_of(known));
        let below = if name.is_empty() { Vec::new() } else { keys::names_in(&key) };
        let is_array = keys::arrays().contains(&key.as_str());
        match value {
            value if keys::find(&key).is_some() => {
                kept.insert(name, value);
            }
            Value::List(tables) if is_array => {
                let kept_ones = array(&path, tables, place, problems);
                kept.insert(name, Value::List(kept_ones));
            }
            value if is_array => problems.push(not_an_array(path, &value, place)),
            Value::Table(inner) if !below.is_empty() => {
                let inner = level(&path, &key, inner, place, problems);
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
                hint: suggest::hint(known, &name),
                key: path,
            }),
        }
    }
    kept
}

/// The tables of an array. One that is none keeps its place, empty, so that the others keep their numbers.
fn array(
    path: &str,
    tables: Vec<Value>,
    place: &dyn Fn(&str) -> String,
    problems: &mut Vec<Error>,
) -> Vec<Value> {
    let screened = tables.into_iter().enumerate().map(|(n, value)| {
        let (path, known) = (format!("{path}[{n}]"), format!("{path}{EACH}"));
        match value {
            Value::Table(inner) => Value::Table(level(&path, &known, inner, place, problems)),
            other => {
                problems.push(not_an_array(path, &other, place));
                Value::Table(Table::new())
            }
        }
    });
    screened.collect()
}

fn not_an_array(path: String, value: &Value, place: &dyn Fn(&str) -> String) -> Error {
    let name = path.split('[').next().unwrap_or_default();
    let keys = keys::names_in(&format!("{name}{EACH}")).join(", ");
    Error::Value {
        place: place(&path),
        reason: format!("is not a list of tables; write [[{name}]] once for each; its keys are {keys}"),
        key: path,
        value: value.to_string(),
    }
}
