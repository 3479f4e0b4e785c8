//! The other side of the control socket: `appliance status`, `reload`, `stop` and the others. Finds the master of a
//! configuration, asks it one thing, and waits for the end of it. A master that is not there, does not answer or speaks another version
//! is a sentence and exit code 1.
use super::ONLY_OWNER;
use super::findings;
use super::place::{self, Viewer};
use super::printable::{self, printable};
use super::protocol::{Answer, Stores, Verb};
use super::table::table;
use crate::error::Error;
use crate::mode::Switch;
use crate::notice;
use crate::privileges;
use crate::spawn;
use crate::survey::MAX_ANSWERS;
use appliance_config::Whereabouts;
use appliance_worker::report::Question;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Pid, Uid};
use serde::Serialize;
use std::io::{BufRead, BufReader, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// A master answers a verb at once, if only to say that it has heard it.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// From the master's last word to its end there is nothing left to wait for.
const GONE_WITHIN_MS: u16 = 5_000;
/// Longest line that is read: what the workers have answered, and as much again for what stands around it. A traceback and
/// a status are much shorter.
const MAX_ANSWER: u64 = 2 * MAX_ANSWERS as u64;

/// `appliance status`.
pub fn status(whereabouts: &Whereabouts, json: bool) -> Result<(), Error> {
    let mut master = Master::find(whereabouts)?;
    let status = master.ask(Verb::Status)?;
    let Answer::Status(status) = status else { return Err(master.odd("it did not tell its status")) };
    notice::print(&if json { as_json(&status) } else { printable(&table(&status)) });
    Ok(())
}

/// `appliance reload`.
pub fn reload(whereabouts: &Whereabouts) -> Result<(), Error> {
    done(&Master::reach(whereabouts)?.ask(Verb::Reload)?);
    Ok(())
}

/// `appliance reload --plan`.
pub fn plan(whereabouts: &Whereabouts) -> Result<(), Error> {
    let mut master = Master::reach(whereabouts)?;
    let Answer::Plan(changes) = master.ask(Verb::Plan)? else {
        return Err(master.odd("it did not tell its plan"));
    };
    let mut lines: Vec<String> = changes.iter().map(|change| printable(&change.to_string())).collect();
    if lines.is_empty() {
        lines.push(
            "the configuration is the one in force; only the application would be loaded anew".to_owned(),
        );
    }
    notice::print(&(lines.join("\n") + "\n"));
    Ok(())
}

/// `appliance scale`.
pub fn scale(whereabouts: &Whereabouts, workers: u32) -> Result<(), Error> {
    done(&Master::find(whereabouts)?.ask(Verb::Scale { workers })?);
    Ok(())
}

/// `appliance stop`.
pub fn stop(whereabouts: &Whereabouts, now: bool) -> Result<(), Error> {
    let mut master = Master::find(whereabouts)?;
    let process = spawn::pidfd_open(master.pid).ok();
    let answer = master.ask(Verb::Stop { now })?;
    // From another process namespace it cannot be watched; its word must do.
    if let Some(process) = process {
        let _ = poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], GONE_WITHIN_MS);
    }
    done(&answer);
    Ok(())
}

/// `appliance pause`, `resume` and `maintenance on|off`.
pub fn switch(whereabouts: &Whereabouts, switch: Switch) -> Result<(), Error> {
    done(&Master::find(whereabouts)?.ask(Verb::Switch(switch))?);
    Ok(())
}

/// `appliance requests` and `stacks`. Who has not answered is said on standard error; nobody at all is a failure.
pub fn ask(
    whereabouts: &Whereabouts,
    question: Question,
    worker: Option<u32>,
    json: bool,
) -> Result<(), Error> {
    let mut master = Master::find(whereabouts)?;
    let answer = master.ask(Verb::Ask { question, worker })?;
    let Answer::Workers(mut told) = answer else {
        return Err(master.odd("it did not tell of its workers"));
    };
    // They come in the order in which the workers answered.
    told.sort_by_key(|told| (told.worker, told.pid));
    let silent = findings::unanswered(&told);
    if !told.is_empty() && silent.len() == told.len() {
        return Err(Error::Refused(silent.join("; ")));
    }
    notice::print(&match question {
        _ if json => as_json(&told),
        Question::Requests => findings::requests_table(&told),
        Question::Stacks => findings::stacks_text(&told),
    });
    silent.iter().for_each(|sentence| notice::say_error(sentence));
    Ok(())
}

/// Where the caches of an appliance lie.
pub fn stores(whereabouts: &Whereabouts) -> Result<Stores, Error> {
    let mut master = Master::find(whereabouts)?;
    match master.ask(Verb::Caches)? {
        Answer::Caches(stores) => Ok(stores),
        _ => Err(master.odd("it did not tell of its caches")),
    }
}

fn done(answer: &Answer) {
    if let Answer::Done(text) = answer {
        notice::print(&(printable(text) + "\n"));
    }
}

