//! The master's part in what others ask for: the verbs of the control socket's clients, and the wishes that an application
//! leaves on the board, become answers and events. What a verb means is in `control/waiting.rs`.
use super::Master;
use crate::control::{self, Answer, Control, Meaning, Stores};
use crate::fleet::Event;
use appliance_worker::board::Wish;
use std::collections::VecDeque;
use std::time::Instant;

impl Master {
    /// Takes what clients ask for: answers it, or lets them wait and tells the fleet.
    pub(super) fn take_verbs(&mut self, events: &mut VecDeque<Event>) {
        let now = Instant::now();
        for (client, verb) in self.control.as_mut().map_or_else(Vec::new, |control| control.turn(now)) {
            let answer = match control::meaning(verb, self.fleet.condition()) {
                Meaning::Tell => Answer::Status(Box::new(self.status(now))),
                Meaning::Plan => self.plan(),
                Meaning::Caches => Answer::Caches(self.stores()),
                Meaning::Switch(switch) => Answer::Done(self.modes.switch(switch, now)),
                Meaning::Ask(question, worker) => {
                    self.ask_workers(client, question, worker, now);
                    continue;
                }
                Meaning::Refuse(why) => Answer::Error(why.to_owned()),
                Meaning::Wait(wait, event) => {
                    events.extend(event);
                    self.tell_clients(|control, now| control.wait_for(client, wait, now));
                    continue;
                }
            };
            self.tell_clients(|control, now| control.say(client, &answer, now));
        }
    }

    /// Where the caches lie; whoever asks opens them by itself, for the master must not.
    fn stores(&self) -> Stores {
        let folder = self.cache_dir.as_ref().map(|dir| dir.path().to_owned());
        Stores { folder, caches: self.settings.caches.clone() }
    }

    /// Takes what the application asks for, when it may not send a signal: a number that it has changed.
    pub(super) fn take_wishes(&mut self, events: &mut VecDeque<Event>) {
        let wishes = [(Wish::Reload, Event::Reload), (Wish::Stop, Event::Stop)];
        for (seen, (wish, event)) in self.asked.iter_mut().zip(wishes) {
            let asked = self.board.asked(wish);
            if std::mem::replace(seen, asked) != asked {
                events.push_back(event);
            }
        }
    }

    /// Speaks to the control clients, if there is a control socket.
    pub(super) fn tell_clients(&mut self, tell: impl FnOnce(&mut Control, Instant)) {
        if let Some(control) = &mut self.control {
            tell(control, Instant::now());
        }
    }
}
