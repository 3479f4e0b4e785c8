//! The worker's functions for WebSockets, with safe types around them. A worker that is older than this crate may not have them.
use super::{NOTHING, answer, bytes, may_wait, micros, text};
use crate::abi::{APPLIANCE_MESSAGE_TEXT, ApplianceHost};
use nix::errno::Errno;
use std::io;
use std::time::Duration;

/// One of the worker's functions, if it has them.
fn function<F>(choose: impl FnOnce(&ApplianceHost) -> Option<F>) -> io::Result<F> {
    choose(super::host()?).ok_or_else(|| Errno::ENOSYS.into())
}

/// The subprotocol at a place in what the client offers, for a caller who holds the request for `'a`.
pub(crate) fn offer<'a>(index: usize) -> io::Result<Option<&'a [u8]>> {
    let mut protocol = NOTHING;
    // SAFETY: the pointer is valid during the call.
    let code = answer(unsafe { function(|host| host.websocket_offer)?(index, &raw mut protocol) })?;
    // SAFETY: the worker has given the text, which lives as long as the request.
    Ok((code == 0).then(|| unsafe { bytes(protocol) }))
}

pub(crate) fn accept(protocol: &str) -> io::Result<i64> {
    may_wait()?;
    // SAFETY: the text is valid during the call.
    answer(unsafe { function(|host| host.websocket_accept)?(text(protocol.as_bytes())) })
}

/// The next message, as its kind and what it consists of; `None` if there will be none any more.
pub(crate) fn receive(timeout: Option<Duration>) -> io::Result<Option<(u32, Vec<u8>)>> {
    may_wait()?;
    let mut data = NOTHING;
    // SAFETY: the pointer is valid during the call.
    let kind = answer(unsafe { function(|host| host.websocket_receive)?(&raw mut data, micros(timeout)) })?;
    let kind = u32::try_from(kind).unwrap_or_default();
    // SAFETY: the worker has given the bytes, and nobody else receives before they are copied.
    Ok((kind > 0).then(|| (kind, unsafe { bytes(data) }.to_vec())))
}

pub(crate) fn send(socket: i64, kind: u32, data: &[u8]) -> io::Result<()> {
    may_wait()?;
    // SAFETY: the bytes are valid during the call.
    answer(unsafe { function(|host| host.websocket_send)?(socket, kind, text(data)) }).map(drop)
}

pub(crate) fn close(socket: i64, code: u16, reason: &str) -> io::Result<()> {
    // SAFETY: the text is valid during the call.
    answer(unsafe { function(|host| host.websocket_close)?(socket, code, text(reason.as_bytes())) }).map(drop)
}

/// How the request's WebSocket was closed, as a code and a reason; `None`: it is open.
pub(crate) fn closed() -> Option<(u16, String)> {
    let mut reason = NOTHING;
    // SAFETY: the pointer is valid during the call.
    let code = unsafe { function(|host| host.websocket_closed).ok()?(&raw mut reason) };
    let code = u16::try_from(code).ok().filter(|code| *code > 0)?;
    // SAFETY: the worker has given the text, and it is copied at once.
    Some((code, String::from_utf8_lossy(unsafe { bytes(reason) }).into_owned()))
}

/// Whether a message of this kind is text.
pub(crate) fn is_text(kind: u32) -> bool {
    kind == APPLIANCE_MESSAGE_TEXT
}
