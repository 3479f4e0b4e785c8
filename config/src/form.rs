//! The forms a value may have. A [`Form`] is part of the key's row in `keys.rs`; it reads a value, or refuses it with the
//! rest of a sentence that begins with the value: `is not a number of workers; write a whole number from 1 to 1024`.
//! Knows no key, no place and no other value.
use crate::units;
use crate::written::Value;
use std::fmt;
use std::time::Duration;

/// What may be written for a key; displays as the end of "write …".
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// A whole number.
    Whole {
        /// What the number is, with its article.
        what: &'static str,
        /// Smallest accepted.
        least: i64,
        /// Largest accepted.
        most: i64,
        /// Whether `"auto"` is accepted too; what it stands for is up to the caller.
        auto: bool,
    },
    /// A duration with its unit.
    Duration {
        /// Whether a bare `0` is accepted, for "none".
        zero: bool,
    },
    /// A size with its unit.
    Size {
        /// Smallest accepted, as text.
        least: &'static str,
        /// Largest accepted, as text.
        most: &'static str,
    },
    /// `true` or `false`.
    Flag,
    /// One of a few words.
    Word {
        /// What the word chooses, with its article.
        what: &'static str,
        /// The words.
        words: &'static [&'static str],
    },
    /// One text, which `units.rs` may read further.
    Text {
        /// What the text is, with its article.
        what: &'static str,
        /// An example of it.
        write: &'static str,
    },
    /// A list of such texts; a single text counts as a list of one.
    Texts {
        /// What each text is, with its article.
        what: &'static str,
        /// An example of the list.
        write: &'static str,
    },
    /// A table of texts with free names.
    Variables {
        /// How the table is written.
        table: &'static str,
    },
    /// An address, a list of addresses, or tables with an `address` each.
    Listeners,
}

/// Shortest and longest duration that any time-out may have.
const DURATIONS: (&str, &str) = ("1ms", "24h");

impl Form {
    /// Why a value that is not of this form is refused.
    pub fn refusal(&self) -> String {
        let what = match self {
            Form::Whole { what, .. }
            | Form::Word { what, .. }
            | Form::Text { what, .. }
            | Form::Texts { what, .. } => what,
            Form::Duration { .. } => "a duration",
            Form::Size { .. } => "a size",
            Form::Flag => "true or false",
            Form::Variables { .. } => "a table of texts",
            Form::Listeners => "a listening address",
        };
        format!("is not {what}; write {self}")
    }

    /// Reads a whole number within the bounds.
    pub(crate) fn whole(&self, value: &Value) -> Result<i64, String> {
        match (self, value) {
            (Form::Whole { least, most, .. }, Value::Whole(n)) if (least..=most).contains(&n) => Ok(*n),
            _ => Err(self.refusal()),
        }
    }

    /// Reads a duration; a bare `0` only where the form allows it.
    pub(crate) fn duration(&self, value: &Value) -> Result<Duration, String> {
        match (self, value.bare().as_str()) {
            (Form::Duration { zero: true }, "0") => return Ok(Duration::ZERO),
            (_, number) if lacks_unit(value) => {
                return Err(format!("has no unit; write \"{number}s\" for seconds"));
            }
            _ => {}
        }
        let read = value.as_text().and_then(units::duration).ok_or_else(|| self.refusal())?;
        let (least, most) = DURATIONS;
        let within = units::duration(least) <= Some(read) && Some(read) <= units::duration(most);
        if within { Ok(read) } else { Err(format!("is out of range; write {self}")) }
    }

    /// Reads a size in bytes within the bounds.
    pub(crate) fn size(&self, value: &Value) -> Result<u64, String> {
        if lacks_unit(value) {
            return Err(format!("has no unit; write \"{}B\" for bytes", value.bare()));
        }
        let read = value.as_text().and_then(units::size).ok_or_else(|| self.refusal())?;
        match self {
            Form::Size { least, most }
                if units::size(least) <= Some(read) && Some(read) <= units::size(most) =>
            {
                Ok(read)
            }
            _ => Err(format!("is out of range; write {self}")),
        }
    }

    /// Reads a truth value.
    pub(crate) fn flag(&self, value: &Value) -> Result<bool, String> {
        match value {
            Value::Flag(flag) => Ok(*flag),
            _ => Err(self.refusal()),
        }
    }

    /// Reads one of the words.
    pub(crate) fn word(&self, value: &Value) -> Result<&'static str, String> {
        let Form::Word { words, .. } = self else { return Err(self.refusal()) };
        let found = words.iter().find(|word| value.as_text() == Some(word));
        found.copied().ok_or_else(|| self.refusal())
    }

    /// Reads a text that `parse` understands. None of them may have a NUL in it: most become paths or names of the system's.
    pub(crate) fn text<T>(&self, value: &Value, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        value.as_text().filter(|text| !text.contains('\0')).and_then(parse).ok_or_else(|| self.refusal())
    }
}

/// Whether it is a number to which only a unit is missing.
fn lacks_unit(value: &Value) -> bool {
    value.is_bare_number() && value.bare() != "0" && !value.bare().starts_with('-')
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Whole { least, most, auto, .. } => {
                let auto = if *auto { ", or \"auto\"" } else { "" };
                write!(f, "a whole number from {least} to {most}{auto}")
            }
            Form::Duration { zero } => {
                let none = if *zero { ", or 0 for none" } else { "" };
                let (least, most) = DURATIONS;
                write!(f, "a whole number of ms, s, m or h, from \"{least}\" to \"{most}\"{none}")
            }
            Form::Size { least, most } => {
                write!(f, "a whole number of B, KiB, MiB or GiB, from \"{least}\" to \"{most}\"")
            }
            Form::Flag => f.write_str("true or false, without quotes"),
            Form::Word { words, .. } => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                f.write_str(&words.join(" or "))
            }
            Form::Text { write, .. } | Form::Texts { write, .. } => f.write_str(write),
            Form::Variables { table } => write!(f, "`NAME = \"value\"` lines under {table}"),
            Form::Listeners => f.write_str(
                r#""127.0.0.1:8080", ":8080" for all addresses, "[::1]:8080" or "unix:/run/app.sock""#,
            ),
        }
    }
}
