//! What a request may have of a file: all of it, a part, or only the word that it has not changed. RFC 9110 sections 13 and 14;
//! pure. Of several ranges in one request none is granted and the whole file is sent, as section 14.2 allows: hardly any client
//! asks for that, and it has been a way to make servers work for nothing.
use std::time::{Duration, SystemTime};

/// Which version of a file there is.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// A strong entity tag, with its quotes.
    pub(super) tag: String,
    /// When it was last changed.
    pub(super) modified: SystemTime,
    /// Bytes.
    pub(super) length: u64,
}

/// What a request asks, as it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked<'a> {
    if_match: Option<&'a [u8]>,
    if_none_match: Option<&'a [u8]>,
    if_modified: Option<&'a [u8]>,
    if_unmodified: Option<&'a [u8]>,
    if_range: Option<&'a [u8]>,
    range: Option<&'a [u8]>,
}

/// What it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// 200.
    Whole,
    /// 206: both ends are part of it.
    Part { first: u64, last: u64 },
    /// 304.
    Unchanged,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable,
}

impl<'a> Asked<'a> {
    /// From the header fields of a request.
    pub(super) fn of(header: impl Fn(&str) -> Option<&'a [u8]>) -> Asked<'a> {
        Asked {
            if_match: header("If-Match"),
            if_none_match: header("If-None-Match"),
            if_modified: header("If-Modified-Since"),
            if_unmodified: header("If-Unmodified-Since"),
            if_range: header("If-Range"),
            range: header("Range"),
        }
    }
}

/// Decides, in the order of RFC 9110 section 13.2.2. The method is `GET` or `HEAD`.
pub(super) fn decide(asked: &Asked<'_>, version: &Version) -> Grant {
    let has_failed = match (asked.if_match, asked.if_unmodified.and_then(date)) {
        (Some(tags), _) => !names(tags, &version.tag, false),
        (None, Some(date)) => seconds(version.modified) > seconds(date),
        (None, None) => false,
    };
    if has_failed {
        return Grant::Failed;
    }
    let is_unchanged = match (asked.if_none_match, asked.if_modified.and_then(date)) {
        (Some(tags), _) => names(tags, &version.tag, true),
        (None, Some(date)) => seconds(version.modified) <= seconds(date),
        (None, None) => false,
    };
    if is_unchanged {
        return Grant::Unchanged;
    }
    let is_for_another = asked.if_range.is_some_and(|condition| !is_same(condition, version));
    match asked.range {
        Some(range) if !is_for_another => part(range, version.length),
        _ => Grant::Whole,
    }
}

/// Whether a list of tags names this one, or any (`*`). A weak one counts only where it `may_be_weak`.
fn names(tags: &[u8], tag: &str, may_be_weak: bool) -> bool {
    tags.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|one| {
        let strong = one.strip_prefix(b"W/").filter(|_| may_be_weak).unwrap_or(one);
        one == b"*" || strong == tag.as_bytes()
    })
}

/// `If-Range`: a strong tag, or exactly the date of the last change.
fn is_same(condition: &[u8], version: &Version) -> bool {
    let is_date = || date(condition).is_some_and(|date| seconds(date) == seconds(version.modified));
    condition.trim_ascii() == version.tag.as_bytes() || is_date()
}

fn date(text: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(text).ok()?.trim()).ok()
}

/// Dates of HTTP have no parts of a second.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// One range of bytes; whatever else is asked for is not understood and ignored.
fn part(range: &[u8], length: u64) -> Grant {
    let text = std::str::from_utf8(range).unwrap_or_default();
    let (unit, spec) = text.split_once('=').unwrap_or_default();
    let Some((first, last)) = spec.trim().split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes"))
    else {
        return Grant::Whole;
    };
    let end = length.saturating_sub(1);
    match (number(first.trim()), number(last.trim())) {
        (Said::Number(first), Said::Number(last)) if first > last => Grant::Whole,
        (Said::Number(first), Said::Number(_) | Said::Nothing) if first >= length => Grant::Unsatisfiable,
        (Said::Number(first), Said::Number(last)) => Grant::Part { first, last: last.min(end) },
        (Said::Number(first), Said::Nothing) => Grant::Part { first, last: end },
        (Said::Nothing, Said::Number(count)) if count == 0 || length == 0 => Grant::Unsatisfiable,
        (Said::Nothing, Said::Number(count)) => {
            Grant::Part { first: length.saturating_sub(count), last: end }
        }
        _ => Grant::Whole,
    }
}

/// One end of a range.
enum Said {
    Number(u64),
    Nothing,
    Nonsense,
}

fn number(text: &str) -> Said {
    match text {
        "" => Said::Nothing,
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => Said::Number(text.parse().unwrap_or(u64::MAX)),
        _ => Said::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Thu, 01 Jan 1970 00:16:40 GMT";

    fn version() -> Version {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_500);
        Version { tag: "\"a\"".to_owned(), modified, length: 100 }
    }

    fn granted(fields: &[(&str, &str)]) -> Grant {
        let header =
            |name: &str| fields.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_bytes());
        decide(&Asked::of(header), &version())
    }

    #[test]
    fn a_file_that_has_not_changed_is_not_sent_again() {
        assert_eq!(granted(&[]), Grant::Whole);
        for tags in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert_eq!(granted(&[("If-None-Match", tags)]), Grant::Unchanged, "{tags}");
        }
        assert_eq!(granted(&[("If-Modified-Since", DATE)]), Grant::Unchanged);
        assert_eq!(granted(&[("If-Modified-Since", "yesterday")]), Grant::Whole);
        // The tag counts more than the date.
        assert_eq!(granted(&[("If-None-Match", "\"b\""), ("If-Modified-Since", DATE)]), Grant::Whole);
    }

    #[test]
    fn a_condition_that_does_not_hold_is_said_so() {
        assert_eq!(granted(&[("If-Match", "\"a\"")]), Grant::Whole);
        assert_eq!(granted(&[("If-Match", "W/\"a\"")]), Grant::Failed);
        assert_eq!(granted(&[("If-Unmodified-Since", "Thu, 01 Jan 1970 00:16:39 GMT")]), Grant::Failed);
        assert_eq!(granted(&[("If-Unmodified-Since", DATE)]), Grant::Whole);
    }

    #[test]
    fn one_range_is_granted() {
        let part = |first, last| Grant::Part { first, last };
        for (range, grant) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=10-", part(10, 99)),
            ("bytes=90-200", part(90, 99)),
            ("bytes=-5", part(95, 99)),
            ("bytes=-500", part(0, 99)),
            ("bytes=100-", Grant::Unsatisfiable),
            ("bytes=-0", Grant::Unsatisfiable),
            ("bytes=5-4", Grant::Whole),
            ("bytes=5-x", Grant::Whole),
            ("bytes=0-1,3-4", Grant::Whole),
            ("lines=1-2", Grant::Whole),
            ("bytes", Grant::Whole),
            ("bytes=-", Grant::Whole),
            ("bytes=99999999999999999999-", Grant::Unsatisfiable),
        ] {
            assert_eq!(granted(&[("Range", range)]), grant, "{range}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_not_granted() {
        let range = ("Range", "bytes=0-0");
        let part = Grant::Part { first: 0, last: 0 };
        for (condition, grant) in
            [("\"a\"", part), (DATE, part), ("W/\"a\"", Grant::Whole), ("\"b\"", Grant::Whole)]
        {
            assert_eq!(granted(&[range, ("If-Range", condition)]), grant, "{condition}");
        }
    }
}
