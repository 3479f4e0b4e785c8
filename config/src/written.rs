//! What was written, before anybody asks what it means: values, each with the place it came from. Made by `load.rs`,
//! completed by `discover.rs`, read by everything after them. Pure: judges nothing, reads no file.
use crate::toml_file::Lines;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Keys and values, in order of key.
pub type Table = BTreeMap<String, Value>;

/// A value as written; displays as TOML on one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `true`
    Flag(bool),
    /// `4`
    Whole(i64),
    /// `0.5`
    Float(f64),
    /// `"text"`; dates, which no key takes, count as text.
    Text(String),
    /// `["a", "b"]`
    List(Vec<Value>),
    /// `{ a = 1 }`, or a `[table]`
    Table(Table),
}

impl Value {
    /// A text, from anything that displays.
    pub fn text(text: impl fmt::Display) -> Self {
        Value::Text(text.to_string())
    }

    /// The text, unless it is empty: no key takes an empty one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The value without quotes: what one would type in a shell.
    pub fn bare(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Whether this is a number and nothing else; from the environment it arrives as a text.
    pub fn is_bare_number(&self) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        matches!(self, Value::Whole(0..)) || self.as_text().is_some_and(digits)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Flag(flag) => flag.fmt(f),
            Value::Whole(number) => number.fmt(f),
            Value::Float(number) => write!(f, "{number:?}"),
            Value::Text(text) => f.write_str(&quoted(text)),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(Value::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Value::Table(_) => f.write_str("a table"),
        }
    }
}

/// A name as a TOML key: bare where it may be.
pub fn key_text(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A TOML basic string. Control characters are escaped, so it stays on its line and cannot forge another in a log.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Who set a value; displays as the user knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody.
    Default,
    /// Nobody, but something that was found says it: `app.py`, `.venv`, `VIRTUAL_ENV`.
    Found(String),
    /// The file, by the name the user gave it.
    File(String),
    /// An environment variable.
    Variable(String),
    /// `--set`, or a flag of its own.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Found(what) => write!(f, "found {what}"),
            Source::File(name) | Source::Variable(name) => f.write_str(name),
            Source::CommandLine => f.write_str("command line"),
        }
    }
}

/// One value and its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// Who set it.
    pub source: Source,
}

/// Everything that was written, merged: the strongest source of each key has won.
#[derive(Clone, Debug)]
pub struct Written {
    /// By full path; the names below `app.env` and `app.options` have an entry each.
    pub entries: BTreeMap<String, Entry>,
    /// Lines of the file; empty without one.
    pub lines: Lines,
    /// Folder of the file, to which its relative paths belong; without a file the same as `dir`.
    pub folder: PathBuf,
    /// The current directory, to which all other relative paths belong.
    pub dir: PathBuf,
}

impl Written {
    /// The entry of a key, if it has a value.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entries below a key: name and entry, in order of name.
    pub fn under<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let name = move |path: &'a str| path.strip_prefix(key)?.strip_prefix('.');
        self.entries.iter().filter_map(move |(path, entry)| Some((name(path)?, entry)))
    }

    /// What was written in one table of an array such as `[[metric]]`.
    pub fn item(&self, array: &str, n: usize) -> Option<&Table> {
        match &self.get(array)?.value {
            Value::List(tables) => match tables.get(n)? {
                Value::Table(table) => Some(table),
                _ => None,
            },
            _ => None,
        }
    }

    /// Where a key, or a part of its value (`listen[1].address`), was written.
    pub fn place(&self, key: &str) -> String {
        match self.source(key) {
            Source::File(name) => self.lines.place(name, key),
            source => source.to_string(),
        }
    }

    /// Whether nobody wrote the value of this key.
    pub fn is_default(&self, key: &str) -> bool {
        *self.source(key) == Source::Default
    }

    /// The absolute path that a value of this key means.
    pub fn absolute(&self, key: &str, path: impl AsRef<Path>) -> PathBuf {
        let base = if matches!(self.source(key), Source::File(_)) { &self.folder } else { &self.dir };
        // Collecting the components drops `.` and doubled slashes; `..` stays, since a link may stand before it.
        base.join(path).components().collect()
    }

    fn source(&self, key: &str) -> &Source {
        let owner = ancestors(key).find_map(|path| self.entries.get(path));
        owner.map_or(&Source::Default, |entry| &entry.source)
    }
}

/// `a.b[1].c`, `a.b[1]`, `a.b`, `a`: the path and everything that encloses it.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rfind(['.', '[']).map(|end| &path[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_display_as_toml_on_one_line() {
        let list = Value::List(vec![Value::Flag(true), Value::Whole(-1), Value::Float(2.0)]);
        assert_eq!(list.to_string(), "[true, -1, 2.0]");
        let text = "a \"b\" \\ c\n\t\u{1b}\u{85}é";
        assert_eq!(Value::text(text).to_string(), r#""a \"b\" \\ c\n\u0009\u001B\u0085é""#);
        let (table, _) = crate::toml_file::read(&format!("a = {}", quoted(text))).unwrap();
        assert_eq!(table["a"], Value::text(text));
    }

    #[test]
    fn names_are_bare_where_they_may_be() {
        assert_eq!(
            (key_text("a-B_1"), key_text("a.b"), key_text("")),
            ("a-B_1".into(), "\"a.b\"".into(), "\"\"".into())
        );
    }
}
