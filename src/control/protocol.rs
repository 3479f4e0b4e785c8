//! What is said on the control socket: one line of JSON asks, lines of JSON answer, the last of them says how it ended.
//! Both sides use this file; nothing here makes a system call. A line from outside is a verb of this list or an error:
//! there is no verb that runs code, names a file or changes a setting.
use super::findings::Told;
use super::status::Status;
use crate::mode::Switch;
use appliance_config::Change;
use appliance_config::settings::Cache;
use appliance_worker::report::Question;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Version of the protocol. It changes when a verb or an answer changes its meaning; a new verb or field is none.
pub const VERSION: u32 = 1;
/// Longest line that is read from a client, in bytes; the longest verb has some forty.
pub const MAX_LINE: usize = 4 * 1024;

/// What the master is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Say how things are.
    Status,
    /// Load the application again and replace the workers; answered when that has ended.
    Reload,
    /// Say what a reload would change in the configuration.
    Plan,
    /// Say where the caches lie.
    Caches,
    /// Finish and exit, or exit at once; answered when everybody has gone.
    Stop {
        /// Nothing is finished.
        now: bool,
    },
    /// Change what the proxies do with requests.
    Switch(Switch),
    /// Change the number of workers; answered when there are as many.
    Scale {
        /// How many.
        workers: u32,
    },
    /// Ask every worker, or this one, and tell what they answer.
    Ask {
        /// What they are asked.
        question: Question,
        /// The only one that is asked.
        worker: Option<u32>,
    },
}

/// The verbs, for whoever sends another.
const VERBS: &str =
    "status, reload, plan, scale, stop, pause, resume, maintenance, requests, stacks and caches";

/// One line of the master's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How things are. Last line.
    Status(Box<Status>),
    /// What each worker answers. Last line.
    Workers(Vec<Told>),
    /// What a reload would change. Last line.
    Plan(Vec<Change>),
    /// Where the caches lie, and how they are configured. Last line.
    Caches(Stores),
    /// What is being done. Further lines follow.
    Progress(String),
    /// It is done. Last line.
    Done(String),
    /// It was not done, and why. Last line.
    Error(String),
}

/// The caches of an appliance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stores {
    /// The folder that they lie in; `None`: there are none.
    pub folder: Option<PathBuf>,
    /// Their settings, in the order of the configuration.
    pub caches: Vec<Cache>,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    #[serde(flatten)]
    answer: Answer,
}

impl Verb {
    /// The line that asks for it.
    pub fn encode(self) -> String {
        let (verb, field) = match self {
            Verb::Status => ("status", String::new()),
            Verb::Reload => ("reload", String::new()),
            Verb::Plan => ("plan", String::new()),
            Verb::Caches => ("caches", String::new()),
            Verb::Scale { workers } => ("scale", format!(",\"workers\":{workers}")),
            Verb::Stop { now: false } => ("stop", String::new()),
            Verb::Stop { now: true } => ("stop", ",\"now\":true".to_owned()),
            Verb::Switch(Switch::Pause) => ("pause", String::new()),
            Verb::Switch(Switch::Resume) => ("resume", String::new()),
            Verb::Switch(Switch::Maintenance(on)) => ("maintenance", format!(",\"on\":{on}")),
            Verb::Ask { question, worker } => {
                let verb = if question == Question::Requests { "requests" } else { "stacks" };
                (verb, worker.map(|id| format!(",\"worker\":{id}")).unwrap_or_default())
            }
        };
        format!("{{\"version\":{VERSION},\"verb\":\"{verb}\"{field}}}\n")
    }

    /// The verb of a line, or a sentence for whoever sent it.
    pub fn decode(line: &[u8]) -> Result<Verb, String> {
        let form = || "a request is one line such as {\"version\":1,\"verb\":\"status\"}".to_owned();
        let mut fields: Map<String, Value> = serde_json::from_slice(line).map_err(|_| form())?;
        let version = fields.remove("version").ok_or_else(form)?;
        if version != VERSION {
            return Err(format!("this master speaks version {VERSION} of the protocol, not {version}"));
        }
        let name = fields.remove("verb").ok_or_else(form)?;
        let verb = match name.as_str() {
            Some("status") => Verb::Status,
            Some("reload") => Verb::Reload,
            Some("plan") => Verb::Plan,
            Some("caches") => Verb::Caches,
            Some("scale") => {
                let workers = take_number(&mut fields, "workers", "a number of workers")?;
                Verb::Scale { workers: workers.ok_or("the verb \"scale\" needs the field \"workers\"")? }
            }
            Some("stop") => Verb::Stop { now: take_flag(&mut fields, "now")?.unwrap_or(false) },
            Some("pause") => Verb::Switch(Switch::Pause),
            Some("resume") => Verb::Switch(Switch::Resume),
            Some("maintenance") => {
                let on =
                    take_flag(&mut fields, "on")?.ok_or("the verb \"maintenance\" needs the field \"on\"")?;
                Verb::Switch(Switch::Maintenance(on))
            }
            Some("requests") => Verb::Ask {
                question: Question::Requests,
                worker: take_number(&mut fields, "worker", "the number of a worker")?,
            },
            Some("stacks") => Verb::Ask {
                question: Question::Stacks,
                worker: take_number(&mut fields, "worker", "the number of a worker")?,
            },
            _ => return Err(format!("there is no verb {name}; there are {VERBS}")),
        };
        match fields.keys().next() {
            None => Ok(verb),
            Some(field) => Err(format!("the verb {name} takes no field {field:?}")),
        }
    }
}

