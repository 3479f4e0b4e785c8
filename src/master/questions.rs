//! The master's part in surveys of its workers: who is asked, and how what they answer reaches the control client. The
//! rules are in `survey.rs`.
use super::Master;
use crate::child::{Role, Stage};
use crate::control::{Answer, ClientId};
use crate::survey::{Reply, Seat};
use appliance_worker::report::Question;
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

    /// Takes what the workers have answered, and answers the clients who have waited for it.
    pub(super) fn take_answers(&mut self, now: Instant) {
        for (seat, heard) in self.lines.take_all() {
            self.surveys.on_heard(seat, &heard);
        }
        for (client, told, missing) in self.surveys.finish(now) {
            missing.into_iter().for_each(|seat| self.lines.close_if_unfinished(seat));
            self.tell_clients(|control, now| control.say(client, &Answer::Workers(told), now));
        }
    }
}
