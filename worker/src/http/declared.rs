//! What an application says about its answer, its status line and its headers, checked before a byte of it is sent
//! (PEP 3333, "The start_response() Callable" and "Other HTTP Features"). Called by every kind of application host.
//! Nothing is repaired: a line break in a header is somebody's attempt to write a second answer.

use super::grammar::{decimal, is_token, is_value, list};
use appliance_link::private::is_private;
use thiserror::Error;

/// An answer that cannot be sent as the application gave it. The request ends with a 500, the sentence goes to the log.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Invalid {
    /// The status is not `NNN reason`.
    #[error("status \"{0}\" is not three digits, a space and a reason, such as \"200 OK\"")]
    Status(String),
    /// An application gives final answers only.
    #[error("status \"{0}\" is an interim one; an application gives its final answer, from 200 on")]
    Interim(String),
    /// The name is not a token.
    #[error("header \"{0}\": the name is empty or contains a character that is not allowed")]
    Name(String),
    /// The value would break the message.
    #[error("header \"{0}\": the value contains a control character, such as a line break")]
    Value(String),
    /// The header belongs to the server (RFC 9110 section 7.6.1).
    #[error("header \"{0}\" is about the connection, which is the server's business; leave it out")]
    HopByHop(String),
    /// The name is one of those that tell the proxy something.
    #[error(
        "header \"{0}\": names that begin with \"X-Appliance-\" are the server's own; choose another one"
    )]
    Private(String),
    /// The length is not a number.
    #[error("header \"{0}\": the value is not a number of bytes in decimal digits")]
    Length(String),
    /// The length is given again.
    #[error("header \"{0}\" is given twice")]
    Twice(String),
    /// The length or the fate of a connection, in an interim answer.
    #[error(
        "header \"{0}\" is about the answer that follows; give it to start_response() and leave it out of the hints"
    )]
    NoHint(String),
    /// Status and headers together are larger than anybody takes.
    #[error("the headers take more than {0} bytes; put into the body what is so large")]
    TooLarge(usize),
}

/// The facts among the headers of one answer that decide its framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// `Content-Length` in bytes.
    pub length: Option<u64>,
    /// The application asked for `Connection: close`.
    pub close: bool,
    /// The application gave a `Date` of its own.
    pub date: bool,
}

impl Declared {
    /// Checks one header and notes what it says. Whether the line is to be sent as it is: `Content-Length` and
    /// `Connection` are not, since the plan of the answer writes its own.
    ///
    /// PEP 3333 forbids `Connection` as it forbids every hop-by-hop header, but code written for event streams sets
    /// `keep-alive` and uWSGI lets it: that, and `close`, are understood.
    pub fn take(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Invalid> {
        if !is_token(name) {
            return Err(Invalid::Name(printable(name)));
        }
        if !is_value(value) {
            return Err(Invalid::Value(printable(name)));
        }
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            _ if is_private(name) => return Err(Invalid::Private(printable(name))),
            4 if is(b"date") => self.date = true,
            10 if is(b"connection") => {
                self.take_connection(name, value)?;
                return Ok(false);
            }
            14 if is(b"content-length") => {
                self.take_length(name, value)?;
                return Ok(false);
            }
            2 | 7 | 8 | 10 | 16.. if is_hop_by_hop(name) => return Err(Invalid::HopByHop(printable(name))),
            _ => {}
        }
        Ok(true)
    }

    fn take_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        let length = decimal(value.trim_ascii()).ok_or_else(|| Invalid::Length(printable(name)))?;
        if self.length.is_some() {
            return Err(Invalid::Twice(printable(name)));
        }
        self.length = Some(length);
        Ok(())
    }

    fn take_connection(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        let mut close = self.close;
        for option in list(value) {
            match option {
                _ if option.eq_ignore_ascii_case(b"close") => close = true,
                _ if option.eq_ignore_ascii_case(b"keep-alive") => {}
                _ => return Err(Invalid::HopByHop(printable(name))),
            }
        }
        self.close = close;
        Ok(())
    }
}

/// Checks a header of an interim answer: as any other, and nothing that decides how the final one is framed.
pub fn hint(name: &[u8], value: &[u8]) -> Result<(), Invalid> {
    match Declared::default().take(name, value)? {
        true => Ok(()),
        false => Err(Invalid::NoHint(printable(name))),
    }
}

fn is_hop_by_hop(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 9] = [
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
    ];
    NAMES.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// The code of a status such as `200 OK`. The reason may be empty, but the space before it may not be missing.
pub fn status(status: &[u8]) -> Result<u16, Invalid> {
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', reason @ ..] = status else {
        return Err(Invalid::Status(printable(status)));
    };
    if !is_value(reason) {
        return Err(Invalid::Status(printable(status)));
    }
    match u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0') {
        100..=199 => Err(Invalid::Interim(printable(status))),
        code => Ok(code),
    }
}

