//! Text of unknown origin, made fit for a terminal, which must not obey it. Pure.

/// What stands for a control character.
const REPLACEMENT: char = '\u{fffd}';

/// Text of many lines: line breaks and tabs stay.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { REPLACEMENT } else { c }).collect()
}

/// Text that has to stay within its line.
pub fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { REPLACEMENT } else { c }).collect()
}

/// JSON with line breaks only between its parts: what else is a control character stands in a string, and is escaped.
pub fn json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_given_orders() {
        let text = "Traceback:\n\ta \u{1b}[2J\u{9b}\u{e9}";
        assert_eq!(printable(text), "Traceback:\n\ta \u{fffd}[2J\u{fffd}\u{e9}");
        assert_eq!(line(text), "Traceback:\u{fffd}\u{fffd}a \u{fffd}[2J\u{fffd}\u{e9}");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "a": "\u{1b}\n\u{9b}\u{7f}\u{e9}" });
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
