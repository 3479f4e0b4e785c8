//! One tracing subscriber per process, to standard error. The binary calls this in the master, the proxy and the template,
//! the engine library again for its own copy of `tracing`. Never called twice in one process for the same copy.
use appliance_config::settings::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Whether log lines are for a human: as configured, or because standard error is a terminal.
pub fn human(log: &Log) -> bool {
    match log.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    }
}

/// Installs the subscriber of this process. A second call is ignored.
pub fn init(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A line that cannot be written (the terminal has gone) is lost; reporting that to the same place would panic.
    let builder = builder.log_internal_errors(false);
    // A second subscriber in one process would be a programming error with no harm to the user: the first one stays.
    let _ = if human(log) {
        builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
}
