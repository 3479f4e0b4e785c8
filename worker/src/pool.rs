//! The queue of a thread pool: jobs in the order they came, and the threads that wait for one. At most one thread is on its
//! way to the queue at any time, and it calls the next when it has taken a job and leaves another behind. So a short job
//! does not wake a thread if one that runs will be back at once, as is the case for threads that share a lock like Python's;
//! and a thread that blocks has its successor running. It starts no threads; it says when there are too few.
use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub struct Pool<J> {
    state: Mutex<State<J>>,
    bell: Condvar,
}

#[derive(Debug)]
struct State<J> {
    jobs: VecDeque<J>,
    /// Threads that wait.
    idle: usize,
    /// One of them has been woken and has not looked yet.
    is_called: bool,
    is_closed: bool,
}

/// A job, and whether somebody is there for the next one.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken<J> {
    /// What is to be done.
    pub job: J,
    /// No other thread waits or is on its way: if this one blocks, the next job does.
    pub is_last: bool,
}

impl<J> Default for Pool<J> {
    fn default() -> Pool<J> {
        let state = State { jobs: VecDeque::new(), idle: 0, is_called: false, is_closed: false };
        Pool { state: Mutex::new(state), bell: Condvar::new() }
    }
}

impl<J> Pool<J> {
    fn state(&self) -> MutexGuard<'_, State<J>> {
        // Nothing that can panic happens under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a thread, if there is a job for it and none is on its way.
    fn call(&self, mut state: MutexGuard<'_, State<J>>) {
        if !state.jobs.is_empty() && state.idle > 0 && !mem::replace(&mut state.is_called, true) {
            drop(state);
            self.bell.notify_one();
        }
    }

    /// Adds a job.
    pub fn push(&self, job: J) {
        let mut state = self.state();
        state.jobs.push_back(job);
        self.call(state);
    }

    /// Whether more jobs wait than threads.
    pub fn is_short(&self) -> bool {
        let state = self.state();
        state.idle < state.jobs.len()
    }

    /// The next job, if there is one. Never waits.
    pub fn take(&self) -> Option<Taken<J>> {
        let mut state = self.state();
        let job = state.jobs.pop_front()?;
        let is_last = state.idle == 0 && !state.is_called;
        self.call(state);
        Some(Taken { job, is_last })
    }

    /// Waits for a job, which somebody else may take before; false when there will be none any more.
    pub fn wait(&self) -> bool {
        let mut state = self.state();
        state.idle += 1;
        while state.jobs.is_empty() && !state.is_closed {
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            if state.jobs.is_empty() {
                state.is_called = false;
            }
        }
        state.idle -= 1;
        !state.is_closed || !state.jobs.is_empty()
    }

    /// A thread that came back from [`Pool::wait`] has arrived: the next one may be called.
    pub fn arrive(&self) {
        self.state().is_called = false;
    }

    /// No more jobs come: the threads that wait, and those that will, are sent home.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.bell.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::{Duration, Instant};

    /// Waits until so many threads wait for a job.
    fn until_idle<J>(pool: &Pool<J>, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while pool.state().idle != count {
            assert!(Instant::now() < deadline, "there are not {count} threads that wait");
            thread::yield_now();
        }
    }

    #[test]
    fn jobs_are_taken_in_the_order_they_came() {
        let pool = Pool::default();
        (1..=3).for_each(|job| pool.push(job));
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken.iter().map(|taken| taken.job).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(taken.iter().all(|taken| taken.is_last), "nobody waits");
    }

    #[test]
    fn one_thread_is_called_at_a_time_and_calls_the_next_when_it_has_taken_a_job() {
        let pool = Pool::default();
        // As if two threads waited.
        pool.state().idle = 2;
        pool.push("first");
        pool.push("second");
        assert!(pool.state().is_called);
        pool.arrive();
        assert_eq!(pool.take(), Some(Taken { job: "first", is_last: false }));
        assert!(pool.state().is_called, "for the job that is left");
        pool.arrive();
        assert_eq!(pool.take(), Some(Taken { job: "second", is_last: false }));
        assert!(!pool.state().is_called, "no job is left");
        pool.state().idle = 0;
        pool.push("third");
        assert!(!pool.state().is_called, "nobody waits");
        assert_eq!(pool.take(), Some(Taken { job: "third", is_last: true }));
    }

    #[test]
    fn a_thread_that_finds_its_job_taken_waits_on_and_can_be_called_again() {
        let pool = Pool::default();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                while pool.wait() {
                    pool.arrive();
                    if pool.take().is_some_and(|taken| taken.job == "its own") {
                        return;
                    }
                }
            });
            for _ in 0..1000 {
                pool.push("anybody's");
                pool.take();
            }
            pool.push("its own");
            let deadline = Instant::now() + Duration::from_secs(10);
            while !waiting.is_finished() && Instant::now() < deadline {
                thread::yield_now();
            }
            let was_called = waiting.is_finished();
            pool.close();
            assert!(was_called, "it was not called");
        });
    }

    #[test]
    fn a_closed_pool_sends_everybody_home() {
        let pool = Pool::<()>::default();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.wait());
            until_idle(&pool, 1);
            pool.close();
            assert!(!waiting.join().unwrap());
        });
        assert!(!pool.wait(), "also those that come later");
    }
}
