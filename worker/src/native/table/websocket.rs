//! The functions of the interface for WebSockets.
#![expect(unsafe_code, reason = "takes pointers over the C interface")]

use super::{answer, bytes, deadline, put, short};
use crate::CoreId;
use crate::websocket::{Bytes, Message, Text};
use appliance_app::abi::{APPLIANCE_MESSAGE_BINARY, APPLIANCE_MESSAGE_TEXT, ApplianceText};
use nix::errno::Errno;

pub(super) unsafe extern "C" fn offer(index: usize, protocol: *mut ApplianceText) -> i32 {
    let found = answer(|here| {
        let offer = here.call.offer().map_err(|_| Errno::EPROTO)?;
        let Some(found) = offer.protocols.get(index) else { return Ok(1) };
        // SAFETY: the caller promises a place for it, or null; the call, and what it was offered, outlives its handler.
        unsafe { put(protocol, found.as_bytes()) }.map(|()| 0)
    });
    found as i32
}

pub(super) unsafe extern "C" fn accept(protocol: ApplianceText) -> i64 {
    answer(|here| {
        // SAFETY: the caller promises bytes that are valid during the call.
        let core = here.open_socket(unsafe { bytes(protocol) }?)?;
        i64::try_from(core.number()).map_err(|_| Errno::EOVERFLOW)
    })
}

pub(super) unsafe extern "C" fn receive(data: *mut ApplianceText, micros: i64) -> i32 {
    let received = answer(|here| {
        let Some(message) = here.receive(deadline(micros))? else { return Ok(0) };
        // SAFETY: as above, also after a wait. The bytes do not move when the message does.
        unsafe { put(data, message.bytes()) }?;
        let kind = match message {
            Message::Text(_) => APPLIANCE_MESSAGE_TEXT,
            Message::Binary(_) => APPLIANCE_MESSAGE_BINARY,
        };
        here.call.socket.keep(message);
        Ok(kind.into())
    });
    received as i32
}

pub(super) unsafe extern "C" fn send(socket: i64, kind: u32, data: ApplianceText) -> i32 {
    short(|here| {
        // SAFETY: the caller promises bytes that are valid during the call.
        let data = Bytes::copy_from_slice(unsafe { bytes(data) }?);
        let message = match kind {
            APPLIANCE_MESSAGE_TEXT => Message::Text(Text::try_from(data).map_err(|_| Errno::EILSEQ)?),
            APPLIANCE_MESSAGE_BINARY => Message::Binary(data),
            _ => return Err(Errno::EINVAL),
        };
        here.send_message(core(socket)?, &message)
    })
}

pub(super) unsafe extern "C" fn close(socket: i64, code: u16, reason: ApplianceText) -> i32 {
    // SAFETY: as above.
    short(|here| here.close_socket(core(socket)?, code, unsafe { bytes(reason) }?))
}

pub(super) unsafe extern "C" fn closed(reason: *mut ApplianceText) -> i32 {
    let code = answer(|here| {
        let Some(how) = here.call.socket.closed() else { return Ok(0) };
        if !reason.is_null() {
            // SAFETY: the caller promises a place for it; how it was closed is never said anew.
            unsafe { put(reason, how.reason.as_bytes()) }?;
        }
        Ok(how.code.into())
    });
    code as i32
}

/// Whose WebSocket has this number.
fn core(socket: i64) -> Result<CoreId, Errno> {
    u64::try_from(socket).map(CoreId::of_number).map_err(|_| Errno::EBADF)
}

#[cfg(test)]
mod tests {
    use super::super::text_of;
    use super::*;

    #[test]
    fn outside_of_coroutines_nothing_is_done() {
        let refused = -(Errno::EPERM as i32);
        let nothing = text_of(b"");
        // SAFETY: no pointers are handed over but null.
        let codes = unsafe {
            let null = std::ptr::null_mut();
            [offer(0, null), receive(null, 0), send(0, 1, nothing), close(0, 1000, nothing), closed(null)]
        };
        assert_eq!(codes, [refused; 5]);
    }

    #[test]
    fn a_number_that_is_none_belongs_to_nobody() {
        assert_eq!(core(-1), Err(Errno::EBADF));
        assert_eq!(core(3 << 32 | 7).unwrap().number(), 3 << 32 | 7);
    }
}
