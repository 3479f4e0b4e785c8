//! Reads single values out of what was written, each in the form that the table of keys gives it, and collects what is
//! wrong. Used by `check.rs` only. A value that is refused is replaced by the default, so that checking can go on; the
//! settings made of it are never handed out.
use crate::error::Error;
use crate::form::Form;
use crate::keys::{self, EACH, Key};
use crate::toml_file;
use crate::written::{Table, Value, Written};
use std::path::PathBuf;
use std::time::Duration;

/// Reads values and keeps the list of problems.
pub struct Reader<'a> {
    pub written: &'a Written,
    pub problems: &'a mut Vec<Error>,
    /// Keys that were refused: what is compared with them says nothing.
    pub refused: Vec<String>,
    /// The table of an array that is being read.
    item: Option<Item<'a>>,
}

/// One table of an array.
struct Item<'a> {
    /// Where it is, such as `metric[2]`.
    path: String,
    table: &'a Table,
}

impl<'a> Reader<'a> {
    /// Of what was written; `problems` are added to.
    pub fn new(written: &'a Written, problems: &'a mut Vec<Error>) -> Self {
        Reader { written, problems, refused: Vec::new(), item: None }
    }

    /// Reads every table of an array; keys such as `metric[].name` mean the one that `read` is called for.
    pub fn each<T>(&mut self, array: &str, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let Some(Value::List(tables)) = self.written.get(array).map(|entry| &entry.value) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (n, value) in tables.iter().enumerate() {
            let Value::Table(table) = value else { continue };
            self.item = Some(Item { path: format!("{array}[{n}]"), table });
            all.push(read(self));
        }
        self.item = None;
        all
    }

    /// A text of every table of an array, without which the table means nothing; empty if it is refused.
    pub fn needed_text(&mut self, key: &str, parse: impl Fn(&str) -> Option<String>) -> String {
        if let (None, Some(item)) = (self.value(key), &self.item) {
            let (path, table) = (item.path.clone(), Value::Table(item.table.clone()));
            let name = key.rsplit('.').next().unwrap_or(key);
            let reason = format!("has no {name}; write {}", row(key).form);
            self.judge::<()>(&path, &table, Err(reason));
        }
        self.optional_text(key, parse).unwrap_or_default()
    }

