//! "Did you mean …?": what an unknown key was probably meant to be. Called by `screen.rs`. Pure.
use crate::keys::{self, EACH, KEYS};

/// Words this far apart are still taken for each other: two slips, but never more than a third of the word.
const SLIPS: usize = 2;

/// A question that names the likely key, or else the list of names that exist in `table` (`""` is the root).
pub fn hint(table: &str, name: &str) -> String {
    hint_among(table, name, &keys::names_in(table))
}

/// The same for a table whose names are not in the table of keys.
pub fn hint_among(table: &str, name: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(name, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if let Some(key) = KEYS.iter().find(|key| table.is_empty() && key.path.replace('.', "_") == name) {
        return format!("did you mean `{}`? A variable has two underscores there", key.path);
    }
    // The right name in the wrong table, such as `cores` under [timeouts] or `module` at the top of the file.
    let elsewhere = KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(name));
    match elsewhere {
        Some(key) => format!("did you mean `{}`?", key.path),
        None if table.ends_with(EACH) => {
            format!("the keys of [[{}]] are {}", table.trim_end_matches(EACH), known.join(", "))
        }
        None if table.is_empty() => format!("the tables are {}", known.join(", ")),
        None => format!("the keys of [{table}] are {}", known.join(", ")),
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = SLIPS.min(name.chars().count().div_ceil(3));
    let ranked = known.map(|word| (distance(name, word), word));
    ranked.filter(|(slips, _)| *slips <= allowed).min().map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other (Damerau's slips, in
/// the "optimal string alignment" variant). `-` and `_` are the same letter here: uWSGI writes the one, TOML the other.
fn distance(from: &str, to: &str) -> usize {
    let letters = |word: &str| word.to_lowercase().replace('-', "_").chars().collect::<Vec<char>>();
    let (from, to) = (letters(from), letters(to));
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=to.len()).collect();
    for i in 1..=from.len() {
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        let cases =
            [("count", "count", 0), ("cont", "count", 1), ("cuont", "count", 1), ("run-dir", "run_dir", 0)];
        for (from, to, slips) in cases {
            assert_eq!(distance(from, to), slips, "{from} → {to}");
        }
    }

    #[test]
    fn short_words_allow_fewer_slips() {
        assert_eq!(nearest("evn", ["env", "venv"].into_iter()), Some("env"));
        assert_eq!(nearest("abc", ["env", "venv"].into_iter()), None);
    }
}
