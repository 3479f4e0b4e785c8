//! Loading: reads the file, makes a layer of each source, lets figment merge them (defaults < file < environment <
//! flags), and hands the result to `discover.rs` and `check.rs`. The only file that knows figment. Called by the binary
//! for every command.
use crate::check::{self, check};
use crate::discover::discover;
use crate::error::{Error, Errors};
use crate::form::Form;
use crate::keys::{self, KEYS};
use crate::screen::screen;
use crate::settings::Settings;
use crate::toml_file::{self, Lines};
use crate::written::{Entry, Source, Table, Value, Written};
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider};
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the file that is taken from the current directory when no other is named.
const FILE: &str = "appliance.toml";

/// Start of every environment variable that is a key: `APPLIANCE_WORKERS__COUNT` is `workers.count`.
const PREFIX: &str = "APPLIANCE_";

/// What `load` is asked: everything it may know of the outside world but the files.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The file; `None`: `appliance.toml` in `dir`, if there is one.
    pub file: Option<PathBuf>,
    /// The current directory, absolute. Relative paths in flags and environment belong to it; those in the file belong
    /// to the folder of the file.
    pub dir: PathBuf,
    /// The whole environment; only `APPLIANCE_*` and `VIRTUAL_ENV` are looked at.
    pub env: Vec<(String, String)>,
    /// Flags by key, in order: `("workers.count", "4")`.
    pub flags: Vec<(String, String)>,
    /// Usable CPUs, for `"auto"`; at least 1.
    pub cpus: u32,
}

/// A configuration without problems.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub settings: Settings,
    /// The absolute path of the file it was read from.
    pub file: Option<PathBuf>,
    /// Where each value came from, for [`Loaded::show`].
    pub(crate) written: Written,
}

impl Loaded {
    /// What tells this configuration from others on the machine: its file, else the folder it was looked for in.
    pub fn origin(&self) -> &Path {
        self.file.as_deref().unwrap_or(&self.written.dir)
    }
}

/// Where whoever runs with a configuration can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// `admin.run_dir`.
    pub run_dir: Option<PathBuf>,
    /// As [`Loaded::origin`].
    pub origin: PathBuf,
    /// The origin of one that began when the file that nobody named was not there yet, or still.
    pub earlier: Option<PathBuf>,
    /// Why the file could not be read, or not all of it: what it says of `admin.run_dir` may be missing.
    pub doubts: Option<Errors>,
}

/// Loads a configuration, or tells everything that is wrong with it.
pub fn load(request: &Request) -> Result<Loaded, Errors> {
    let mut problems = Vec::new();
    // What surrounds a broken line would be blamed for what it means without it.
    let (file, mut written) = gather(request, |_| Table::new(), &mut problems);
    discover(&mut written, &request.env, &mut problems);
    let settings = check(&written, request.cpus, &mut problems);
    if problems.is_empty() { Ok(Loaded { settings, file, written }) } else { Err(Errors::in_order(problems)) }
}

/// Reads only what it takes to find the appliance that runs with a configuration. It may be told to stop with a file
/// that it could not be started with any more. An error is about `admin.run_dir` itself.
pub fn locate(request: &Request) -> Result<Whereabouts, Errors> {
    let mut doubts = Vec::new();
    let (file, written) = gather(request, toml_file::salvage, &mut doubts);
    doubts.retain(|problem| matches!(problem, Error::Read { .. } | Error::Syntax { .. }));
    let mut problems = Vec::new();
    let run_dir = check::run_dir(&written, &mut problems);
    if !problems.is_empty() {
        return Err(Errors(problems));
    }
    let other = if file.is_some() { request.dir.clone() } else { request.dir.join(FILE) };
    let earlier = request.file.is_none().then_some(other);
    let origin = file.unwrap_or_else(|| request.dir.clone());
    Ok(Whereabouts { run_dir, origin, earlier, doubts: (!doubts.is_empty()).then_some(Errors(doubts)) })
}

