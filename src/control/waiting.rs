//! What a verb means, and what a client that has asked for one waits for: from the fleet's notices to the lines that the
//! client is sent. Pure; `control.rs` has the sockets, `fleet.rs` the policy.
use super::protocol::{Answer, Verb};
use crate::fleet::{Condition, Event};
use crate::mode::Switch;
use crate::notice::Notice;
use appliance_worker::report::Question;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The end of a reload that begins after it was asked for: an earlier one may have read the old files.
    Reload {
        /// It has begun.
        begun: bool,
    },
    /// So many workers.
    Scale {
        /// How many.
        workers: u32,
    },
    /// The end of the master.
    Exit,
}

/// What the master does with a verb.
#[derive(Debug)]
pub enum Meaning {
    /// Tell how things are.
    Tell,
    /// Tell what a reload would change.
    Plan,
    /// Tell where the caches lie.
    Caches,
    /// Tell the fleet, if there is something to tell, and let the client wait.
    Wait(Wait, Option<Event>),
    /// Switch, and say what is the case then.
    Switch(Switch),
    /// Ask the workers, and answer when they have.
    Ask(Question, Option<u32>),
    /// Nothing, and why.
    Refuse(&'static str),
}

/// What `verb` means while the appliance is at `condition`.
pub fn meaning(verb: Verb, condition: Condition) -> Meaning {
    let stops = condition == Condition::Stopping;
    match verb {
        Verb::Status => Meaning::Tell,
        Verb::Plan => Meaning::Plan,
        Verb::Caches => Meaning::Caches,
        Verb::Ask { question, worker } => Meaning::Ask(question, worker),
        Verb::Reload | Verb::Switch(_) if stops => Meaning::Refuse("the appliance is about to stop"),
        Verb::Switch(switch) => Meaning::Switch(switch),
        Verb::Scale { .. } if condition == Condition::CrashLoop => Meaning::Refuse(
            "no worker can live at the moment, so there is nothing to scale; `appliance status` says why, \
             and `appliance reload` loads mended code",
        ),
        Verb::Scale { workers } => Meaning::Wait(Wait::Scale { workers }, Some(Event::Scale { workers })),
        Verb::Reload => Meaning::Wait(Wait::Reload { begun: false }, Some(Event::Reload)),
        Verb::Stop { now: true } => Meaning::Wait(Wait::Exit, Some(Event::StopNow)),
        // A second signal would mean "now".
        Verb::Stop { now: false } if stops => Meaning::Wait(Wait::Exit, None),
        Verb::Stop { now: false } => Meaning::Wait(Wait::Exit, Some(Event::Stop)),
    }
}

impl Wait {
    /// What a client is told at once: that it was heard.
    pub fn heard(self) -> Answer {
        Answer::Progress(match self {
            Wait::Reload { .. } => "reloading".to_owned(),
            Wait::Scale { workers } => format!("scaling to {}", count(workers)),
            Wait::Exit => "stopping".to_owned(),
        })
    }

    /// What the client is told of a notice, if it has waited for it.
    pub fn on(&mut self, notice: &Notice) -> Option<Answer> {
        match self {
            Wait::Exit => match notice {
                Notice::Cut { left } => {
                    Some(Answer::Progress(format!("timeouts.graceful is over; {left} processes are killed")))
                }
                _ => None,
            },
            Wait::Scale { workers } => match notice {
                Notice::Scaled { workers: there } if there == workers => {
                    Some(Answer::Done(format!("scaled to {}", count(*workers))))
                }
                Notice::Scaled { workers: there } | Notice::Scaling { workers: there, .. }
                    if there != workers =>
                {
                    Some(Answer::Error(format!("it was scaled to {} meanwhile", count(*there))))
                }
                Notice::ScaleRefused { workers: asked, why } if asked == workers => {
                    Some(Answer::Error(why.clone()))
                }
                Notice::HeldUp { reason } => Some(Answer::Error(Notice::held_up(reason))),
                Notice::Leaving { .. } | Notice::Stopping => {
                    Some(Answer::Error("the appliance was told to stop meanwhile".to_owned()))
                }
                _ => None,
            },
            Wait::Reload { begun } => match notice {
                Notice::Reloading => {
                    *begun = true;
                    Some(Answer::Progress("loading the application".to_owned()))
                }
                Notice::LoadedAgain { .. } if *begun => {
                    Some(Answer::Progress("replacing the workers".to_owned()))
                }
                Notice::Reloaded { generation, waiting } if *begun => {
                    let mut text = format!("reloaded; every worker is of generation {generation}");
                    if !waiting.is_empty() {
                        text += &format!("\n{}", Notice::wait_for_restart(waiting));
                    }
                    Some(Answer::Done(text))
                }
                Notice::ReloadFailed { text } if *begun => {
                    Some(Answer::Error(format!("reload failed, everything stays as it was: {text}")))
                }
                Notice::HeldUp { reason } if *begun => Some(Answer::Error(format!(
                    "the new configuration is in force, but not all workers could be replaced: {}",
                    Notice::held_up(reason)
                ))),
                Notice::Failed { text } => {
                    Some(Answer::Error(format!("the appliance could not start: {text}")))
                }
                Notice::Stopping => {
                    Some(Answer::Error("the appliance was told to stop meanwhile".to_owned()))
                }
                _ => None,
            },
        }
    }