fn take_flag(fields: &mut Map<String, Value>, name: &str) -> Result<Option<bool>, String> {
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(other) => Err(format!("the field {name:?} is true or false, not {other}")),
    }
}

fn take_number(fields: &mut Map<String, Value>, name: &str, meaning: &str) -> Result<Option<u32>, String> {
    let Some(value) = fields.remove(name) else { return Ok(None) };
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.map(Some).ok_or_else(|| format!("the field {name:?} is {meaning}, not {value}"))
}

impl Answer {
    /// The line of this answer.
    pub fn encode(&self) -> String {
        let envelope = Envelope { version: VERSION, answer: self.clone() };
        let line = serde_json::to_string(&envelope).expect("an answer has only texts, numbers and lists");
        line + "\n"
    }

    /// The answer of a line, or what is wrong with whoever sent it.
    pub fn decode(line: &str) -> Result<Answer, String> {
        let foreign = || "it answers with something that is not the control protocol".to_owned();
        let value: Value = serde_json::from_str(line).map_err(|_| foreign())?;
        match value.get("version") {
            Some(version) if *version == VERSION => {}
            Some(version) => {
                return Err(format!(
                    "it speaks version {version} of the control protocol, this appliance {VERSION}; \
                     use the appliance that it was started with, or send it signals"
                ));
            }
            None => return Err(foreign()),
        }
        let envelope: Envelope = serde_json::from_value(value).map_err(|_| foreign())?;
        Ok(envelope.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_comes_back_as_it_was() {
        let ask = |question, worker| Verb::Ask { question, worker };
        for verb in [
            Verb::Status,
            Verb::Reload,
            Verb::Plan,
            Verb::Caches,
            Verb::Scale { workers: 4 },
            Verb::Stop { now: false },
            Verb::Stop { now: true },
            Verb::Switch(Switch::Pause),
            Verb::Switch(Switch::Resume),
            Verb::Switch(Switch::Maintenance(true)),
            Verb::Switch(Switch::Maintenance(false)),
            ask(Question::Requests, None),
            ask(Question::Requests, Some(3)),
            ask(Question::Stacks, None),
            ask(Question::Stacks, Some(1024)),
        ] {
            assert_eq!(Verb::decode(verb.encode().as_bytes()), Ok(verb));
        }
    }

    #[test]
    fn what_is_no_request_is_told_the_form() {
        for line in
            ["", "\n", "status", "[]", "{}", "{\"version\":1}", "{\"verb\":\"stop\"}", "\u{0}", "{\"a\":"]
        {
            let error = Verb::decode(line.as_bytes()).unwrap_err();
            assert!(error.starts_with("a request is one line such as"), "{line}: {error}");
        }
        assert!(Verb::decode(b"\xff\xfe").is_err());
    }

    #[test]
    fn another_version_verb_or_field_is_named() {
        let refusal = |line: &str| Verb::decode(line.as_bytes()).unwrap_err();
        assert_eq!(
            refusal("{\"version\":2,\"verb\":\"status\"}"),
            "this master speaks version 1 of the protocol, not 2"
        );
        assert_eq!(
            refusal("{\"version\":1,\"verb\":\"exec\"}"),
            format!("there is no verb \"exec\"; there are {VERBS}")
        );
        assert!(refusal("{\"version\":1,\"verb\":[\"stop\"]}").starts_with("there is no verb [\"stop\"]"));
        assert_eq!(
            refusal("{\"version\":1,\"verb\":\"status\",\"now\":true}"),
            "the verb \"status\" takes no field \"now\""
        );
        assert_eq!(
            refusal("{\"version\":1,\"verb\":\"stop\",\"now\":\"yes\"}"),
            "the field \"now\" is true or false, not \"yes\""
        );
        assert_eq!(
            refusal("{\"version\":1,\"verb\":\"maintenance\"}"),
            "the verb \"maintenance\" needs the field \"on\""
        );
        assert_eq!(
            refusal("{\"version\":1,\"verb\":\"stacks\",\"worker\":-1}"),
            "the field \"worker\" is the number of a worker, not -1"
        );
    }

    #[test]
    fn every_answer_comes_back_as_it_was_and_is_one_line() {
        for answer in [
            Answer::Status(Box::default()),
            Answer::Workers(vec![Told::default()]),
            Answer::Caches(Stores::default()),
            Answer::Progress("loading".into()),
            Answer::Done("reloaded".into()),
            Answer::Error("Traceback\n  File \"a.py\"\n\u{e9}".into()),
        ] {
            let line = answer.encode();
            assert_eq!(line.find('\n'), Some(line.len() - 1));
            assert_eq!(Answer::decode(&line), Ok(answer));
        }
    }

    #[test]
    fn an_answer_of_another_version_or_program_is_told() {
        let error = Answer::decode("{\"version\":2,\"done\":\"reloaded\"}").unwrap_err();
        assert!(error.contains("version 2 of the control protocol, this appliance 1"), "{error}");
        for line in ["HTTP/1.1 400 Bad Request", "{}", "{\"version\":1}", "{\"version\":1,\"other\":3}"] {
            let error = Answer::decode(line).unwrap_err();
            assert!(error.contains("not the control protocol"), "{error}");
        }
    }
}