    /// The value of a key, if somebody wrote one.
    fn value(&self, key: &str) -> Option<&'a Value> {
        match (&self.item, key.split_once(EACH)) {
            (Some(item), Some((_, name))) => item.table.get(name.trim_start_matches('.')),
            _ => self.written.get(key).map(|entry| &entry.value),
        }
    }

    /// The path of a key as the user knows it: `metric[2].name` for `metric[].name`.
    fn path(&self, key: &str) -> String {
        match (&self.item, key.split_once(EACH)) {
            (Some(item), Some((_, name))) => format!("{}{name}", item.path),
            _ => key.to_owned(),
        }
    }

    /// A whole number that the bounds of its key let fit `T`.
    pub fn whole<T: TryFrom<i64>>(&mut self, key: &str) -> T {
        self.required(key, |form, value| fitting(form, form.whole(value)?))
    }

    /// The same, or nothing.
    pub fn optional_whole<T: TryFrom<i64>>(&mut self, key: &str) -> Option<T> {
        self.optional(key, |form, value| fitting(form, form.whole(value)?))
    }

    /// A whole number, or `auto` for `"auto"`.
    pub fn whole_or(&mut self, key: &str, auto: u32) -> u32 {
        self.required(key, |form, value| match value.as_text() {
            Some("auto") => Ok(auto),
            _ => fitting(form, form.whole(value)?),
        })
    }

    /// A duration.
    pub fn duration(&mut self, key: &str) -> Duration {
        self.required(key, Form::duration)
    }

    /// A size in bytes that the bounds of its key let fit `T`.
    pub fn size<T: TryFrom<u64>>(&mut self, key: &str) -> T {
        self.required(key, |form, value| T::try_from(form.size(value)?).map_err(|_| form.refusal()))
    }

    /// The same, or nothing.
    pub fn optional_size<T: TryFrom<u64>>(&mut self, key: &str) -> Option<T> {
        self.optional(key, |form, value| T::try_from(form.size(value)?).map_err(|_| form.refusal()))
    }

    /// A truth value.
    pub fn flag(&mut self, key: &str) -> bool {
        self.required(key, Form::flag)
    }

    /// One of the words of the key.
    pub fn word(&mut self, key: &str) -> &'static str {
        self.required(key, Form::word)
    }

    /// A text that `parse` understands.
    pub fn text<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        self.required(key, |form, value| form.text(value, &parse))
    }

    /// The same, or nothing.
    pub fn optional_text<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.optional(key, |form, value| form.text(value, &parse))
    }

    /// An absolute path, or nothing.
    pub fn optional_path(&mut self, key: &str) -> Option<PathBuf> {
        let written = self.written;
        self.optional_text(key, |path| Some(written.absolute(key, path)))
    }

    /// Texts that `parse` understands; a single text counts as a list of one. Each is refused by itself.
    pub fn texts<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let form = row(key).form;
        let Value::List(items) = value else {
            return self.judge(key, value, form.text(value, &parse)).into_iter().collect();
        };
        let items = items.iter().enumerate();
        items
            .filter_map(|(n, item)| self.judge(&format!("{key}[{n}]"), item, form.text(item, &parse)))
            .collect()
    }

    /// Variables of a table in order of name. A name has to fit the environment, a value has to be a text.
    pub fn variables(&mut self, key: &str) -> Vec<(String, String)> {
        let written = self.written;
        if let Some(entry) = written.get(key) {
            self.judge::<()>(key, &entry.value, Err(row(key).form.refusal()));
        }
        let mut variables = Vec::new();
        for (name, entry) in written.under(key) {
            let read = match &entry.value {
                _ if name.is_empty() || name.contains(['=', '\0']) => {
                    Err("cannot be set: the name of a variable is not empty and has no \"=\" or NUL in it"
                        .to_owned())
                }
                Value::Text(text) if text.contains('\0') => {
                    Err("cannot be set: the value of a variable has no NUL in it".to_owned())
                }
                Value::Text(text) => Ok((name.to_owned(), text.clone())),
                value => Err(format!("is not text; write it in quotes: {name} = \"{value}\"")),
            };
            variables.extend(self.judge(&format!("{key}.{name}"), &entry.value, read));
        }
        variables
    }

    /// The names of the tables below `table`, in the order of the file; those of the environment and of flags follow.
    pub fn names(&mut self, table: &str) -> Vec<String> {
        let written = self.written;
        let mut names: Vec<&str> = Vec::new();
        for (path, _) in written.under(table) {
            let name = path.split('.').next().unwrap_or(path);
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        names.sort_by_key(|name| written.lines.number(&format!("{table}.{name}")).unwrap_or(usize::MAX));
        names.into_iter().map(str::to_owned).collect()
    }

    /// Passes a value on, or notes why it was refused.
    pub fn judge<T>(&mut self, key: &str, value: &Value, read: Result<T, String>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(reason) => {
                let key = self.path(key);
                let place = self.written.place(&key);
                self.problems.push(Error::Value {
                    place,
                    key: key.clone(),
                    value: value.to_string(),
                    reason,
                });
                self.refused.push(key);
                None
            }
        }
    }

    fn optional<T>(&mut self, key: &str, read: impl Fn(&Form, &Value) -> Result<T, String>) -> Option<T> {
        let value = self.value(key)?;
        self.judge(key, value, read(&row(key).form, value))
    }

    fn required<T>(&mut self, key: &str, read: impl Fn(&Form, &Value) -> Result<T, String>) -> T {
        self.optional(key, &read).unwrap_or_else(|| {
            let default = row(key).default.and_then(toml_file::read_value);
            let default = default.and_then(|value| read(&row(key).form, &value).ok());
            default.expect("keys that are required have a default, and it is of their form")
        })
    }
}

fn row(key: &str) -> &'static Key {
    keys::find(key).expect("every key that is checked is in keys.rs")
}

fn fitting<T: TryFrom<i64>>(form: &Form, number: i64) -> Result<T, String> {
    T::try_from(number).map_err(|_| form.refusal())
}
