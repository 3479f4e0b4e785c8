//! Broken configurations, and the exact sentences they get. `FOLDER` stands for the folder of the case.
use super::{Folder, pairs};
use crate::{Request, load};
use std::path::PathBuf;

/// What `load` says; the folder has an `app.py` and the given file.
fn says(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    let folder = Folder::new();
    folder.write("appliance.toml", file);
    let request = Request { env: pairs(env), flags: pairs(flags), ..folder.request() };
    let errors = load(&request).map(|loaded| loaded.show()).expect_err(file);
    errors.to_string().replace(&folder.0.display().to_string(), "FOLDER")
}

/// One case of `broken.txt`.
#[derive(Default)]
struct Case<'a> {
    file: String,
    env: Vec<(&'a str, &'a str)>,
    flags: Vec<(&'a str, &'a str)>,
    sentences: Vec<&'a str>,
}

/// Cases are separated by `---`; `$ NAME=value` is a variable, `$ --set key=value` a flag, `=> …` a sentence that is
/// expected, `# …` a remark, and every other line a line of the file.
fn cases(text: &str) -> impl Iterator<Item = Case<'_>> {
    text.split("---\n").filter(|case| case.contains("=> ")).map(|text| {
        let mut case = Case::default();
        for line in text.lines().filter(|line| !line.starts_with("# ")) {
            if let Some(flag) = line.strip_prefix("$ --set ") {
                case.flags.extend(flag.split_once('='));
            } else if let Some(variable) = line.strip_prefix("$ ") {
                case.env.extend(variable.split_once('='));
            } else if let Some(sentence) = line.strip_prefix("=> ") {
                case.sentences.push(sentence);
            } else {
                case.file.push_str(&format!("{line}\n"));
            }
        }
        case
    })
}

#[test]
fn every_broken_configuration_gets_its_sentences() {
    let mut count = 0;
    for case in cases(include_str!("broken.txt")) {
        assert_eq!(says(&case.file, &case.env, &case.flags), case.sentences.join("\n"), "{}", case.file);
        count += 1;
    }
    assert!(count > 80, "only {count} cases were read");
}

#[test]
fn a_file_that_is_not_toml_does_not_hide_the_other_sources() {
    let said = says("[workers", &[("APPLIANCE_WORKERS__COUNT", "none")], &[]);
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn what_rests_on_a_refused_value_is_not_compared() {
    let said = says("[limits]\nheader_bytes = 1\nrequest_line = \"1MiB\"", &[], &[]);
    assert_eq!(said, "appliance.toml:2: limits.header_bytes: 1 has no unit; write \"1B\" for bytes");
}

#[test]
fn a_weaker_source_is_judged_too_where_its_shape_is_wrong() {
    let said = says("workers = 4", &[("APPLIANCE_WORKERS__COUNT", "2")], &[]);
    let expected = "appliance.toml:1: workers: 4 is not a table; the keys of [workers] are count, cores, stack, min, max, \
                    max_requests, max_memory, max_lifetime, locks, touch_reload, on_crash_loop";
    assert_eq!(said, expected);
}

#[test]
fn a_file_that_cannot_be_read_is_named_as_the_user_named_it() {
    let folder = Folder::new();
    std::fs::write(folder.0.join("latin1.toml"), b"# \xe9").unwrap();
    let says = |file: &str| {
        load(&Request { file: Some(PathBuf::from(file)), ..folder.request() }).unwrap_err().to_string()
    };
    let way_out = "correct it, or name another file with --config";
    let missing = "No such file or directory (os error 2)";
    assert_eq!(says("no/such.toml"), format!("no/such.toml: cannot be read: {missing}; {way_out}"));
    assert_eq!(says("latin1.toml"), format!("latin1.toml: cannot be read: it is not UTF-8; {way_out}"));
    std::os::unix::fs::symlink("nowhere", folder.0.join("appliance.toml")).unwrap();
    let said = load(&folder.request()).unwrap_err().to_string();
    assert_eq!(said, format!("appliance.toml: cannot be read: {missing}; {way_out}"));
}

#[test]
fn a_folder_without_an_application_says_how_to_name_one() {
    let folder = Folder::empty();
    let said =
        load(&folder.request()).unwrap_err().to_string().replace(&folder.0.display().to_string(), "FOLDER");
    let sentence = "app.module: FOLDER has no app.py, wsgi.py, asgi.py or main.py; name the application, \
                    such as `appliance run module:callable` or `module = \"module:callable\"` under [app]";
    assert_eq!(said, sentence);
}

#[test]
fn a_socket_path_that_the_kernel_cannot_hold_is_refused() {
    let long = format!("/run/{}", "x".repeat(100));
    let said = says("", &[], &[("admin.run_dir", &long), ("listen", &format!("unix:{long}.sock"))]);
    let too_long = |bytes: usize, most: usize| {
        format!("is {bytes} bytes long as an absolute path; choose a folder that makes it at most {most}")
    };
    let listen = format!("command line: listen: \"unix:{long}.sock\" {}", too_long(110, 107));
    let run_dir = format!("command line: admin.run_dir: \"{long}\" {}", too_long(105, 90));
    assert_eq!(said, format!("{listen}\n{run_dir}"));
}
