//! The command line: arguments → what is asked. Pure: the environment and the file system are looked at by `main.rs`
//! only. A flag with a name is a short way to write `--set key=value`, so that configuration has one set of rules.
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `appliance`, as typed.
#[derive(Debug, Parser)]
#[command(
    name = "appliance",
    version,
    about = "Run web applications: a front proxy, and workers that host them"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve an application until SIGTERM or Ctrl-C
    Run(Source),
    /// Show how a running appliance is: its processes, and what each worker does
    Status {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Read the configuration and load the application anew, replace the workers one by one, and wait for the end of it
    Reload {
        /// Only show what would change in the configuration, and what each change needs
        #[arg(long)]
        plan: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Change the number of workers, and wait until there are as many
    Scale {
        /// Number of workers
        #[arg(value_name = "N", value_parser = number)]
        count: u32,
        #[command(flatten)]
        source: Source,
    },
    /// Finish what runs, and wait until everything has ended
    Stop {
        /// At once: requests under way are cut
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Hold requests back in the proxy
    Pause(Source),
    /// Let requests go that `pause` holds back
    Resume(Source),
    /// Answer every new request with 503, or serve again
    Maintenance {
        /// Whether requests are answered 503 from now on
        #[arg(value_name = "on|off", hide_possible_values = true)]
        state: OnOff,
        #[command(flatten)]
        source: Source,
    },
    /// Watch a running appliance, once a second, on the terminal
    Top(Source),
    /// Show the requests under way in all workers, the oldest first
    Requests(Asking),
    /// Show where each greenlet, task and thread of the workers is
    Stacks(Asking),
    /// Look into a cache, or change it
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Check the configuration, and load what is native of the application, without starting anything (exit code 0 or 64)
    Check(Source),
    /// Write the Python package into a folder, to `pip install` it where no server runs: for tests and type checkers
    PythonPackage {
        /// The folder; it is made if it is not there
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnOff {
    On,
    Off,
}

/// A question to the workers.
#[derive(Debug, Args)]
pub struct Asking {
    /// Ask worker N only
    #[arg(long, value_name = "N", value_parser = number)]
    pub worker: Option<u32>,
    /// As JSON, for programs
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub source: Source,
}

/// The commands below `cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Write the value of a key to standard output, as it is
    Get {
        /// The key
        key: OsString,
        #[command(flatten)]
        at: CacheAt,
    },
    /// Store a value
    Set {
        /// The key
        key: OsString,
        /// The value; "-" reads it from standard input
        value: OsString,
        /// Seconds until it expires; otherwise as the cache is configured
        #[arg(long, value_name = "SECONDS")]
        expires: Option<u64>,
        #[command(flatten)]
        at: CacheAt,
    },
    /// Remove a key
    Del {
        /// The key
        key: OsString,
        #[command(flatten)]
        at: CacheAt,
    },
    /// Write every key, one on a line
    Keys(CacheAt),
    /// Show how full it is, and what has happened in it
    Stats {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: CacheAt,
    },
}

/// Which cache of which appliance.
#[derive(Debug, Args)]
pub struct CacheAt {
    /// The cache; otherwise the first one
    #[arg(long, value_name = "NAME")]
    pub cache: Option<String>,
    #[command(flatten)]
    pub source: Source,
}

impl CacheCommand {
    /// Which cache.
    pub fn at(&self) -> &CacheAt {
        match self {
            CacheCommand::Keys(at)
            | CacheCommand::Get { at, .. }
            | CacheCommand::Set { at, .. }
            | CacheCommand::Del { at, .. }
            | CacheCommand::Stats { at, .. } => at,
        }
    }
}

/// The commands below `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every effective value and where it comes from
    Show(Source),
}

/// Where the configuration comes from; the same for every command. It comes last in each, because its heading holds for all that
/// follows.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Configuration; to reach a running appliance, as it was said to `run`")]
pub struct Source {
    /// An application (`module:callable`, `native:hello`, `libapp.so`), or a folder with an appliance.toml, app.py, wsgi.py,
    /// asgi.py or main.py; default: this folder
    #[arg(help_heading = None)]
    target: Option<String>,
    /// Configuration file [default: appliance.toml if there is one; env: APPLIANCE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any configuration key, for example workers.count=4
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Listen here (127.0.0.1:8080, :8080, unix:/run/app.sock); may be repeated
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Worker processes, or "auto"
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// Requests that one worker runs at once
    #[arg(long, value_name = "N")]
    cores: Option<String>,
    /// Virtual environment of the application
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    /// Python interpreter, where there is no virtual environment
    #[arg(long, value_name = "EXE")]
    python: Option<String>,
    /// Worker N also listens on port P+N
    #[arg(long, value_name = "P")]
    native_base_port: Option<String>,
    /// error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// human, json, or auto: human on a terminal
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// What the configuration is loaded from.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// Folder to look for files in; relative paths in flags start here.
    pub dir: PathBuf,
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Keys and values, the last one of a key wins.
    pub flags: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write it as key=value, for example workers.count=4".into()),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "write the number of workers, or of one, as a whole number such as 4".to_owned())
}

impl Source {
    /// What is asked, seen from the current folder `cwd`. `config` is `$APPLIANCE_CONFIG`; `is_dir` and `is_file`
    /// look into the file system.
    pub fn asked(
        self,
        cwd: &Path,
        config: Option<PathBuf>,
        is_dir: impl Fn(&Path) -> bool,
        is_file: impl Fn(&Path) -> bool,
    ) -> Result<Asked, String> {
        let mut flags = self.set;
        let mut dir = cwd.to_owned();
        if let Some(target) = &self.target {
            let path = cwd.join(target);
            if is_dir(&path) {
                dir = path;
            } else if target.ends_with(".so") {
                flags.push(("app.module".into(), path.display().to_string()));
            } else if is_file(&path) {
                return Err(name_the_module(target));
            } else if target.contains('/') {
                return Err(format!(
                    "{target}: there is no such folder or file; name a folder, or an application as module:callable"
                ));
            } else {
                flags.push(("app.module".into(), target.clone()));
            }
        }
        if !self.listen.is_empty() {
            flags.push(("listen".into(), list(&self.listen)));
        }
        let venv = self.venv.map(|venv| cwd.join(venv).to_string_lossy().into_owned());
        // A name without a slash is looked up on PATH.
        let python = self
            .python
            .map(|exe| if exe.contains('/') { cwd.join(exe).to_string_lossy().into() } else { exe });
        let named = [
            ("workers.count", self.workers),
            ("workers.cores", self.cores),
            ("app.venv", venv),
            ("app.python", python),
            ("native.base_port", self.native_base_port),
            ("log.level", self.log_level),
            ("log.format", self.log_format),
        ];
        flags.extend(named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        let file = self.config.or(config).map(|file| cwd.join(file));
        Ok(Asked { dir, file, flags })
    }
}

/// What somebody meant who named a file.
fn name_the_module(file: &str) -> String {
    if file.ends_with(".toml") {
        return format!("{file} is a file; to use it, write --config {file}");
    }
    let name = file.strip_prefix("./").unwrap_or(file);
    let Some(module) = name.strip_suffix(".py").filter(|name| !name.contains("..") && !name.starts_with('/'))
    else {
        return format!(
            "{file} is a file; name the folder that it is in, or an application as module:callable"
        );
    };
    let module = module.replace('/', ".");
    format!("{file} is a file; name the application in it as {module}:callable, for example {module}:app")
}

/// A TOML list of strings.
fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests;
