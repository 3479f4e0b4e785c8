//! Two configurations compared, and what remains of the new one.
use super::{Folder, show::EVERYTHING};
use crate::change::{Change, Need, changes, needs_text, without_restart};
use crate::form::Form;
use crate::keys::KEYS;
use crate::settings::Settings;

/// The defaults, and a configuration in which every key has another value.
fn two() -> (Settings, Settings) {
    let folder = Folder::new();
    let old = folder.load().settings;
    folder.write("appliance.toml", EVERYTHING);
    folder.write("src/app.py", "");
    folder.write("env/bin/python", "");
    (old, folder.load().settings)
}

fn lines(old: &Settings, new: &Settings) -> Vec<String> {
    changes(old, new).iter().map(Change::to_string).collect()
}

#[test]
fn nothing_differs_from_itself() {
    let (old, new) = two();
    assert_eq!(changes(&old, &old), []);
    assert_eq!(changes(&new, &new), []);
}

#[test]
fn every_key_is_compared_and_says_what_it_needs() {
    let (old, new) = two();
    let found = changes(&old, &new);
    for key in KEYS {
        let is_it = |change: &&Change| match key.form {
            Form::Variables { .. } => change.key.starts_with(&format!("{}.", key.path)),
            _ => change.key == key.path,
        };
        let change = found.iter().find(is_it).unwrap_or_else(|| panic!("{} is not compared", key.path));
        assert_eq!(change.needs, key.needs, "{}", key.path);
        assert!(!key.needs.is_empty(), "{}", key.path);
    }
}

#[test]
fn a_change_reads_as_old_new_and_what_it_needs() {
    let folder = Folder::new();
    folder.write("appliance.toml", "workers.cores = 100\nlisten = [\":8080\"]\n");
    let old = folder.load().settings;
    folder.write(
        "appliance.toml",
        "workers.cores = 50\nlisten = [\":8080\", \"unix:/run/a.sock\"]\nadmin.run_dir = \"/run/a\"\n",
    );
    let new = folder.load().settings;
    assert_eq!(
        lines(&old, &new),
        [
            r#"listen: ["0.0.0.0:8080"] → ["0.0.0.0:8080", "unix:/run/a.sock"] (new listener)"#,
            "workers.cores: 100 → 50 (rolling, new proxy)",
            r#"admin.run_dir: not set → "/run/a" (restart)"#,
        ]
    );
}

#[test]
fn variables_are_named_but_their_values_are_not_shown() {
    let folder = Folder::new();
    folder.write("appliance.toml", "[app.env]\nKEPT = \"a\"\nPASSWORD = \"old-secret\"\nGONE = \"x\"\n");
    let old = folder.load().settings;
    folder.write("appliance.toml", "[app.env]\nKEPT = \"a\"\nPASSWORD = \"new-secret\"\nADDED = \"y\"\n");
    let new = folder.load().settings;
    assert_eq!(
        lines(&old, &new),
        [
            "app.env.GONE: (not shown) → not set (rolling)",
            "app.env.PASSWORD: (not shown) → (not shown) (rolling)",
            "app.env.ADDED: not set → (not shown) (rolling)",
        ]
    );
}

#[test]
fn what_needs_a_restart_stays_and_all_else_comes() {
    let (old, new) = two();
    let in_force = without_restart(&old, new.clone());
    for change in changes(&old, &new) {
        let waits = changes(&in_force, &new).iter().any(|left| left.key == change.key);
        assert_eq!(waits, change.needs_restart(), "{}", change.key);
        assert!(!change.needs_restart() || change.needs == [Need::Restart], "{}", needs_text(&change.needs));
    }
}
