//! Threads for what blocks: a bounded pool, whose threads are started when they are needed and kept. A job tells the request
//! that waits for it through the engine's inbox, so that nothing of the loop is touched here.
use crate::CoreId;
use crate::inbox::Remote;
use crate::pool::Pool;
use nix::sys::signal::SigSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Most threads of a worker (libuv has 4, tokio 512; the jobs here are look-ups of names and calls of drivers).
const MOST_THREADS: usize = 32;

/// Something to do on a thread.
struct Job {
    run: Box<dyn FnOnce() + Send>,
    done: Arc<AtomicBool>,
    core: CoreId,
    remote: Remote,
}

#[derive(Default)]
struct Shared {
    jobs: Pool<Job>,
    started: AtomicUsize,
}

/// See the module.
#[derive(Default)]
pub(super) struct Blocking(Arc<Shared>);

impl std::fmt::Debug for Blocking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocking").field("threads", &self.0.started).finish_non_exhaustive()
    }
}

impl Blocking {
    /// Has a thread run this, and wake the core when it is done; what it gives becomes true before that. An error if there is no
    /// thread and none can be started: then it was not run.
    pub(super) fn run(
        &self,
        run: impl FnOnce() + Send + 'static,
        core: CoreId,
        remote: Remote,
    ) -> io::Result<Arc<AtomicBool>> {
        if self.0.started.load(Relaxed) == 0 {
            Shared::start(&self.0)?;
        }
        let done = Arc::new(AtomicBool::new(false));
        self.0.jobs.push(Job { run: Box::new(run), done: Arc::clone(&done), core, remote });
        Ok(done)
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        self.0.jobs.close();
    }
}

impl Shared {
    fn start(shared: &Arc<Shared>) -> io::Result<()> {
        let before = shared.started.fetch_add(1, Relaxed);
        if before >= MOST_THREADS {
            shared.started.fetch_sub(1, Relaxed);
            return Ok(());
        }
        let here = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("blocking".to_owned()).spawn(move || {
            // Signals are the loop's.
            let _ = SigSet::all().thread_block();
            here.work();
        });
        if thread.is_err() {
            shared.started.fetch_sub(1, Relaxed);
        }
        thread.map(drop)
    }

    fn work(self: &Arc<Self>) {
        loop {
            while let Some(taken) = self.jobs.take() {
                if taken.is_last {
                    // If none can be started, this thread takes the next job after this one.
                    let _ = Shared::start(self);
                }
                let Job { run, done, core, remote } = taken.job;
                run();
                done.store(true, std::sync::atomic::Ordering::Release);
                // A loop that has ended waits for nothing.
                let _ = remote.wake(core);
            }
            if !self.jobs.wait() {
                return;
            }
            self.jobs.arrive();
        }
    }
}
