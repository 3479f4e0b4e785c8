//! One tracing subscriber per process, to standard error. The binary calls this in the master, the proxy and the template,
//! the engine library again for its own copy of `tracing`. Never called twice in one process for the same copy.
use appliance_config::settings::{Log, LogFormat};
use appliance_link::access::Style;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;

mod outlet;
pub use outlet::write;

/// Whether log lines are for a human: as configured, or because standard error is a terminal.
pub fn human(log: &Log) -> bool {
    match log.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    }
}

/// How lines of the access log look; `None`: it is off.
pub fn access_style(log: &Log) -> Option<Style> {
    log.access.then(|| if human(log) { Style::Human } else { Style::Json })
}

/// Changes the filter of the subscriber, whose type it hides.
type SetFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// How `set_level` reaches the subscriber.
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Changes what is logged from now on, in this process. Without a subscriber nothing is.
pub fn set_level(level: &str) {
    if let Some(set_filter) = SET_FILTER.get() {
        set_filter(filter(level));
    }
}

/// The configuration has been checked; what cannot be read all the same means the default.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Remembers how to change the filter behind `handle`.
fn keep<S: 'static>(handle: Handle<EnvFilter, S>) {
    let set_filter = move |filter| {
        // Fails only when the subscriber is gone, which lives as long as the process.
        let _ = handle.reload(filter);
    };
    let _ = SET_FILTER.set(Box::new(set_filter));
}

/// Installs the subscriber of this process. A second call is ignored.
pub fn init(log: &Log) {
    let filter = filter(&log.level);
    outlet::set_human(human(log));
    let builder = tracing_subscriber::fmt().with_writer(|| outlet::Through);
    // A second subscriber in one process would be a programming error with no harm to the user: the first one stays.
    let _ = if human(log) {
        let builder = builder.with_target(false).with_ansi(std::io::stderr().is_terminal());
        let builder = builder.with_env_filter(filter).with_filter_reloading();
        keep(builder.reload_handle());
        builder.try_init()
    } else {
        let builder = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
        let builder = builder.with_env_filter(filter).with_filter_reloading();
        keep(builder.reload_handle());
        builder.try_init()
    };
}
