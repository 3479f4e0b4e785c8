//! The calls of WebSockets.
#![expect(unsafe_code, reason = "calls the worker's functions")]

use super::{NOTHING, answer, bytes, host, may_wait, micros, text};
use crate::abi::{APPLIANCE_MESSAGE_TEXT, ApplianceHost};
use nix::errno::Errno;
use std::io;
use std::time::Duration;

/// One of the functions below; an older worker has none of them.
fn function<F>(choose: impl FnOnce(&ApplianceHost) -> Option<F>) -> io::Result<F> {
    choose(host()?).ok_or_else(|| Errno::ENOSYS.into())
}

/// The subprotocol at a place in what the client offers, for a caller who holds the request for `'a`.
pub(crate) fn offer<'a>(index: usize) -> io::Result<Option<&'a [u8]>> {
    let offer = function(|host| host.websocket_offer)?;
    let mut protocol = NOTHING;
    // SAFETY: the pointer is valid during the call.
    let code = answer(unsafe { offer(index, &raw mut protocol) })?;
    // SAFETY: the worker has given the text, which lives as long as the request.
    Ok((code == 0).then(|| unsafe { bytes(protocol) }))
}

pub(crate) fn accept(protocol: &str) -> io::Result<i64> {
    may_wait()?;
    let accept = function(|host| host.websocket_accept)?;
    // SAFETY: the text is valid during the call.
    answer(unsafe { accept(text(protocol.as_bytes())) })
}

/// The next message, as its kind and what it consists of; `None` if there will be none any more.
pub(crate) fn receive(timeout: Option<Duration>) -> io::Result<Option<(u32, Vec<u8>)>> {
    may_wait()?;
    let receive = function(|host| host.websocket_receive)?;
    let mut data = NOTHING;
    // SAFETY: the pointer is valid during the call.
    let kind = answer(unsafe { receive(&raw mut data, micros(timeout)) })?;
    let kind = u32::try_from(kind).unwrap_or_default();
    // SAFETY: the worker has given the bytes, and nobody else receives before they are copied.
    Ok((kind > 0).then(|| (kind, unsafe { bytes(data) }.to_vec())))
}

pub(crate) fn send(socket: i64, kind: u32, data: &[u8]) -> io::Result<()> {
    may_wait()?;
    let send = function(|host| host.websocket_send)?;
    // SAFETY: the bytes are valid during the call.
    answer(unsafe { send(socket, kind, text(data)) }).map(drop)
}

pub(crate) fn close(socket: i64, code: u16, reason: &str) -> io::Result<()> {
    let close = function(|host| host.websocket_close)?;
    // SAFETY: the text is valid during the call.
    answer(unsafe { close(socket, code, text(reason.as_bytes())) }).map(drop)
}

/// How the request's WebSocket was closed, as a code and a reason; `None`: it is open.
pub(crate) fn closed() -> Option<(u16, String)> {
    let closed = function(|host| host.websocket_closed).ok()?;
    let mut reason = NOTHING;
    // SAFETY: the pointer is valid during the call.
    let code = u16::try_from(unsafe { closed(&raw mut reason) }).ok().filter(|code| *code > 0)?;
    // SAFETY: the worker has given the text, and it is copied at once.
    Some((code, String::from_utf8_lossy(unsafe { bytes(reason) }).into_owned()))
}

/// Whether a message of this kind is text.
pub(crate) fn is_text(kind: u32) -> bool {
    kind == APPLIANCE_MESSAGE_TEXT
}
