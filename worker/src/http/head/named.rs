//! The head of what is no HTTP request, but is kept and shown like one.
use super::{Head, Span, Version};
use crate::http::Framing;

impl Head {
    /// A head that says only what it is about; nothing in it has come from anywhere.
    pub fn named(method: &str, target: &str) -> Head {
        let bytes = [method.as_bytes(), target.as_bytes()].concat();
        let (method, rest) = bytes.split_at(method.len());
        Head {
            consumed: 0,
            method: Span::of(&bytes, method),
            target: Span::of(&bytes, rest),
            path: Span::of(&bytes, rest),
            query: Span::of(&bytes, &rest[rest.len()..]),
            version: Version::Http11,
            fields: Vec::new(),
            host: None,
            framing: Framing::None,
            keep_alive: false,
            expect_continue: false,
            upgrade: false,
            facts: None,
            bytes: bytes.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_it_is_about_and_nothing_else() {
        let head = Head::named("SIGNAL", "7");
        assert_eq!((head.method(), head.target(), head.query()), ("SIGNAL", &b"7"[..], &b""[..]));
        assert_eq!((head.headers().count(), head.host(), head.facts().is_none()), (0, None, true));
    }
}
