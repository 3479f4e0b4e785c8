//! The master's part in what it asks its workers and what they say: who is asked, how what they answer reaches the control
//! client, and what their news mean. The rules are in `survey.rs`.
use super::Master;
use crate::child::{Child, Role, Stage};
use crate::control::{Answer, ClientId};
use crate::fleet::Event;
use crate::survey::{Reply, Said, Seat};
use appliance_worker::report::{News, Question};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

impl Master {
    /// Asks every worker, or the processes of worker `only`; the client is answered by [`Master::take_answers`].
    pub(super) fn ask_workers(
        &mut self,
        client: ClientId,
        question: Question,
        only: Option<u32>,
        now: Instant,
    ) {
        let mut replies = Vec::new();
        for child in self.fleet.children() {
            let Role::Worker(id) = child.role else { continue };
            if only.is_some_and(|only| only != id) {
                continue;
            }
            let seat: Seat = (id, child.life);
            let asked = match child.stage {
                Stage::Booting => Err("it is still starting".to_owned()),
                Stage::Ready | Stage::Retiring | Stage::Leaving => self.lines.ask(seat, question),
            };
            replies.push(Reply::of(seat, child.pid.as_raw(), asked));
        }
        let begun = match only {
            Some(id) if replies.is_empty() => Err(format!("no process of worker {id} runs")),
            _ => self.surveys.begin(client, question, replies, now),
        };
        if let Err(why) = begun {
            self.tell_clients(|control, now| control.say(client, &Answer::Error(why), now));
        }
    }

    /// Takes what the workers have said, and answers the clients who have waited for it.
    pub(super) fn take_answers(&mut self, events: &mut VecDeque<Event>, now: Instant) {
        for (seat, heard) in self.lines.take_all() {
            match heard {
                Ok(Said::News(News::Worn)) => events.extend(self.worn(seat)),
                Ok(Said::News(News::Signal(number))) => self.switchboard.raise(number),
                Ok(Said::News(News::Registry(registry))) => self.on_registry(seat, &registry),
                heard => self.surveys.on_heard(seat, &heard),
            }
        }
        for (client, told, missing) in self.surveys.finish(now) {
            missing.into_iter().for_each(|seat| self.lines.close_if_unfinished(seat));
            self.tell_clients(|control, now| control.say(client, &Answer::Workers(told), now));
        }
    }

    /// A worker says that it is worn; what counts is what it has published.
    fn worn(&self, (worker, life): Seat) -> Option<Event> {
        let is_it = |child: &&Child| child.role == Role::Worker(worker) && child.life == life;
        let pid = self.fleet.children().iter().find(is_it)?.pid;
        Some(Event::Worn { pid, requests: self.board.slot(worker, life).requests.load(Relaxed) })
    }
}
