//! The tables that a cache has, one after the other: when a reload asks for more room than the file has, whoever opens the
//! cache first makes a larger one, fills it from the old one, and says in the old one's head which table has taken its
//! place. Processes that have the old one see that with their next call, and go on with the new one. All of this is done by
//! whoever has the turn to write; only following is not.
use super::Refusal;
use super::change::New;
use super::layout::{Field, Geometry, Head};
use super::table::{Table, store};
use appliance_config::settings::Cache as Settings;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What the files are called; a number follows.
const NAME: &str = "table-";

/// The tables of a cache that this process has seen.
#[derive(Debug)]
pub struct Tables {
    folder: PathBuf,
    first: Link,
}

#[derive(Debug)]
struct Link {
    table: Table,
    next: OnceLock<Box<Link>>,
}

impl Tables {
    /// Opens the table in `folder`, or makes it, with room for what the settings allow. The caller has its turn.
    pub fn open(folder: &Path, settings: &Settings) -> Result<Tables, Refusal> {
        let first = match numbers(folder)?.into_iter().min() {
            Some(number) => Table::open(&path(folder, number), number)?,
            None => {
                create(folder, 1, Geometry::of(settings.items, settings.size, longest(settings)), |_| Ok(()))?
            }
        };
        let mut tables =
            Tables { folder: folder.to_owned(), first: Link { table: first, next: OnceLock::new() } };
        tables.grow(settings)?;
        // Whoever has one of these is led on by its head; a later one was made by somebody who died before saying so.
        let current = tables.current()?.number();
        for number in numbers(folder)?.into_iter().filter(|number| *number != current) {
            fs::remove_file(path(folder, number)).map_err(store)?;
        }
        // One that has moved keeps its memory for as long as anybody maps it.
        while let Some(next) = tables.first.next.take() {
            tables.first = *next;
        }
        Ok(tables)
    }

    /// The one that has the items.
    pub fn current(&self) -> Result<&Table, Refusal> {
        let mut link = &self.first;
        loop {
            match link.table[Head::Moved].acquire() {
                0 => return Ok(&link.table),
                number => link = self.follow(link, number)?,
            }
        }
    }

    fn follow<'a>(&self, link: &'a Link, number: u64) -> Result<&'a Link, Refusal> {
        if let Some(next) = link.next.get() {
            return Ok(next);
        }
        // That one may have been followed by another, and removed.
        let there = numbers(&self.folder)?.into_iter().filter(|there| *there >= number).min();
        let number = there.filter(|there| *there > link.table.number()).ok_or_else(|| link.table.broken())?;
        let table = Table::open(&path(&self.folder, number), number)?;
        Ok(link.next.get_or_init(|| Box::new(Link { table, next: OnceLock::new() })))
    }

    fn grow(&self, settings: &Settings) -> Result<(), Refusal> {
        let old = self.current()?;
        let Some(sizes) = old.sizes().grown(settings.items, settings.size, longest(settings)) else {
            return Ok(());
        };
        old.put_in_order()?;
        let number = old.number() + 1;
        match create(&self.folder, number, sizes, |new| fill(new, old)) {
            Ok(_) => old[Head::Moved].publish(number),
            Err(why) => tracing::warn!("cache {}: it stays as large as it was: {why}", settings.name),
        }
        Ok(())
    }
}

/// Makes a table, and gives it its name when it has been filled.
fn create(
    folder: &Path,
    number: u64,
    sizes: Geometry,
    fill: impl FnOnce(&Table) -> Result<(), Refusal>,
) -> Result<Table, Refusal> {
    let unnamed = folder.join("new-table");
    match fs::remove_file(&unnamed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(store(error)),
        _ => {}
    }
    let made = Table::create(&unnamed, number, sizes).and_then(|table| {
        fill(&table)?;
        fs::rename(&unnamed, path(folder, number)).map_err(store)?;
        Ok(table)
    });
    if made.is_err() {
        let _ = fs::remove_file(unnamed);
    }
    made
}

/// Copies all items, in the order of their use, and what was counted.
fn fill(new: &Table, old: &Table) -> Result<(), Refusal> {
    let mut number = old[Head::Oldest].load();
    for _ in 0..old.sizes().slots {
        let Some(slot) = old.slot(number) else { break };
        let item = old.item(slot, true).map_err(|_| old.broken())?;
        let copy = New { key: &item.key, value: &item.value, expires: item.expires };
        new.insert(new.hash(copy.key), copy, None)?;
        number = slot[Field::Newer].load();
    }
    for name in [Head::Sets, Head::Evicted, Head::Expired, Head::Refused, Head::Changes] {
        new[name].store(old[name].load());
    }
    new.add_tallies(old.tallies());
    Ok(())
}

/// Those whose files are there. The lowest one has not moved, or leads to the one that has the items.
fn numbers(folder: &Path) -> Result<Vec<u64>, Refusal> {
    let number = |entry: io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name();
        name.to_str()?.strip_prefix(NAME)?.parse().ok()
    };
    Ok(fs::read_dir(folder).map_err(store)?.filter_map(number).collect())
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{NAME}{number}"))
}

/// Bytes of the longest item.
fn longest(settings: &Settings) -> u64 {
    settings.key_size + settings.item_size
}
