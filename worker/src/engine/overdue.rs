//! Requests that take longer than they may. Their deadlines are looked after with one timer, for the nearest of them: a
//! request that ends in time costs no timer. The host ends an overdue request; the engine only says which, and answers in its
//! place where the host cannot.
use super::access::End;
use super::{Due, Engine, Place, WHOLE};
use crate::answer::Cause;
use crate::app::Host;
use crate::conn::Outcome;
use crate::cores::CoreId;
use crate::roll::Roll;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A timer that fires so much too late says that the loop was kept by somebody.
const LATE: Duration = Duration::from_millis(50);
/// What whoever waited meanwhile gets more.
const MOMENT: Duration = Duration::from_millis(200);

/// What the client of an overdue request reads.
pub const SENTENCE: &str = "the request took longer than it may";

impl Engine {
    /// Which request is on which core, for other threads.
    pub fn roll(&self) -> &Arc<Roll> {
        &self.roll
    }

    /// A request is about to be entered on this core.
    pub(super) fn begin_limit(&self, core: CoreId) {
        if let Some(limit) = self.boot.limit {
            let when = self.latest.get() + limit;
            self.deadlines.borrow_mut().set(core, when);
            self.look_after(when);
        }
    }

    /// The limit that a request has set for itself, from now on; `None` takes it back.
    pub fn set_limit(&self, core: CoreId, when: Option<Instant>) {
        if !self.cores.borrow().is_live(core) {
            return;
        }
        self.deadlines.borrow_mut().set_own(core, when);
        if let Some(when) = when {
            self.look_after(when);
        }
    }

    /// Sees to it that the timer fires at `when` or before.
    fn look_after(&self, when: Instant) {
        if self.alarm.get().is_none_or(|(alarm, _)| when < alarm) {
            self.set_alarm(Some(when));
        }
    }

    fn set_alarm(&self, when: Option<Instant>) {
        if let Some((_, timer)) = self.alarm.take() {
            self.cancel_timer(timer);
        }
        let timer = |when| (when, self.timers.borrow_mut().add(when, Due::Overdue));
        self.alarm.set(when.map(timer));
        self.roll.set_due(when);
    }

    /// Whether the request on this core is overdue and must be told to end; if so, it is told again after a pause.
    pub fn take_overdue(&self, core: CoreId) -> bool {
        let is_due = self.deadlines.borrow_mut().take_due(core, Instant::now());
        if is_due {
            let nearest = self.deadlines.borrow().nearest();
            self.set_alarm(nearest);
        }
        is_due
    }

    /// At the end of a turn in which the timer has fired: the host ends whatever is overdue and has not come to its end by
    /// itself. When somebody has kept the loop for long, those that waited meanwhile get a moment more.
    pub(super) fn end_overdue(&self, host: &dyn Host) {
        let now = self.now.get();
        let Some((alarm, _)) = self.alarm.get().filter(|(alarm, _)| *alarm <= now) else { return };
        let was_kept = now.saturating_duration_since(alarm) > LATE;
        if was_kept && !self.is_patient.replace(true) {
            return self.set_alarm(Some(now + MOMENT));
        }
        self.is_patient.set(false);
        let due = self.deadlines.borrow().due(now);
        for core in due {
            if self.take_overdue(core) {
                host.overdue(core);
            }
        }
        let nearest = self.deadlines.borrow().nearest();
        self.set_alarm(nearest);
    }

    /// Ends the response of an overdue request whose thread cannot: with a 504, or with a cut if it `has_begun`. Nothing that
    /// the application sends later can reach anybody.
    pub fn answer_overdue(&self, core: CoreId, has_begun: bool) {
        let Some(Place { conn, stream }) = self.place_of(core) else { return };
        self.wake_others(conn);
        let serving = self.serving.borrow_mut()[core.index as usize].take();
        let head_only = serving.is_some_and(|serving| serving.head_only);
        let now = Instant::now();
        let step = match (stream, has_begun) {
            (WHOLE, true) => self.tell(conn, |http, cx| {
                http.core = None;
                http.line.iter_mut().for_each(|line| line.abort(Cause::TimedOut));
                self.end_line(http, End::Answered(Outcome::Cut), now);
                http.conn.abort(cx);
                http.conn.finish(false, cx)
            }),
            (WHOLE, false) => self.tell(conn, |http, cx| {
                http.core = None;
                self.end_line(http, End::refused(504, Cause::TimedOut, SENTENCE, head_only), now);
                http.conn.reject(504, SENTENCE, head_only, cx)
            }),
            (_, true) => self.on_link(conn, |link| link.abort(stream, core, Cause::TimedOut)).and(None),
            (_, false) => {
                let date = self.date.borrow();
                let reject = |link: &mut crate::links::Link<_>| {
                    link.reject(stream, (504, Cause::TimedOut), SENTENCE, &date, head_only);
                };
                self.on_link(conn, reject).and(None)
            }
        };
        if let Some(step) = step {
            self.follow(conn, step);
        }
        // Whoever waits for the client's body, or for room, waits for nothing any more.
        self.wake(core);
    }
}
