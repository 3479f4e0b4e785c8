//! The text of `appliance.toml`: values, and the line of each key. Called by `load.rs`. Pure: the text is an argument.
use crate::written::{Table, Value, ancestors};
use std::collections::BTreeMap;
use toml_edit::{ImDocument, Item, TableLike};

/// Lines by full path: `workers`, `workers.count`, `listen[1].address`. Counted from 1.
#[derive(Clone, Debug, Default)]
pub struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// `appliance.toml:7`, the line of the path or else of what encloses it.
    pub fn place(&self, file: &str, path: &str) -> String {
        match ancestors(path).find_map(|path| self.0.get(path)) {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        }
    }

    /// The line on which a path begins.
    pub fn number(&self, path: &str) -> Option<usize> {
        self.0.get(path).copied()
    }
}

/// Where and why a text is not TOML.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    /// Number of the line.
    pub number: usize,
    /// The character in it, counted from 1.
    pub column: usize,
    /// The beginning of the line.
    pub line: String,
    /// The parser's words, on one line.
    pub reason: String,
}

impl Broken {
    fn new(error: &toml_edit::TomlError, text: &str) -> Self {
        // Enough to recognise the line by, and short enough for a terminal.
        const SHOWN: usize = 60;
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let number = line_at(text, at);
        let before = String::from_utf8_lossy(&text.as_bytes()[..at]);
        let column = 1 + before.chars().rev().take_while(|&c| c != '\n').count();
        let line = text.lines().nth(number - 1).unwrap_or_default().trim();
        let line = line.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        let reason = if error.message().is_empty() { "something is missing" } else { error.message().trim() };
        Broken { number, column, line, reason: reason.replace('\n', ", ") }
    }
}

/// Number of the line that a byte lies in.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

/// Reads a document.
pub fn read(text: &str) -> Result<(Table, Lines), Broken> {
    let document = ImDocument::parse(text).map_err(|error| Broken::new(&error, text))?;
    let mut reader = Reader { line: &|offset| line_at(text, offset), lines: Lines::default() };
    let table = reader.table("", document.as_table());
    Ok((table, reader.lines))
}

/// What a document that is broken still says, without the lines at which it breaks; nothing if it breaks too often.
pub fn salvage(text: &str) -> Table {
    // Whoever edits a file breaks few lines at once.
    const BREAKS: usize = 16;
    let mut lines: Vec<&str> = text.lines().collect();
    for _ in 0..BREAKS {
        match read(&lines.join("\n")) {
            Ok((table, _)) => return table,
            Err(broken) => match lines.get_mut(broken.number - 1) {
                Some(line) if !line.is_empty() => *line = "",
                // Something has begun further above, and has no end.
                _ => return Table::new(),
            },
        }
    }
    Table::new()
}

/// Reads a single value, such as a default.
pub fn read_value(text: &str) -> Option<Value> {
    let (mut table, _) = read(&format!("value = {text}")).ok()?;
    table.remove("value")
}

/// Walks a document, noting lines on the way.
struct Reader<'a> {
    line: &'a dyn Fn(usize) -> usize,
    lines: Lines,
}

impl Reader<'_> {
    fn table(&mut self, path: &str, table: &dyn TableLike) -> Table {
        let mut values = Table::new();
        for (name, item) in table.iter() {
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let key = table.get_key_value(name).and_then(|(key, _)| key.span());
            self.note(&path, key);
            values.insert(name.to_owned(), self.item(&path, item));
        }
        values
    }

    fn item(&mut self, path: &str, item: &Item) -> Value {
        match item {
            Item::Value(value) => self.value(path, value),
            Item::Table(table) => self.table_at(path, table.span(), table),
            Item::ArrayOfTables(tables) => {
                let tables = tables.iter().enumerate();
                let entry = |(n, table): (usize, &toml_edit::Table)| {
                    self.table_at(&format!("{path}[{n}]"), table.span(), table)
                };
                Value::List(tables.map(entry).collect())
            }
            // A parsed document has no such items: they are left by edits.
            Item::None => Value::Table(Table::new()),
        }
    }

    fn table_at(&mut self, path: &str, span: Option<std::ops::Range<usize>>, table: &dyn TableLike) -> Value {
        self.note(path, span);
        Value::Table(self.table(path, table))
    }

    fn value(&mut self, path: &str, value: &toml_edit::Value) -> Value {
        match value {
            toml_edit::Value::String(text) => Value::Text(text.value().clone()),
            toml_edit::Value::Integer(number) => Value::Whole(*number.value()),
            toml_edit::Value::Float(number) => Value::Float(*number.value()),
            toml_edit::Value::Boolean(flag) => Value::Flag(*flag.value()),
            toml_edit::Value::Datetime(date) => Value::text(date.value()),
            toml_edit::Value::InlineTable(table) => Value::Table(self.table(path, table)),
            toml_edit::Value::Array(items) => {
                let items = items.iter().enumerate();
                let entry = |(n, item): (usize, &toml_edit::Value)| {
                    let path = format!("{path}[{n}]");
                    self.note(&path, item.span());
                    self.value(&path, item)
                };
                Value::List(items.map(entry).collect())
            }
        }
    }

    fn note(&mut self, path: &str, span: Option<std::ops::Range<usize>>) {
        if let Some(span) = span {
            self.lines.0.insert(path.to_owned(), (self.line)(span.start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_spelling_have_their_line() {
        let text = "a.b = 1\n\n[c]\nd = { e = 1, f = [ 1,\n 2 ] }\n\"x.y\" = 1\n\n[[g]]\n[[g]]\n\nh = 1\n";
        let (_, lines) = read(text).unwrap();
        let expected = [
            ("a.b", 1),
            ("c", 3),
            ("c.d", 4),
            ("c.d.e", 4),
            ("c.d.f[1]", 5),
            ("c.x.y", 6),
            ("g[1]", 9),
            ("g[1].h", 11),
        ];
        for (path, line) in expected {
            assert_eq!(lines.place("f", path), format!("f:{line}"), "{path}");
        }
    }

    #[test]
    fn what_has_no_line_of_its_own_has_the_one_around_it() {
        let (_, lines) = read("\n[c]\nd = 1\n").unwrap();
        assert_eq!(lines.place("f", "c.d.e[3]"), "f:3");
        assert_eq!(lines.place("f", "c.z"), "f:2");
        assert_eq!(lines.place("f", "z"), "f");
    }

    #[test]
    fn a_text_that_ends_too_early_says_so() {
        let broken = read("a = 1\nb =").unwrap_err();
        assert_eq!(
            (broken.number, broken.column, broken.line.as_str(), broken.reason.as_str()),
            (2, 4, "b =", "something is missing")
        );
    }

    #[test]
    fn a_broken_text_says_what_its_other_lines_say() {
        let said = |text: &str| salvage(text).get("b").cloned();
        assert_eq!(said("a = \nb = 1\nc c\nb = 2\n[d\n"), Some(Value::Whole(1)));
        assert_eq!(said("é = \"ä\" x\nb = 1"), Some(Value::Whole(1)));
        assert_eq!(said("b = 1\nc = \"\"\"\nno end"), None);
        assert_eq!(said(&"x\n".repeat(1000)), None);
    }

    #[test]
    fn a_shown_line_is_short_and_cannot_act_on_a_terminal() {
        let broken = read(&format!("\u{1b}[31m{}", "x".repeat(500))).unwrap_err();
        assert_eq!(broken.line.len(), 60);
        assert!(broken.line.starts_with("[31m"));
    }
}
