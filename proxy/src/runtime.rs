//! Threads and runtimes of the proxy: `proxy.threads` threads serve, each with a current-thread runtime and a pingora
//! `HttpProxy` of its own; the calling thread watches signals, the drain and the admin endpoint. Called by `run`, after the
//! fork. Everything that can fail at start fails before the first thread exists.
use crate::Upstreams;
use crate::accept::{self, Listener};
use crate::access_log::AccessLog;
use crate::admin;
use crate::conn::Front;
use crate::drain::{Drain, DrainWatch};
use crate::error::StartError;
use crate::gateway::{Gateway, Shared};
use crate::link::Links;
use crate::pulse::{self, Heart};
use crate::request_id::RequestIds;
use crate::stats::Stats;
use crate::workers::Workers;
use appliance_config::Settings;
use appliance_config::settings::{Endpoint, Listen};
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Serves until the future that `stop` makes is ready, then drains; calls `ready` when every thread accepts. The number of
/// requests that had to be cut.
pub(crate) fn serve<S: Future<Output = ()>>(
    settings: &Settings,
    listeners: Vec<OwnedFd>,
    admin: Option<TcpListener>,
    upstreams: &Arc<dyn Upstreams>,
    ready: impl FnOnce(),
    stop: impl FnOnce() -> io::Result<S>,
) -> Result<u64, StartError> {
    let now = Instant::now();
    let shared = Arc::new(Shared {
        settings: settings.clone(),
        workers: Workers::new(upstreams.clone(), settings.limits.queue, settings.timeouts.queue),
        ids: RequestIds::new(),
        stats: Stats::new(now),
        heart: Heart::new(settings.proxy.threads, now),
    });
    let (drain, watch) = Drain::new();
    let (alive, gone) = mpsc::channel(1);
    let (starting, mut all_accept) = mpsc::channel(1);
    let prepared: Vec<Prepared> = (0..settings.proxy.threads as usize)
        .map(|index| prepare(index, &shared, &listeners, upstreams, &watch))
        .collect::<Result<_, _>>()?;
    // Each thread has its own, and closes it when the drain begins: one that nobody else has refuses at once then.
    drop(listeners);
    let control = runtime()?;
    let stop = {
        let _inside = control.enter();
        stop().map_err(StartError::Signal)?
    };
    let threads: Vec<JoinHandle<()>> =
        prepared.into_iter().map(|one| one.spawn(&watch, &alive, &starting)).collect::<Result<_, _>>()?;
    drop((alive, starting));
    let cut = control.block_on(async {
        let admin = admin.map(|admin| tokio::spawn(admin::run(admin, shared.clone(), watch.clone())));
        tokio::spawn(pulse::report(shared.clone()));
        all_accept.recv().await;
        ready();
        stop.await;
        let cut = end(&shared, &drain, gone).await;
        if let Some(admin) = admin.filter(|_| upstreams.is_replaced()) {
            // It panics no more than any other task; if it does, nobody waits for it.
            let _ = admin.await;
        }
        cut
    });
    for thread in threads {
        // A thread that panicked has nothing left to wait for, and has said so on standard error.
        let _ = thread.join();
    }
    Ok(cut)
}

/// Drains; the number of requests that had to be cut.
async fn end(shared: &Shared, drain: &Drain, mut gone: mpsc::Receiver<()>) -> u64 {
    drain.begin();
    let graceful = shared.settings.timeouts.graceful;
    if timeout(graceful, gone.recv()).await.is_ok() {
        return 0;
    }
    let running = shared.stats.active.get();
    tracing::warn!(
        requests = running,
        ?graceful,
        "requests were still running at the end of timeouts.graceful and are cut"
    );
    drain.cut();
    running
}

/// A proxy thread, ready to start.
struct Prepared {
    index: usize,
    runtime: Runtime,
    listeners: Vec<Listener>,
    links: Arc<Links>,
    front: Arc<Front>,
}

fn prepare(
    index: usize,
    shared: &Arc<Shared>,
    listeners: &[OwnedFd],
    upstreams: &Arc<dyn Upstreams>,
    watch: &DrainWatch,
) -> Result<Prepared, StartError> {
    let runtime = runtime()?;
    let adopt = |(fd, listen): (&OwnedFd, &Listen)| {
        Listener::adopt(fd, &listen.address)
            .map_err(|source| StartError::Listener { address: spelled(&listen.address), source })
    };
    let listeners = {
        let _inside = runtime.enter();
        listeners.iter().zip(&shared.settings.listen).map(adopt).collect::<Result<_, _>>()?
    };
    let log = Arc::new(AccessLog::new(upstreams.log_style(&shared.settings.log), upstreams.clone()));
    let limits = &shared.settings.limits;
    let links = Links::new(upstreams, limits.stream_window, shared.settings.timeouts.connect);
    let gateway = Gateway::new(shared.clone(), links.clone(), log.clone(), watch.clone());
    let conf = ServerConf {
        threads: 1,
        // `retry.rs` decides; pingora's own limit must not interfere.
        max_retries: usize::MAX,
        ..ServerConf::default()
    };
    let proxy = Arc::new(http_proxy(&Arc::new(conf), gateway));
    let front = Arc::new(Front { proxy, shared: shared.clone(), log });
    Ok(Prepared { index, runtime, listeners, links, front })
}

impl Prepared {
    /// Starts the thread; it drops `starting` when it accepts, and `alive` at its end.
    fn spawn(
        self,
        watch: &DrainWatch,
        alive: &mpsc::Sender<()>,
        starting: &mpsc::Sender<()>,
    ) -> Result<JoinHandle<()>, StartError> {
        let (watch, alive, starting) = (watch.clone(), alive.clone(), starting.clone());
        let Self { index, runtime, listeners, links, front } = self;
        let life = move || {
            runtime.block_on(async {
                let accepting = begin(index, listeners, links, &front, &watch);
                // The loops have their first turn, and with it their sockets, before this task goes on.
                tokio::task::yield_now().await;
                drop(starting);
                serve_all(accepting, &front, watch).await;
            });
            drop(alive);
        };
        std::thread::Builder::new().name("proxy".into()).spawn(life).map_err(StartError::Thread)
    }
}

/// Starts what a proxy thread does; the channel ends with its last connection.
fn begin(
    index: usize,
    listeners: Vec<Listener>,
    links: Arc<Links>,
    front: &Arc<Front>,
    watch: &DrainWatch,
) -> mpsc::Receiver<()> {
    let (alive, gone) = mpsc::channel(1);
    // Before the first request.
    links.tend();
    tokio::spawn(pulse::keep_thread(front.shared.clone(), index, links));
    let log = front.log.clone();
    tokio::spawn(async move { log.flush_for_ever().await });
    for listener in listeners {
        tokio::spawn(accept::run(listener, front.clone(), watch.clone(), alive.clone()));
    }
    gone
}

/// The life of a proxy thread: until the last connection is gone or the patience ends.
async fn serve_all(mut gone: mpsc::Receiver<()>, front: &Front, mut watch: DrainWatch) {
    tokio::select! {
        _ = gone.recv() => {}
        () = watch.cut() => {}
    }
    front.log.flush();
}

fn runtime() -> Result<Runtime, StartError> {
    Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)
}

fn spelled(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(address) => address.to_string(),
        Endpoint::Unix(path) => format!("unix:{}", path.display()),
    }
}
