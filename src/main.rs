//! `appliance`: parse, load, log, run, exit code. Exit codes: 0 done, 64 usage or configuration, 1 start-up
//! failed, or a running appliance did not do what was asked.
//! Read on in `master.rs`, then `fleet.rs`, then `template.rs`.
mod activation;
mod bridge;
mod cache;
mod cache_dir;
mod channel;
mod child;
mod cli;
mod control;
mod doors;
mod engine;
mod error;
mod exposition;
mod fleet;
mod interpreter;
mod load;
mod lock;
mod master;
mod message;
mod mode;
mod monitors;
mod notice;
mod notify;
mod privileges;
mod python_package;
mod run_dir;
mod schedule;
mod signals;
mod sockets;
mod spawn;
mod survey;
mod switchboard;
mod template;
mod top;
mod touch;
mod trial;
mod upcoming;
mod worker;

use appliance_worker::report::Question;
use appliance_worker::{abi, logging};
use clap::Parser;
use cli::{Asking, Cli, Command, ConfigCommand, OnOff};
use control::client;
use error::Error;
use load::{load, locate, request};
use mode::Switch;
use std::process::ExitCode;

/// pingora allocates a 64 KiB buffer for each request; glibc consolidates its heap and returns pages at every one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let code = match Cli::try_parse() {
        Ok(cli) => run(cli).unwrap_or_else(|error| {
            notice::say_error(&error);
            error.exit_code()
        }),
        Err(usage) => {
            // Nobody is left to be told that the output is closed.
            let _ = usage.print();
            if usage.use_stderr() { abi::EXIT_USAGE } else { abi::EXIT_DONE }
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn run(cli: Cli) -> Result<i32, Error> {
    match cli.command {
        Command::Run(source) => {
            let request = request(source)?;
            let loaded = load(&request)?;
            logging::init(&loaded.settings.log);
            return master::run(request, loaded);
        }
        Command::Status { source, json } => client::status(&locate(source)?, json)?,
        Command::Reload { source, plan: true } => client::plan(&locate(source)?)?,
        Command::Reload { source, plan: false } => client::reload(&locate(source)?)?,
        Command::Scale { count, source } => client::scale(&locate(source)?, count)?,
        Command::Stop { source, now } => client::stop(&locate(source)?, now)?,
        Command::Pause(source) => client::switch(&locate(source)?, Switch::Pause)?,
        Command::Resume(source) => client::switch(&locate(source)?, Switch::Resume)?,
        Command::Maintenance { state, source } => {
            client::switch(&locate(source)?, Switch::Maintenance(state == OnOff::On))?;
        }
        Command::Top(source) => top::run(locate(source)?)?,
        Command::Requests(asking) => ask(asking, Question::Requests)?,
        Command::Stacks(asking) => ask(asking, Question::Stacks)?,
        Command::Cache(command) => cache::run(&command, &locate(command.at().source.clone())?)?,
        Command::Check(source) => {
            let loaded = load(&request(source)?)?;
            trial::run(&loaded.settings)?;
            notice::say_checked(loaded.file.as_deref());
        }
        Command::PythonPackage { folder } => python_package::write(&folder)?,
        Command::Config(ConfigCommand::Show(source)) => notice::print(&load(&request(source)?)?.show()),
    }
    Ok(abi::EXIT_DONE)
}

fn ask(asking: Asking, question: Question) -> Result<(), Error> {
    client::ask(&locate(asking.source)?, question, asking.worker, asking.json)
}
