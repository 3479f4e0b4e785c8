//! `appliance cache`: looks into a cache of a running appliance, or changes it. The master says where it lies and does not
//! touch it; this process opens it as a worker would, with the rights of its owner.
use crate::cli::CacheCommand;
use crate::control::client;
use crate::error::Error;
use crate::{notice, privileges};
use appliance_config::Whereabouts;
use appliance_worker::cache::{Cache, Mode, Refusal, Stats};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Does what was asked for.
pub fn run(command: &CacheCommand, whereabouts: &Whereabouts) -> Result<(), Error> {
    let cache = open(whereabouts, command.at().cache.as_deref())?;
    let refused = |why: Refusal| Error::Refused(format!("cache {}: {why}", cache.name()));
    let missing = |key: &OsStr| Error::Refused(format!("cache {}: it has no key {key:?}", cache.name()));
    match command {
        CacheCommand::Get { key, .. } => {
            let value = cache.get(key.as_bytes()).map_err(refused)?.ok_or_else(|| missing(key))?;
            write(&value)
        }
        CacheCommand::Set { key, value, expires, .. } => {
            let value = given(value)?;
            let life = expires.map(Duration::from_secs);
            cache.put(key.as_bytes(), &value, life, Mode::Set).map(drop).map_err(refused)
        }
        CacheCommand::Del { key, .. } => match cache.delete(key.as_bytes()).map_err(refused)? {
            true => Ok(()),
            false => Err(missing(key)),
        },
        CacheCommand::Keys(_) => {
            let mut keys = cache.keys().map_err(refused)?;
            keys.sort_unstable();
            let lines = keys.iter().map(|key| [&key[..], b"\n"].concat());
            write(&lines.collect::<Vec<_>>().concat())
        }
        CacheCommand::Stats { json, .. } => {
            let stats = cache.stats().map_err(refused)?;
            notice::print(&if *json { as_json(&stats) } else { table(cache.name(), &stats) });
            Ok(())
        }
    }
}

/// Opens the cache of this name, or the first one.
fn open(whereabouts: &Whereabouts, name: Option<&str>) -> Result<Cache, Error> {
    let stores = client::stores(whereabouts)?;
    let names = stores.caches.iter().map(|cache| cache.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match name {
        None => stores.caches.first(),
        Some(name) => stores.caches.iter().find(|cache| cache.name == name),
    };
    let (Some(settings), Some(folder)) = (found, &stores.folder) else {
        return Err(Error::Refused(match name {
            Some(name) if !names.is_empty() => format!("there is no cache {name:?}; configured are {names}"),
            _ => "this appliance has no cache; configure one with [cache.NAME]".to_owned(),
        }));
    };
    let cannot = |why: String| Error::Refused(format!("the cache {} cannot be opened: {why}", settings.name));
    privileges::become_owner(folder).map_err(|error| cannot(format!("{}: {error}", folder.display())))?;
    Cache::open(folder, settings).map_err(|error| cannot(error.to_string()))
}

/// The value as typed, or all of standard input.
fn given(value: &OsStr) -> Result<Vec<u8>, Error> {
    if value != "-" {
        return Ok(value.as_bytes().to_vec());
    }
    let mut read = Vec::new();
    io::stdin().read_to_end(&mut read).map_err(Error::system("read standard input"))?;
    Ok(read)
}

/// Bytes as they are: whoever shows them on a terminal knows what they are.
fn write(bytes: &[u8]) -> Result<(), Error> {
    io::stdout().write_all(bytes).map_err(Error::system("write to standard output"))
}

fn as_json(stats: &Stats) -> String {
    serde_json::to_string_pretty(stats).expect("numbers are JSON") + "\n"
}

fn table(name: &str, stats: &Stats) -> String {
    let rows = [
        ("cache", name.to_owned()),
        ("items", format!("{} of {}", stats.items, stats.max_items)),
        ("size", format!("{} of {} bytes", stats.size, stats.max_size)),
        ("memory", format!("{} bytes", stats.memory)),
        ("stored", stats.sets.to_string()),
        ("expired", stats.expired.to_string()),
        ("evicted", stats.evicted.to_string()),
        ("refused", stats.refused.to_string()),
        ("hits", stats.hits.to_string()),
        ("misses", stats.misses.to_string()),
    ];
    rows.iter().map(|(what, value)| format!("{what:<8} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_stand_in_lines() {
        let stats = Stats { items: 3, max_items: 10, evicted: 7, ..Stats::default() };
        let text = table("sessions", &stats);
        assert!(text.starts_with("cache    sessions\nitems    3 of 10\n"), "{text}");
        assert!(text.contains("evicted  7\n"), "{text}");
    }
}
