//! What the command line means, and what it refuses.
use super::*;
use clap::CommandFactory;

fn asked(line: &str) -> Result<Asked, String> {
    let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
    let source = match cli.command {
        Command::Run(source)
        | Command::Status { source, .. }
        | Command::Reload { source, .. }
        | Command::Scale { source, .. }
        | Command::Stop { source, .. }
        | Command::Pause(source)
        | Command::Resume(source)
        | Command::Maintenance { source, .. }
        | Command::Top(source)
        | Command::Requests(Asking { source, .. })
        | Command::Stacks(Asking { source, .. })
        | Command::Cache(CacheCommand::Keys(CacheAt { source, .. }))
        | Command::Cache(CacheCommand::Get { at: CacheAt { source, .. }, .. })
        | Command::Cache(CacheCommand::Set { at: CacheAt { source, .. }, .. })
        | Command::Cache(CacheCommand::Del { at: CacheAt { source, .. }, .. })
        | Command::Cache(CacheCommand::Stats { at: CacheAt { source, .. }, .. })
        | Command::Check(source)
        | Command::Config(ConfigCommand::Show(source)) => source,
        Command::PythonPackage { .. } => return Err("it is about no configuration".to_owned()),
    };
    let is_dir = |path: &Path| path == Path::new("/home/site");
    let is_file = |path: &Path| path == Path::new("/home/app.py") || path == Path::new("/home/my.toml");
    source.asked(Path::new("/home"), Some("env.toml".into()), is_dir, is_file)
}

fn flags(line: &str) -> Vec<(String, String)> {
    asked(line).unwrap().flags
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn a_command_s_own_arguments_do_not_stand_below_the_configuration() {
    for (command, own) in [("stop", "now"), ("status", "json"), ("reload", "plan"), ("requests", "worker")] {
        let mut cli = Cli::command();
        let help = cli.find_subcommand_mut(command).unwrap().render_long_help().to_string();
        let at = |what: &str| help.find(what).unwrap_or_else(|| panic!("no {what} in\n{help}"));
        assert!(at(&format!("--{own}")) < at("Configuration;"), "{help}");
        assert!(at("Arguments:") < at("Options:"), "{help}");
    }
}

#[test]
fn a_target_is_a_folder_or_an_application() {
    assert_eq!(asked("appliance run").unwrap().dir, Path::new("/home"));
    assert_eq!(asked("appliance run site").unwrap().dir, Path::new("/home/site"));
    assert_eq!(flags("appliance run shop:app"), pairs(&[("app.module", "shop:app")]));
    assert_eq!(flags("appliance check shop"), pairs(&[("app.module", "shop")]));
}

#[test]
fn a_wrong_target_is_told_what_to_write() {
    let error = asked("appliance run app.py").unwrap_err();
    assert_eq!(error, "app.py is a file; name the application in it as app:callable, for example app:app");
    let error = asked("appliance run ./app.py").unwrap_err();
    assert!(error.ends_with("as app:callable, for example app:app"), "{error}");
    let error = asked("appliance run /home/app.py").unwrap_err();
    assert!(
        error.ends_with("name the folder that it is in, or an application as module:callable"),
        "{error}"
    );
    assert_eq!(
        asked("appliance run my.toml").unwrap_err(),
        "my.toml is a file; to use it, write --config my.toml"
    );
    assert!(asked("appliance run no/such").unwrap_err().starts_with("no/such: there is no such folder"));
}

#[test]
fn named_flags_are_short_for_set() {
    let line = "appliance run --set log.access=false --listen :80 --listen unix:/run/a.sock --workers auto --cores 5 \
                --venv .venv --python python3.12 --native-base-port 8000 --log-level debug --log-format json";
    let expected = [
        ("log.access", "false"),
        ("listen", r#"[":80", "unix:/run/a.sock"]"#),
        ("workers.count", "auto"),
        ("workers.cores", "5"),
        ("app.venv", "/home/.venv"),
        ("app.python", "python3.12"),
        ("native.base_port", "8000"),
        ("log.level", "debug"),
        ("log.format", "json"),
    ];
    assert_eq!(flags(line), pairs(&expected));
}

#[test]
fn a_relative_interpreter_starts_from_the_current_folder() {
    assert_eq!(flags("appliance run site --python bin/py"), pairs(&[("app.python", "/home/bin/py")]));
}

#[test]
fn the_config_flag_goes_before_the_environment() {
    assert_eq!(asked("appliance config show --config a.toml").unwrap().file, Some("/home/a.toml".into()));
    assert_eq!(asked("appliance check").unwrap().file, Some("/home/env.toml".into()));
}

#[test]
fn a_running_appliance_is_named_as_it_was_started() {
    assert_eq!(asked("appliance status site --json").unwrap(), asked("appliance run site").unwrap());
    assert_eq!(asked("appliance maintenance on site").unwrap(), asked("appliance run site").unwrap());
    assert_eq!(
        asked("appliance stacks site --worker 2 --json").unwrap(),
        asked("appliance run site").unwrap()
    );
    assert!(asked("appliance maintenance maybe").is_err());
    assert_eq!(asked("appliance stop --now --config a.toml").unwrap().file, Some("/home/a.toml".into()));
    assert_eq!(flags("appliance reload --set admin.run_dir=/run/a"), pairs(&[("admin.run_dir", "/run/a")]));
}

#[test]
fn a_set_without_a_value_is_told_the_form() {
    let error = asked("appliance run --set workers.count").unwrap_err();
    assert!(error.contains("write it as key=value, for example workers.count=4"), "{error}");
    assert!(asked("appliance run --set =4").is_err());
    assert_eq!(flags("appliance run --set app.env.A=b=c"), pairs(&[("app.env.A", "b=c")]));
}
