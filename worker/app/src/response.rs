//! The answer to a request. Its status and header fields come first; then its body is written as to any [`Write`].
use crate::host;
use std::fs::File;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::os::fd::AsFd;

/// The answer. Up to 16 KiB of its body are kept until the handler returns, so that a small answer leaves in one piece and with
/// its length; [`flush`](Write::flush) sends what is kept. Its writer waits while the client is slower.
#[derive(Debug)]
pub struct Response {
    /// It belongs to its coroutine, and so to one thread.
    here: PhantomData<*mut ()>,
}

impl Response {
    pub(crate) fn new() -> Response {
        Response { here: PhantomData }
    }

    /// Sets the status, from 200 to 599; it is 200 otherwise. An error once something was sent.
    pub fn status(&mut self, status: u16) -> io::Result<()> {
        host::set_status(status)
    }

    /// Adds a header field. An error if it is none, or once something was sent.
    pub fn header(&mut self, name: &str, value: impl AsRef<[u8]>) -> io::Result<()> {
        host::add_header(name.as_bytes(), value.as_ref())
    }

    /// Adds `count` bytes of a regular file to the body, from `offset` on, without reading them where the kernel can do that.
    pub fn send_file(&mut self, file: &File, offset: u64, count: u64) -> io::Result<()> {
        host::send_file(file.as_fd(), offset, count)
    }
}

impl Write for Response {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        host::write(data).map(|()| data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        host::flush()
    }
}
