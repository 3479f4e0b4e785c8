//! The request that a handler serves. It owns nothing: the worker holds what was received until the handler returns.
use crate::abi;
use crate::host;
use std::io::{self, Read};
use std::marker::PhantomData;

/// What was asked. Its body is read as from any [`Read`]; only its own request waits for it.
#[derive(Debug)]
pub struct Request {
    /// It belongs to its coroutine, and so to one thread.
    here: PhantomData<*mut ()>,
}

impl Request {
    pub(crate) fn new() -> Request {
        Request { here: PhantomData }
    }

    /// The method, such as `GET`.
    pub fn method(&self) -> &str {
        text(host::request_text(abi::APPLIANCE_METHOD))
    }

    /// The request target as it was sent, such as `/a%20b?c`.
    pub fn target(&self) -> &[u8] {
        host::request_text(abi::APPLIANCE_TARGET)
    }

    /// The path, still percent-encoded.
    pub fn path(&self) -> &[u8] {
        host::request_text(abi::APPLIANCE_PATH)
    }

    /// What stands in the target after the first `?`; empty if there is none.
    pub fn query(&self) -> &[u8] {
        host::request_text(abi::APPLIANCE_QUERY)
    }

    /// The client's address without a port; empty on a unix socket without a proxy.
    pub fn client(&self) -> &str {
        text(host::request_text(abi::APPLIANCE_CLIENT))
    }

    /// `http` or `https`, as the client sees it.
    pub fn scheme(&self) -> &str {
        text(host::request_text(abi::APPLIANCE_SCHEME))
    }

    /// By what the logs know the request (`X-Request-ID`); may be empty.
    pub fn id(&self) -> &str {
        text(host::request_text(abi::APPLIANCE_REQUEST_ID))
    }

    /// The first header field of that name, in any case of letters.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        host::header(name.as_bytes())
    }

    /// All header fields in the order sent.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        (0..).map_while(|index| host::header_at(index).map(|(name, value)| (text(name), value)))
    }

    /// The whole body; an error if it is longer than `most` bytes, or does not arrive.
    pub fn body(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        self.take(limit).read_to_end(&mut body)?;
        if body.len() > most {
            let why = format!("the request body is longer than {most} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(body)
    }
}

impl Read for Request {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        host::read(into)
    }
}

/// Methods, addresses and ids are ASCII; anything else is nothing.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