/// The file, and what it, the environment and the flags say. `salvage` is what a file says that is not TOML.
fn gather(
    request: &Request,
    salvage: fn(&str) -> Table,
    problems: &mut Vec<Error>,
) -> (Option<PathBuf>, Written) {
    let file = file_of(request);
    let (name, table, lines) = match &file {
        Some(path) => read(request, path, salvage, problems),
        None => Default::default(),
    };
    let mut layers = vec![defaults(), Layer { source: Source::File(name), table }];
    layers.extend(request.env.iter().filter_map(|(variable, raw)| variable_layer(variable, raw)));
    layers.extend(request.flags.iter().map(|(key, raw)| flag_layer(key, raw)));
    for layer in &mut layers {
        let place = |path: &str| match &layer.source {
            Source::File(name) => lines.place(name, path),
            source => source.to_string(),
        };
        layer.table = screen(std::mem::take(&mut layer.table), &place, problems);
    }
    let folder = file.as_deref().and_then(Path::parent).unwrap_or(&request.dir).to_owned();
    let entries = merge(&layers).collect();
    (file, Written { entries, lines, folder, dir: request.dir.clone() })
}

/// The absolute path of the file to read.
fn file_of(request: &Request) -> Option<PathBuf> {
    match &request.file {
        Some(file) => Some(request.dir.join(file)),
        // A link to nowhere is there too: it is reported, not passed over.
        None => Some(request.dir.join(FILE)).filter(|file| file.symlink_metadata().is_ok()),
    }
}

/// The name by which the user knows the file, its values and its lines; without values if it cannot be read.
fn read(
    request: &Request,
    path: &Path,
    salvage: fn(&str) -> Table,
    problems: &mut Vec<Error>,
) -> (String, Table, Lines) {
    let name = request.file.as_deref().unwrap_or(Path::new(FILE)).display().to_string();
    let text = fs::read(path).map_err(|error| error.to_string());
    let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
    let text = match text {
        Ok(text) => text,
        Err(reason) => {
            problems.push(Error::Read { file: name.clone(), reason });
            return (name, Table::new(), Lines::default());
        }
    };
    match toml_file::read(&text) {
        Ok((table, lines)) => (name, table, lines),
        Err(broken) => {
            let place = format!("{name}:{}:{}", broken.number, broken.column);
            problems.push(Error::Syntax { place, line: broken.line, reason: broken.reason });
            (name, salvage(&text), Lines::default())
        }
    }
}

/// The values of one key in every table below `table`, and the tables themselves: an empty one counts as well.
fn named(figment: &Figment, table: &str, key: &str) -> Vec<(String, figment::value::Value)> {
    use figment::value::Value::Dict;
    let Ok(Dict(_, tables)) = figment.find_value(table) else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in tables {
        if let Dict(_, values) = &value {
            found.extend(values.get(key).map(|value| (format!("{table}.{name}.{key}"), value.clone())));
        }
        found.push((format!("{table}.{name}"), value));
    }
    found
}

/// What one source wrote.
struct Layer {
    source: Source,
    table: Table,
}

impl Provider for Layer {
    /// The name leads from a merged value back to its layer.
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = figment::value::Value::serialize(&self.table)?.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

/// The defaults of the table of keys, but for those of tables that have to be named first.
fn defaults() -> Layer {
    let keys = KEYS.iter().filter(|key| key.by_name().is_none() && key.in_array().is_none());
    let lines = keys.filter_map(|key| Some(format!("{} = {}\n", key.path, key.default?)));
    let (table, _) = toml_file::read(&lines.collect::<String>()).expect("the defaults in keys.rs are TOML");
    Layer { source: Source::Default, table }
}

/// A variable that is a key: `__` separates levels, and case does not matter but in the names of `app.env` and `app.options`.
fn variable_layer(variable: &str, raw: &str) -> Option<Layer> {
    let name = variable.strip_prefix(PREFIX).filter(|name| !is_foreign(name))?;
    let free = tables_of_free_names().find_map(|table| {
        let start = format!("{}__", table.replace('.', "__"));
        let is_below = name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(&start));
        is_below.then(|| format!("{table}.{}", &name[start.len()..]))
    });
    let path = free.unwrap_or_else(|| name.to_ascii_lowercase().replace("__", "."));
    let source = Source::Variable(variable.to_owned());
    Some(Layer { source, table: nested(&path, typed(&path, raw)) })
}

