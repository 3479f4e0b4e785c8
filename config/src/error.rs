//! What can be wrong with a configuration. Every sentence begins with the place (file and line, variable, or command
//! line), names the key, and ends with the way out. All problems of one configuration are reported together.
use std::fmt;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {reason}; correct it, or name another file with --config")]
    Read {
        /// The file as the user named it.
        file: String,
        /// The operating system's words.
        reason: String,
    },
    /// The file is not TOML; what follows the error in the file was not looked at.
    #[error("{place}: `{line}` is not TOML: {reason}")]
    Syntax {
        /// File, number of the line, and of the character in it.
        place: String,
        /// The beginning of the line.
        line: String,
        /// The parser's words, on one line.
        reason: String,
    },
    /// There is no such key or table.
    #[error("{place}: {key}: unknown {kind}; {hint}")]
    Unknown {
        /// Where it is written.
        place: String,
        /// Its full path.
        key: String,
        /// `key` or `table`.
        kind: &'static str,
        /// What was probably meant, or else what there is.
        hint: String,
    },
    /// The value does not fit the key.
    #[error("{place}: {key}: {value} {reason}")]
    Value {
        /// Where it is written.
        place: String,
        /// Its full path.
        key: String,
        /// The value as TOML.
        value: String,
        /// Why it does not fit, and the accepted form.
        reason: String,
    },
    /// Two values cannot both hold.
    #[error("{place}: {key}: {reason}")]
    Conflict {
        /// Where the first of them is written.
        place: String,
        /// The first of them.
        key: String,
        /// Both values, and how to reconcile them.
        reason: String,
    },
    /// Nobody says what application to serve, and the folder does not show it.
    #[error(
        "app.module: {folder} has no app.py, wsgi.py, asgi.py or main.py; name the application, \
         such as `appliance run module:callable` or `module = \"module:callable\"` under [app]"
    )]
    NoModule {
        /// The folder that was searched: `app.chdir`.
        folder: String,
    },
    /// A virtual environment that was found, but has lost its interpreter.
    #[error(
        "app.venv: {folder} ({found}) is a broken virtual environment: it has no bin/python that you can run; \
         make it anew with `python3 -m venv --clear '{folder}'`, or name another one"
    )]
    BrokenVenv {
        /// The virtual environment.
        folder: String,
        /// How it was found: a file name or a variable.
        found: String,
    },
}

impl Error {
    /// Number of the line of the file that it is about.
    fn line(&self) -> Option<usize> {
        match self {
            Error::Unknown { place, .. } | Error::Value { place, .. } | Error::Conflict { place, .. } => {
                place.rsplit_once(':')?.1.parse().ok()
            }
            _ => None,
        }
    }
}

/// Every problem of one configuration, at least one; displays as one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl Errors {
    /// In the order of the file's lines; what has no line comes after them.
    pub(crate) fn in_order(mut problems: Vec<Error>) -> Errors {
        problems.sort_by_key(|problem| problem.line().unwrap_or(usize::MAX));
        Errors(problems)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
