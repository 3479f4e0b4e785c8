//! HTTP/1.1 as pure code: bytes in, values out, no sockets and no clock.