    /// What the client is told when the master exits.
    pub fn at_exit(self) -> Answer {
        match self {
            Wait::Exit => Answer::Done("stopped".to_owned()),
            Wait::Reload { .. } | Wait::Scale { .. } => Answer::Error("the appliance has stopped".to_owned()),
        }
    }
}

fn count(workers: u32) -> String {
    if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_becomes_an_event() {
        let told = |verb, condition| match meaning(verb, condition) {
            Meaning::Wait(wait, event) => format!("{wait:?} {event:?}"),
            other => format!("{other:?}"),
        };
        let stop = Verb::Stop { now: false };
        assert_eq!(told(Verb::Status, Condition::Stopping), "Tell");
        assert_eq!(told(Verb::Reload, Condition::Serving), "Reload { begun: false } Some(Reload)");
        assert_eq!(told(stop, Condition::Reloading), "Exit Some(Stop)");
        assert_eq!(told(Verb::Stop { now: true }, Condition::Stopping), "Exit Some(StopNow)");
    }

    #[test]
    fn a_second_stop_waits_with_the_first_and_everything_else_comes_too_late() {
        let stop = Verb::Stop { now: false };
        assert!(matches!(meaning(stop, Condition::Stopping), Meaning::Wait(Wait::Exit, None)));
        for verb in [Verb::Reload, Verb::Switch(Switch::Pause), Verb::Switch(Switch::Maintenance(true))] {
            assert!(matches!(meaning(verb, Condition::Stopping), Meaning::Refuse(_)), "{verb:?}");
        }
    }

    #[test]
    fn a_reload_that_was_under_way_is_not_the_one_asked_for() {
        let mut wait = Wait::Reload { begun: false };
        assert_eq!(wait.on(&Notice::Reloaded { generation: 1, waiting: Vec::new() }), None);
        assert_eq!(wait.on(&Notice::ReloadFailed { text: "old".into() }), None);
        assert!(matches!(wait.on(&Notice::Reloading), Some(Answer::Progress(_))));
        assert!(matches!(
            wait.on(&Notice::Reloaded { generation: 2, waiting: Vec::new() }),
            Some(Answer::Done(_))
        ));
    }

    #[test]
    fn a_failed_reload_is_told_with_its_traceback() {
        let mut wait = Wait::Reload { begun: true };
        let told = wait.on(&Notice::ReloadFailed { text: "Traceback\nValueError".into() });
        let Some(Answer::Error(text)) = told else { panic!("{told:?}") };
        assert!(text.ends_with("everything stays as it was: Traceback\nValueError"), "{text}");
    }

    #[test]
    fn a_scale_ends_with_as_many_workers_as_were_asked_for_or_with_the_reason() {
        let wait = || Wait::Scale { workers: 3 };
        let done = Answer::Done("scaled to 3 workers".into());
        assert_eq!(wait().on(&Notice::Scaled { workers: 3 }), Some(done));
        let meanwhile = Answer::Error("it was scaled to 1 worker meanwhile".into());
        assert_eq!(wait().on(&Notice::Scaled { workers: 1 }), Some(meanwhile));
        let refused = |workers| Notice::ScaleRefused { workers, why: "no".into() };
        assert_eq!(wait().on(&refused(3)), Some(Answer::Error("no".into())));
        assert_eq!(wait().on(&refused(9)), None, "that was somebody else's");
        assert!(matches!(wait().on(&Notice::Stopping), Some(Answer::Error(_))));
    }

    #[test]
    fn who_waits_for_workers_that_cannot_live_is_told_why() {
        let notice = Notice::HeldUp { reason: "worker 2 could not start (SIGSEGV)".into() };
        for mut wait in [Wait::Scale { workers: 3 }, Wait::Reload { begun: true }] {
            let Some(Answer::Error(text)) = wait.on(&notice) else { panic!("{wait:?} goes on") };
            assert!(text.ends_with("again and again: worker 2 could not start (SIGSEGV)"), "{text}");
        }
        assert_eq!(Wait::Reload { begun: false }.on(&notice), None);
    }

    #[test]
    fn nothing_is_scaled_while_no_worker_can_live() {
        let meant = meaning(Verb::Scale { workers: 3 }, Condition::CrashLoop);
        assert!(matches!(meant, Meaning::Refuse(why) if why.contains("appliance reload")), "{meant:?}");
        assert!(matches!(meaning(Verb::Scale { workers: 3 }, Condition::Serving), Meaning::Wait(..)));
    }

    #[test]
    fn a_stop_ends_every_wait() {
        assert!(matches!(Wait::Reload { begun: false }.on(&Notice::Stopping), Some(Answer::Error(_))));
        assert_eq!(Wait::Exit.on(&Notice::Stopping), None);
        assert_eq!(Wait::Exit.at_exit(), Answer::Done("stopped".into()));
        assert!(matches!(Wait::Reload { begun: true }.at_exit(), Answer::Error(_)));
    }
}
