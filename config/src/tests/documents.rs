//! The documentation and the packaged sample, held against the table of keys: a key that is added, dropped or given
//! another default fails here until both follow.
use super::Folder;
use crate::change::needs_text;
use crate::keys::{EACH, KEYS, Key};
use crate::toml_file;
use std::collections::BTreeSet;

const MANUAL: &str = include_str!("../../../docs/configuration.md");
const SAMPLE: &str = include_str!("../../../packaging/appliance.toml");

/// The row of a key in the manual.
fn row(key: &Key) -> String {
    let name = key.path.rsplit('.').next().unwrap();
    let default = key.default.map_or("not set".to_owned(), |default| format!("`{default}`"));
    let needs = needs_text(key.needs);
    format!("| `{name}` | {default} | {} | {} | {needs} | {} |", key.means.trim(), key.form, key.like)
}

/// The rows of the manual below the heading of a table.
fn rows(table: &str) -> BTreeSet<String> {
    let heading = match table.strip_suffix(EACH) {
        Some(array) => format!("## `[[{array}]]`"),
        None if table.is_empty() => "## `listen`".to_owned(),
        None => format!("## `[{table}]`"),
    };
    let section = MANUAL.split(&format!("\n{heading}\n")).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap();
    section.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect()
}

#[test]
fn the_manual_has_every_key_with_its_default_and_no_other() {
    let table = |key: &Key| key.path.rsplit_once('.').map_or("", |(table, _)| table);
    let tables: BTreeSet<&str> = KEYS.iter().map(table).collect();
    for name in tables {
        let expected: BTreeSet<String> = KEYS.iter().filter(|key| table(key) == name).map(row).collect();
        assert_eq!(rows(name), expected, "[{name}]");
    }
}

/// The sample with the `#` taken away where it stands right before a key or a table.
fn uncommented() -> String {
    let setting = |line: &&str| line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[');
    SAMPLE
        .lines()
        .map(|line| line.strip_prefix('#').filter(setting).unwrap_or(line).to_owned() + "\n")
        .collect()
}

#[test]
fn the_sample_changes_nothing() {
    let folder = Folder::new();
    let without = folder.load().settings;
    folder.write("appliance.toml", SAMPLE);
    assert_eq!(folder.load().settings, without);
}

#[test]
fn the_sample_shows_every_key_with_its_default() {
    let text = uncommented();
    let (_, lines) = toml_file::read(&text).unwrap();
    for key in KEYS.iter().filter(|key| key.path != "listen") {
        let place = lines.place("", &key.path.replace(EACH, "[0]"));
        let number: usize = place.trim_start_matches(':').parse().unwrap();
        let line = text.lines().nth(number - 1).unwrap();
        let (_, value) = line.split_once(" = ").unwrap_or(("", "{}"));
        assert!(key.default.is_none_or(|default| default == value), "{}: {line}", key.path);
        let comment = text.lines().nth(number - 2).unwrap();
        assert_eq!(comment, format!("# {}", key.means.trim()), "{}", key.path);
    }
}

#[test]
fn the_sample_loads_with_every_line_in_force() {
    let folder = Folder::new();
    let defaults = folder.load().settings;
    folder.write("appliance.toml", &uncommented());
    folder.write(".venv/bin/python", "");
    let settings = folder.load().settings;
    assert_eq!(settings.listen, defaults.listen);
    assert_eq!(settings.timeouts, defaults.timeouts);
    assert_eq!(settings.limits, defaults.limits);
    assert_eq!(settings.native.base_port, Some(8000));
}