fn as_json(answer: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(answer).expect("an answer has only texts, numbers and lists");
    printable::json(&text) + "\n"
}

/// A master that listens.
pub struct Master {
    socket: PathBuf,
    pid: Pid,
    stream: BufReader<UnixStream>,
}

impl Master {
    /// Connects to the master, and tells why it may have been looked for in the wrong place.
    pub fn find(whereabouts: &Whereabouts) -> Result<Master, Error> {
        let master = Master::reach(whereabouts)?;
        if let Some(doubts) = &whereabouts.doubts {
            notice::say_error(doubts);
        }
        Ok(master)
    }

    /// Likewise for those whom the master itself will tell what is wrong with the file.
    fn reach(whereabouts: &Whereabouts) -> Result<Master, Error> {
        Master::connect(whereabouts).map_err(|error| match &whereabouts.doubts {
            Some(doubts) => Error::Usage(format!("{doubts}\n{error}")),
            None => error,
        })
    }

    /// Connects to the first socket that somebody listens on.
    fn connect(whereabouts: &Whereabouts) -> Result<Master, Error> {
        let origin = &whereabouts.origin;
        let sockets = match &whereabouts.run_dir {
            Some(run_dir) => vec![place::in_run_dir(run_dir)],
            None => {
                let origins = std::iter::once(origin).chain(&whereabouts.earlier);
                origins.flat_map(|origin| place::candidates(&Viewer::this(), origin)).collect()
            }
        };
        // Without a folder of its own, each user looks where the user's own masters are.
        let mut why = match whereabouts.run_dir {
            Some(_) => "there is no control socket".to_owned(),
            None => format!("there is no control socket of user {}", privileges::current()),
        };
        for socket in sockets {
            match UnixStream::connect(&socket) {
                Ok(stream) => return Master::at(socket, stream),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    why = format!("{} was left by one that was killed", socket.display());
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(Error::Control { socket, why: ONLY_OWNER.to_owned() });
                }
                Err(error) => return Err(Error::Control { socket, why: error.to_string() }),
            }
        }
        let of = whereabouts.run_dir.as_ref().unwrap_or(origin).clone();
        Err(Error::NotRunning { of, why })
    }

    fn at(socket: PathBuf, stream: UnixStream) -> Result<Master, Error> {
        let prepared = stream.set_read_timeout(Some(HEARD_WITHIN));
        prepared.map_err(Error::system("prepare the control connection"))?;
        let peer = getsockopt(&stream, sockopt::PeerCredentials).map_err(Error::system("ask who listens"))?;
        let (owner, me) = (Uid::from_raw(peer.uid()), Uid::effective());
        if !(owner == me || owner.is_root() || me.is_root()) {
            let why = format!("it belongs to user {owner}, not to you");
            return Err(Error::Control { socket, why });
        }
        Ok(Master { socket, pid: Pid::from_raw(peer.pid()), stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the last answer; on the way, a terminal is shown how it goes.
    pub fn ask(&mut self, verb: Verb) -> Result<Answer, Error> {
        // A master that refuses us has answered and closed already; if it has not, reading fails too.
        let _ = self.stream.get_mut().write_all(verb.encode().as_bytes());
        loop {
            let answer = self.next()?;
            match answer {
                Answer::Progress(text) if std::io::stderr().is_terminal() => {
                    notice::say_progress(&printable(&text));
                }
                Answer::Progress(_) => {}
                Answer::Error(text) => return Err(Error::Refused(printable(&text))),
                last => return Ok(last),
            }
            // It has heard; a reload or a stop takes the time it takes.
            let patient = self.stream.get_ref().set_read_timeout(None);
            patient.map_err(Error::system("prepare the control connection"))?;
        }
    }

    fn next(&mut self) -> Result<Answer, Error> {
        let mut line = String::new();
        match (&mut self.stream).take(MAX_ANSWER).read_line(&mut line) {
            Ok(0) => Err(self.odd("it ended before it answered")),
            Ok(_) => Answer::decode(&line).map_err(|why| self.odd(&why)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(self.odd(&format!("it does not answer within {HEARD_WITHIN:?}; is it stopped?")))
            }
            Err(error) => Err(self.odd(&error.to_string())),
        }
    }

    pub fn odd(&self, why: &str) -> Error {
        let why = format!("the master (pid {}): {}", self.pid, printable(why));
        Error::Control { socket: self.socket.clone(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_nobody_runs_is_said() {
        let run_dir = Some("/no/such/run".into());
        let whereabouts = Whereabouts { run_dir, origin: "/srv".into(), earlier: None, doubts: None };
        let error = status(&whereabouts, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no appliance runs for /no/such/run: there is no control socket; start it with `appliance run`, \
             or say which one is meant as it was said to `run`"
        );
        assert_eq!(error.exit_code(), 1);
    }
}
