//! Which source wins, what its values mean, and to which folder its paths belong.
use super::{Folder, pairs};
use crate::settings::{Endpoint, Suspend};
use crate::{Request, Settings, Whereabouts, load, locate};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn settings(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Settings {
    let folder = Folder::new();
    folder.write("appliance.toml", file);
    load(&Request { env: pairs(env), flags: pairs(flags), ..folder.request() }).unwrap().settings
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "[workers]\ncount = 3";
    let env = [("APPLIANCE_WORKERS__COUNT", "4")];
    let flags = [("workers.count", "5")];
    let counts = [
        settings("", &[], &[]).workers.count,
        settings(file, &[], &[]).workers.count,
        settings(file, &env, &[]).workers.count,
        settings(file, &env, &flags).workers.count,
    ];
    assert_eq!(counts, [2, 3, 4, 5]);
}

#[test]
fn a_file_that_could_not_be_started_with_still_says_where_its_appliance_is() {
    let folder = Folder::empty();
    let file =
        folder.write("appliance.toml", "[admin]\nrun_dir = \"run\"\n[workers]\ncont = 2\ncores = \"many\"");
    let found = locate(&folder.request()).unwrap();
    let run_dir = Some(folder.0.join("run"));
    assert_eq!(found, Whereabouts { run_dir: run_dir.clone(), origin: file.clone(), doubts: None });
    folder.write("appliance.toml", "[admin]\nrun_dir = \"run\"\n[workers\ncount =\n");
    let found = locate(&folder.request()).unwrap();
    assert_eq!((found.run_dir, found.origin), (run_dir, file.clone()));
    assert!(found.doubts.unwrap().to_string().starts_with("appliance.toml:3:9: `[workers` is not TOML"));
    folder.write("appliance.toml", "[admin]\nrun_dir = 5\n");
    assert!(
        locate(&folder.request()).unwrap_err().to_string().starts_with("appliance.toml:2: admin.run_dir")
    );
    std::fs::remove_file(&file).unwrap();
    let found = locate(&Request { file: Some(file.clone()), ..folder.request() }).unwrap();
    assert!(found.origin == file && found.doubts.unwrap().to_string().contains("cannot be read"));
}

#[test]
fn without_a_file_the_folder_says_which_appliance_is_meant() {
    let folder = Folder::new();
    let found = locate(&folder.request()).unwrap();
    assert_eq!(found, Whereabouts { run_dir: None, origin: folder.0.clone(), doubts: None });
    assert_eq!(folder.load().origin(), folder.0);
}

#[test]
fn the_last_of_two_flags_wins() {
    assert_eq!(settings("", &[], &[("workers.cores", "7"), ("workers.cores", "8")]).workers.cores, 8);
}

#[test]
fn other_keys_of_a_table_keep_their_values() {
    let settings = settings("[workers]\ncount = 3", &[("APPLIANCE_WORKERS__CORES", "9")], &[]);
    assert_eq!((settings.workers.count, settings.workers.cores), (3, 9));
}

#[test]
fn auto_is_one_worker_for_each_cpu_in_every_source() {
    let file = "[workers]\ncount = 3";
    assert_eq!(settings(file, &[("APPLIANCE_WORKERS__COUNT", "auto")], &[]).workers.count, 2);
    assert_eq!(settings(file, &[], &[("workers.count", "auto")]).workers.count, 2);
}

#[test]
fn variables_of_the_application_are_merged_and_keep_their_case() {
    let file = "[app.env]\nMode = \"file\"\nDEBUG = \"0\"";
    let env = [("APPLIANCE_APP__ENV__DEBUG", "1"), ("APPLIANCE_APP__ENV__a__b", " \"true\" ")];
    let settings = settings(file, &env, &[("app.env.x.y", "")]);
    let expected = [("DEBUG", "1"), ("Mode", "file"), ("a__b", " \"true\" "), ("x.y", "")];
    assert_eq!(settings.app.env, pairs(&expected));
}

#[test]
fn a_text_needs_no_quotes_outside_the_file() {
    let env = [
        ("APPLIANCE_SECURITY__UMASK", "0022"),
        ("APPLIANCE_SECURITY__USER", "1000"),
        ("APPLIANCE_SECURITY__GROUP", "\"1000\""),
        ("APPLIANCE_TIMEOUTS__RESPONSE", "0"),
        ("APPLIANCE_LOG__LEVEL", "info,appliance_proxy=debug"),
        ("APPLIANCE_LOG__ACCESS", "false"),
    ];
    let settings = settings("", &env, &[]);
    assert_eq!(settings.security.umask, 0o022);
    assert_eq!(settings.security.user.as_deref(), Some("1000"));
    assert_eq!(settings.security.group.as_deref(), Some("1000"));
    assert_eq!(settings.timeouts.response, Duration::ZERO);
    assert_eq!(settings.log.level, "info,appliance_proxy=debug");
    assert!(!settings.log.access);
}

#[test]
fn listeners_have_a_short_form() {
    let forms: [(&str, &[(&str, &str)]); 5] = [
        ("[[listen]]\naddress = \"127.0.0.1:81\"\n[[listen]]\naddress = \"[::1]:82\"", &[]),
        ("listen = [\"127.0.0.1:81\", \"[::1]:82\"]", &[]),
        ("listen = [{ address = \"localhost:81\" }, \"[::1]:82\"]", &[]),
        ("", &[("APPLIANCE_LISTEN", "[\"127.0.0.1:81\", \"[::1]:82\"]")]),
        ("listen = \":83\"", &[("APPLIANCE_LISTEN", "[{address=\"127.0.0.1:81\"},\"[::1]:82\"]")]),
    ];
    for (file, env) in forms {
        let found: Vec<String> =
            settings(file, env, &[]).listen.iter().map(|l| l.address.to_string()).collect();
        assert_eq!(found, ["127.0.0.1:81", "[::1]:82"], "{file}");
    }
    assert_eq!(settings("listen = \":83\"", &[], &[]).listen[0].address.to_string(), "0.0.0.0:83");
    assert_eq!(settings("", &[("APPLIANCE_LISTEN", ":84")], &[]).listen[0].address.to_string(), "0.0.0.0:84");
    assert_eq!(settings("", &[], &[("listen", "[::1]:85")]).listen[0].address.to_string(), "[::1]:85");
}

#[test]
fn relative_paths_belong_to_the_folder_of_the_file_or_to_the_current_one() {
    let folder = Folder::empty();
    folder.write(
        "etc/site.toml",
        "listen = \"unix:run/web.sock\"\n[app]\nmodule = \"web\"\npythonpath = [\"lib\"]",
    );
    folder.write("etc/venv/bin/python", "");
    let request = Request {
        file: Some(PathBuf::from("etc/site.toml")),
        flags: pairs(&[("app.python", "./python"), ("admin.run_dir", "run/../sockets")]),
        ..folder.request()
    };
    let loaded = load(&request).unwrap();
    let at = |path: &str| folder.0.join(path);
    assert_eq!(loaded.file, Some(at("etc/site.toml")));
    assert_eq!(loaded.settings.app.chdir, at("etc"));
    assert_eq!(loaded.settings.app.venv, Some(at("etc/venv")));
    assert_eq!(loaded.settings.app.pythonpath, [at("etc/lib")]);
    assert_eq!(loaded.settings.listen[0].address, Endpoint::Unix(at("etc/run/web.sock")));
    assert_eq!(Path::new(&loaded.settings.app.python), at("python"));
    assert_eq!(loaded.settings.admin.run_dir, Some(at("run/../sockets")));
}

#[test]
fn the_application_is_found_in_the_folder() {
    let folder = Folder::empty();
    folder.write("wsgi.py", "");
    assert_eq!(folder.load().settings.app.module, "wsgi");
    folder.write("app.py", "");
    assert_eq!(folder.load().settings.app.module, "app");
    folder.write("appliance.toml", "[app]\nmodule = \"site.wsgi:make()\"\nsuspend = \"greenlet\"");
    let app = folder.load().settings.app;
    assert_eq!((app.module.as_str(), app.suspend), ("site.wsgi:make()", Suspend::Greenlet));
}

#[test]
fn a_virtual_environment_is_found_beside_the_application_or_else_the_active_one_is_used() {
    let folder = Folder::new();
    let active = folder.write("active/bin/python", "").ancestors().nth(2).unwrap().to_owned();
    let env = vec![("VIRTUAL_ENV".to_owned(), active.display().to_string())];
    let venv = || load(&Request { env: env.clone(), ..folder.request() }).unwrap().settings.app.venv;
    assert_eq!(folder.load().settings.app.venv, None);
    assert_eq!(venv(), Some(active));
    folder.write("venv/bin/python", "");
    assert_eq!(venv(), Some(folder.0.join("venv")));
    folder.write(".venv/bin/python", "");
    assert_eq!(venv(), Some(folder.0.join(".venv")));
}

#[test]
fn variables_that_are_no_keys_are_left_alone() {
    let env = [
        ("APPLIANCE_ENGINE", "/usr/lib/appliance/libappliance_python.so"),
        ("APPLIANCE_CONFIG", "/etc/appliance.toml"),
        ("APPLIANCE_SERVICE_HOST", "10.0.0.7"),
        ("APPLIANCE_PORT", "tcp://10.0.0.7:80"),
        ("APPLIANCE_PORT_80_TCP_ADDR", "10.0.0.7"),
        ("PATH", "/bin"),
    ];
    assert_eq!(settings("", &env, &[]).workers.count, 2);
}

#[test]
fn no_file_is_needed() {
    let loaded = Folder::new().load();
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.settings.listen[0].address.to_string(), "127.0.0.1:8080");
}

#[test]
fn tables_with_free_names_come_in_the_order_of_the_file_and_then_those_of_the_environment() {
    let folder = Folder::new();
    folder.write("appliance.toml", "[cache.z]\n[cache.b]\nitems = 5\n[cache.a]\n");
    let request = Request {
        env: pairs(&[("APPLIANCE_CACHE__A0__LRU", "true"), ("APPLIANCE_CACHE__B__SIZE", "1MiB")]),
        ..folder.request()
    };
    let caches = load(&request).unwrap().settings.caches;
    let facts: Vec<_> =
        caches.iter().map(|cache| (cache.name.as_str(), cache.items, cache.size >> 20, cache.lru)).collect();
    let expected =
        [("z", 10_000, 64, false), ("b", 5, 1, false), ("a", 10_000, 64, false), ("a0", 10_000, 64, true)];
    assert_eq!(facts, expected);
}