/// Text for a log line: no control characters, and not without end.
fn printable(text: &[u8]) -> String {
    const SHOWN: usize = 80;
    let shown = text[..text.len().min(SHOWN)].escape_ascii();
    if text.len() > SHOWN { format!("{shown}…") } else { shown.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(name: &str, value: &str) -> Result<bool, Invalid> {
        Declared::default().take(name.as_bytes(), value.as_bytes())
    }

    #[test]
    fn ordinary_headers_are_sent_as_they_are() {
        for (name, value) in [
            ("Content-Type", "text/html; charset=utf-8"),
            ("X", ""),
            ("Set-Cookie", "a=b"),
            ("X-Tab", "a\tb"),
            ("X-Latin", "\u{e9}"),
            ("Te2", "x"),
            ("Upgraded", "x"),
        ] {
            assert_eq!(take(name, value), Ok(true), "{name}");
        }
    }

    #[test]
    fn a_header_that_breaks_the_message_is_named() {
        assert_eq!(take("X-A", "b\r\nSet-Cookie: c"), Err(Invalid::Value("X-A".into())));
        for value in ["\r", "\n", "\0", "\x7f", "\x1b[0m"] {
            assert_eq!(take("X-A", value), Err(Invalid::Value("X-A".into())));
        }
        for name in ["", "A B", "A:", "A\r\nB", "\u{e9}"] {
            let error = take(name, "b").unwrap_err();
            assert_eq!(error, Invalid::Name(name.as_bytes().escape_ascii().to_string()));
        }
        let text = take("A\r\nB", "c").unwrap_err().to_string();
        assert_eq!(text, r#"header "A\r\nB": the name is empty or contains a character that is not allowed"#);
    }

    #[test]
    fn hop_by_hop_headers_are_the_servers() {
        let names = "Keep-Alive,Proxy-Authenticate,Proxy-Authorization,Proxy-Connection,TE,Trailer,Trailers,\
                     Transfer-Encoding,UPGRADE";
        for name in names.split(',') {
            assert_eq!(take(name, "chunked"), Err(Invalid::HopByHop(name.into())));
        }
        assert_eq!(take("Connection", "Upgrade"), Err(Invalid::HopByHop("Connection".into())));
    }

    #[test]
    fn what_the_proxy_is_told_is_not_the_application_s() {
        for name in ["X-Appliance-Core", "x-appliance-cause", "X-APPLIANCE-X"] {
            assert_eq!(take(name, "1"), Err(Invalid::Private(name.into())));
        }
        assert_eq!(take("X-Application", "1"), Ok(true));
    }

    #[test]
    fn a_hint_is_a_header_that_decides_nothing() {
        assert_eq!(hint(b"Link", b"</a.css>; rel=preload"), Ok(()));
        assert_eq!(hint(b"Content-Length", b"5"), Err(Invalid::NoHint("Content-Length".into())));
        assert_eq!(hint(b"connection", b"close"), Err(Invalid::NoHint("connection".into())));
        assert_eq!(hint(b"TE", b"x"), Err(Invalid::HopByHop("TE".into())));
        assert_eq!(hint(b"Link", b"a\r\nX: b"), Err(Invalid::Value("Link".into())));
        assert_eq!(hint(b"Li nk", b"a"), Err(Invalid::Name("Li nk".into())));
    }

    #[test]
    fn the_facts_that_decide_the_framing_are_noted() {
        let mut declared = Declared::default();
        assert_eq!(declared.take(b"content-length", b"42"), Ok(false));
        assert_eq!(declared.take(b"Connection", b"Keep-Alive"), Ok(false));
        assert!(!declared.close);
        assert_eq!(declared.take(b"Connection", b"close"), Ok(false));
        assert_eq!(declared.take(b"Date", b"now"), Ok(true));
        assert_eq!(declared, Declared { length: Some(42), close: true, date: true });
        assert_eq!(declared.take(b"Content-Length", b"42"), Err(Invalid::Twice("Content-Length".into())));
        assert_eq!(take("Content-Length", "-1"), Err(Invalid::Length("Content-Length".into())));
    }

    #[test]
    fn of_a_header_that_is_refused_nothing_is_taken() {
        let mut declared = Declared::default();
        let upgrade = declared.take(b"Connection", b"close, upgrade");
        assert_eq!(upgrade, Err(Invalid::HopByHop("Connection".into())));
        assert_eq!(declared.take(b"Content-Length", b"5x"), Err(Invalid::Length("Content-Length".into())));
        assert!(declared.take(b"Date", b"a\r\nb").is_err());
        assert_eq!(declared, Declared::default());
    }

    #[test]
    fn a_status_is_three_digits_a_space_and_a_reason() {
        assert_eq!(status(b"200 OK"), Ok(200));
        assert_eq!(status(b"404 "), Ok(404));
        assert_eq!(status("299 \u{e9}".as_bytes()), Ok(299));
        for bad in
            ["", "200", "200OK", "20 OK", " 200 OK", "2000 OK", "200 OK\r\nA: b", "099 No", "OK", "abc def"]
        {
            assert!(matches!(status(bad.as_bytes()), Err(Invalid::Status(_))), "{bad}");
        }
        assert_eq!(status(b"100 Continue"), Err(Invalid::Interim("100 Continue".into())));
    }
}
