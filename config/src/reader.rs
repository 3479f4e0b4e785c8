//! Reads single values out of what was written, each in the form that the table of keys gives it, and collects what is
//! wrong. Used by `check.rs` only. A value that is refused is replaced by the default, so that checking can go on; the
//! settings made of it are never handed out.
use crate::error::Error;
use crate::form::Form;
use crate::keys::{self, Key};
use crate::toml_file;
use crate::written::{Value, Written};
use std::path::PathBuf;
use std::time::Duration;

/// Reads values and keeps the list of problems.
pub struct Reader<'a> {
    pub written: &'a Written,
    pub problems: &'a mut Vec<Error>,
    /// Keys that were refused: what is compared with them says nothing.
    pub refused: Vec<String>,
}

impl Reader<'_> {
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
        let Some(entry) = self.written.get(key) else { return Vec::new() };
        let form = row(key).form;
        let Value::List(items) = &entry.value else {
            return self.judge(key, &entry.value, form.text(&entry.value, &parse)).into_iter().collect();
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
                    Err("cannot be set: the name of a variable is not empty and has no \"=\" in it"
                        .to_owned())
                }
                Value::Text(text) if !text.contains('\0') => Ok((name.to_owned(), text.clone())),
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
                let place = self.written.place(key);
                self.problems.push(Error::Value {
                    place,
                    key: key.to_owned(),
                    value: value.to_string(),
                    reason,
                });
                self.refused.push(key.to_owned());
                None
            }
        }
    }

    fn optional<T>(&mut self, key: &str, read: impl Fn(&Form, &Value) -> Result<T, String>) -> Option<T> {
        let entry = self.written.get(key)?;
        self.judge(key, &entry.value, read(&row(key).form, &entry.value))
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
