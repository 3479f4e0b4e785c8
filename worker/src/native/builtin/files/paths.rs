//! What the words of a request mean for files: the path, the type by its ending, the codings that a client accepts. Pure.

/// Where a request leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Relative to the folder, without a slash at either end; empty: the folder itself.
    pub(super) path: String,
    /// The path ends with a slash.
    pub(super) is_folder: bool,
}

/// Reads a path as it was sent; `None`: there cannot be such a file.
pub(super) fn place(path: &[u8]) -> Option<Place> {
    let text = String::from_utf8(decode(path)?).ok()?;
    let inner = text.strip_prefix('/')?;
    let is_folder = inner.is_empty() || inner.ends_with('/');
    let inner = inner.trim_end_matches('/');
    let is_fine = |(n, name): (usize, &str)| {
        let is_hidden = name.starts_with('.') && !(n == 0 && name == ".well-known");
        !name.is_empty() && !is_hidden && !name.contains('\0')
    };
    (inner.is_empty() || inner.split('/').enumerate().all(is_fine))
        .then(|| Place { path: inner.to_owned(), is_folder })
}

/// Percent-decodes, once. An encoded slash would be part of a name, which no name can have.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let (mut out, mut rest) = (Vec::with_capacity(path.len()), path);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        // Two hexadecimal digits are a byte.
        let byte = (digit(*high)? * 16 + digit(*low)?) as u8;
        if byte == b'/' {
            return None;
        }
        out.push(byte);
        rest = after;
    }
    Some(out)
}

/// Whether an `Accept-Encoding` names a coding, with a weight that is not 0 (RFC 9110 section 12.5.3). `*` names none here: it
/// says what is possible, and not what is wanted.
pub(super) fn accepts(header: &[u8], coding: &str) -> bool {
    header.split(|byte| *byte == b',').any(|item| {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding.as_bytes()));
        let is_refused = parts.any(|parameter| {
            let weight = parameter.strip_prefix(b"q=").or(parameter.strip_prefix(b"Q="));
            weight.is_some_and(|weight| weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
        });
        is_it && !is_refused
    })
}

/// Types by the ending of a name, in small letters; of the rest nothing is known.
const KINDS: &[(&str, &str)] = &[
    ("avif", "image/avif"),
    ("bin", "application/octet-stream"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ogg", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
    ("zip", "application/zip"),
];

/// The type of a file.
pub(super) fn kind(path: &str) -> &'static str {
    let ending = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
    let ending = ending.unwrap_or_default().to_ascii_lowercase();
    let found = KINDS.binary_search_by(|(known, _)| (*known).cmp(ending.as_str()));
    found.map_or("application/octet-stream", |at| KINDS[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_places_below_the_folder() {
        let at = |path: &str| place(path.as_bytes()).map(|place| (place.path, place.is_folder));
        assert_eq!(at("/"), Some((String::new(), true)));
        assert_eq!(at("/a/b%20c.txt"), Some(("a/b c.txt".to_owned(), false)));
        assert_eq!(at("/a/"), Some(("a".to_owned(), true)));
        assert_eq!(at("/.well-known/x"), Some((".well-known/x".to_owned(), false)));
        for path in [
            "*",
            "",
            "/../a",
            "/a/../b",
            "/.env",
            "/a/.git/x",
            "/%2e%2e/a",
            "/a%2fb",
            "/a//b",
            "/a%00",
            "/%zz",
            "/%",
            "/%ff",
            "/a/.well-known/x",
        ] {
            assert_eq!(at(path), None, "{path}");
        }
    }

    #[test]
    fn a_coding_is_accepted_unless_its_weight_is_zero() {
        for (header, is_accepted) in [
            ("gzip, br", true),
            ("GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("br", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(accepts(header.as_bytes(), "gzip"), is_accepted, "{header}");
        }
    }

    #[test]
    fn types_are_known_by_endings() {
        assert!(KINDS.is_sorted(), "they are searched by halves");
        assert_eq!(kind("a/b.HTML"), "text/html; charset=utf-8");
        assert_eq!(kind("a.b/c"), "application/octet-stream");
    }
}