/// Variables with our prefix that are no keys: two are read by the binary, the others Kubernetes sets in every pod
/// beside a Service that happens to be called `appliance`.
fn is_foreign(name: &str) -> bool {
    let kubernetes = ["SERVICE_HOST", "SERVICE_PORT", "PORT_"].iter().any(|start| name.starts_with(start));
    kubernetes || ["ENGINE", "CONFIG", "PORT"].contains(&name)
}

/// The tables in which users choose the names: `app.env`, `app.options`.
fn tables_of_free_names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(|key| matches!(key.form, Form::Variables { .. })).map(|key| key.path)
}

/// The table of free names that a path lies in, and its name there.
fn free_name(path: &str) -> Option<(&'static str, &str)> {
    tables_of_free_names().find_map(|table| Some((table, path.strip_prefix(table)?.strip_prefix('.')?)))
}

fn flag_layer(key: &str, raw: &str) -> Layer {
    Layer { source: Source::CommandLine, table: nested(key, typed(key, raw)) }
}

/// The value that a variable or flag means: numbers, truth values, quoted texts, `[lists]` and `{tables}` as figment
/// reads them, anything else as text. Where only a text can be meant, `0027` and `true` are texts too; what is meant for
/// the application is passed on as it stands, quotes and all.
fn typed(path: &str, raw: &str) -> Value {
    if free_name(path).is_some() {
        return Value::text(raw);
    }
    let parsed = raw.parse::<figment::value::Value>().ok();
    let parsed = parsed.and_then(|value| value.deserialize().ok()).unwrap_or_else(|| Value::text(raw));
    let form = keys::find(path).map(|key| key.form);
    let is_text = matches!(form, Some(Form::Text { .. } | Form::Word { .. }));
    if is_text && !matches!(parsed, Value::Text(_)) { Value::text(raw) } else { parsed }
}

/// `workers.count` and a value, as tables. In a table of free names a dot belongs to the name.
fn nested(path: &str, value: Value) -> Table {
    let split = || path.rsplit_once('.').unwrap_or(("", path));
    let (tables, name) = free_name(path).unwrap_or_else(split);
    let innermost = Table::from([(name.to_owned(), value)]);
    let around = |inner, name: &str| Table::from([(name.to_owned(), Value::Table(inner))]);
    if tables.is_empty() { innermost } else { tables.rsplit('.').fold(innermost, around) }
}

/// The strongest value of each key, with its source.
fn merge(layers: &[Layer]) -> impl Iterator<Item = (String, Entry)> {
    let mut figment = Figment::new();
    for layer in layers {
        figment = figment.merge(layer);
    }
    let mut found: Vec<(String, figment::value::Value)> = Vec::new();
    for key in KEYS {
        if let Some((table, name)) = key.by_name() {
            found.extend(named(&figment, table, name));
            continue;
        }
        match (key.form, figment.find_value(key.path)) {
            // Each variable has a source of its own.
            (Form::Variables { .. }, Ok(figment::value::Value::Dict(_, variables))) => {
                found.extend(
                    variables.into_iter().map(|(name, value)| (format!("{}.{name}", key.path), value)),
                );
            }
            (_, Ok(value)) => found.push((key.path.to_owned(), value)),
            (_, Err(_)) => {}
        }
    }
    let arrays = keys::arrays().into_iter();
    found.extend(arrays.filter_map(|array| Some((array.to_owned(), figment.find_value(array).ok()?))));
    found.into_iter().filter_map(move |(path, value)| {
        let name = &figment.get_metadata(value.tag())?.name;
        let source = layers.iter().map(|layer| &layer.source).find(|source| source.to_string() == *name)?;
        Some((path, Entry { value: value.deserialize().ok()?, source: source.clone() }))
    })
}
