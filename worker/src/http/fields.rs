//! What the header fields of one request say about the message itself: where its body ends, whether the connection
//! goes on, which host is meant (RFC 9112 sections 3.2, 6 and 9; RFC 9110 sections 7.6.1, 7.8 and 10.1.1). Fed field by
//! field by `head`. Every ambiguity is refused, because the next reader of the message might resolve it differently.

use super::grammar::{decimal, is_token, list};
use super::head::Version;
use super::refusal::Refusal;
use super::target::is_host;
use appliance_link::reason;

/// How the end of a request body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// `Content-Length`, in bytes; 0 is a body of its own kind, because applications see the header.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// The `Transfer-Encoding` of a message, all its fields together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Absent,
    Chunked,
    Unknown,
}

/// What the client expects before it sends the body, all `Expect` fields together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expectation {
    #[default]
    Nothing,
    Continue,
    Other,
}

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub host: Option<&'a [u8]>,
    length: Option<u64>,
    coding: Coding,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade: bool,
    expectation: Expectation,
}

impl<'a> Fields<'a> {
    /// Takes one field. The length of a name sorts nearly all fields out before a byte is compared.
    pub(super) fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => self.take_host(value),
            6 if name.eq_ignore_ascii_case("expect") => {
                self.take_expect(value);
                Ok(())
            }
            7 if name.eq_ignore_ascii_case("upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                self.take_connection(value);
                Ok(())
            }
            14 if name.eq_ignore_ascii_case("content-length") => self.take_length(value),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.take_coding(value),
            _ => Ok(()),
        }
    }

    fn take_host(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        if self.host.is_some() {
            return Err(Refusal::bad(reason::BAD_HOST, "two Host headers"));
        }
        if !is_host(value) {
            return Err(Refusal::bad(
                reason::BAD_HOST,
                "the Host header is not a host name with an optional port",
            ));
        }
        self.host = Some(value);
        Ok(())
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn take_expect(&mut self, value: &[u8]) {
        let known = self.expectation != Expectation::Other && value.eq_ignore_ascii_case(b"100-continue");
        self.expectation = if known { Expectation::Continue } else { Expectation::Other };
    }

    /// RFC 9112 section 6.3 would allow equal repetitions; we refuse every repetition.
    fn take_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() {
            return Err(Refusal::bad(reason::BAD_LENGTH, "two Content-Length headers"));
        }
        self.length = Some(
            decimal(value)
                .ok_or(Refusal::bad(reason::BAD_LENGTH, "the Content-Length is not a decimal number"))?,
        );
        Ok(())
    }

    fn take_coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for name in list(value) {
            if !is_token(name) {
                return Err(Refusal::bad(reason::BAD_CODING, "the Transfer-Encoding is malformed"));
            }
            self.coding = match (self.coding, name.eq_ignore_ascii_case(b"chunked")) {
                (Coding::Chunked, _) => {
                    return Err(Refusal::bad(
                        reason::BAD_CODING,
                        "chunked must be the last transfer coding, and stand once",
                    ));
                }
                (Coding::Absent, true) => Coding::Chunked,
                (Coding::Unknown, _) | (Coding::Absent, false) => Coding::Unknown,
            };
        }
        Ok(())
    }

    /// Judges the framing once all fields have been taken. `limit`: bytes that a body may have.
    pub(super) fn framing(&self, version: Version, limit: u64) -> Result<Framing, Refusal> {
        match (self.coding, self.length) {
            (Coding::Absent, None) => Ok(Framing::None),
            (Coding::Absent, Some(n)) if n > limit => Err(TOO_LARGE),
            (Coding::Absent, Some(n)) => Ok(Framing::Length(n)),
            (_, Some(_)) => {
                Err(Refusal::bad(reason::LENGTH_AND_CHUNKED, "Content-Length and Transfer-Encoding together"))
            }
            _ if version == Version::Http10 => {
                Err(Refusal::bad(reason::CHUNKED_IN_OLD_VERSION, "Transfer-Encoding in an HTTP/1.0 request"))
            }
            (Coding::Unknown, None) => Err(Refusal::new(
                501,
                reason::UNKNOWN_CODING,
                "a transfer coding other than chunked is not supported",
            )),
            (Coding::Chunked, None) => Ok(Framing::Chunked),
        }
    }

    /// Whether the client wants the connection to go on after this request.
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Whether the client waits for a 100 before it sends the body. HTTP/1.0 knows no expectations.
    pub(super) fn expect_continue(&self, version: Version) -> Result<bool, Refusal> {
        match (version, self.expectation) {
            (Version::Http10, _) | (_, Expectation::Nothing) => Ok(false),
            (_, Expectation::Continue) => Ok(true),
            (_, Expectation::Other) => Err(Refusal::new(
                417,
                reason::UNKNOWN_EXPECTATION,
                "an expectation other than 100-continue is not supported",
            )),
        }
    }

    /// Whether the client offers another protocol. HTTP/1.0 knows no upgrades.
    pub(super) fn upgrade(&self, version: Version) -> bool {
        version == Version::Http11 && self.upgrade_option && self.upgrade
    }
}

/// A body that is announced, or turns out, to be larger than `limits.body`.
pub(super) const TOO_LARGE: Refusal =
    Refusal::new(413, reason::BODY_TOO_LARGE, "the request body is too large");
