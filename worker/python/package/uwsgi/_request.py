"""The calls about the request that runs: none does here, and they say so."""

import os
from typing import BinaryIO, NoReturn

from uwsgi._values import Data

__all__ = [
    "add_var", "async_id", "chunked_read", "chunked_read_nb", "cl", "connection_fd", "disconnect", "get_logvar",
    "log_this_request", "offload", "request_id", "sendfile", "set_logvar", "set_user_harakiri", "websocket_handshake", "websocket_recv",
    "websocket_recv_nb", "websocket_send", "websocket_send_binary",
]  # fmt: skip


def _outside(call: str) -> NoReturn:
    raise RuntimeError(f"{call} works only inside a request, and no server runs here")


def async_id() -> int:
    """Number of this request's core."""
    _outside("uwsgi.async_id()")


def request_id() -> int:
    """Number of the request among those of its worker."""
    _outside("uwsgi.request_id()")


def connection_fd() -> int:
    """What names this request's connection."""
    _outside("uwsgi.connection_fd()")


def cl() -> int:
    """Content-Length of the request."""
    _outside("uwsgi.cl()")


def disconnect() -> None:
    """Ends the response; the request runs on."""
    _outside("uwsgi.disconnect()")


def chunked_read(timeout: float = 0.0, /) -> bytes:
    """The next piece of the body."""
    _outside("uwsgi.chunked_read()")


def chunked_read_nb() -> bytes | None:
    """The same without waiting."""
    _outside("uwsgi.chunked_read_nb()")


def sendfile(
    file: str | os.PathLike[str] | int | BinaryIO, chunk: int = 0, pos: int = 0, size: int = 0, /
) -> bool | None:
    """Promises a file as the body."""
    _outside("uwsgi.sendfile()")


def offload(file: str | os.PathLike[str] | int | BinaryIO | None = None, size: int = 0, /) -> bytes:
    """Promises a file as the body, and gives an empty one to return."""
    _outside("uwsgi.offload()")


def set_logvar(key: Data, value: Data, /) -> None:
    """A variable of this request for its line in the access log."""
    _outside("uwsgi.set_logvar()")


def get_logvar(key: Data, /) -> bytes | None:
    """Its value."""
    _outside("uwsgi.get_logvar()")


def add_var(key: Data, value: Data, /) -> bool:
    """The same as set_logvar()."""
    _outside("uwsgi.add_var()")


def log_this_request() -> None:
    """A log line for this request."""
    _outside("uwsgi.log_this_request()")


def set_user_harakiri(seconds: int, /) -> None:
    """Limits the time of this request; here nothing is limited, so that what is decorated with @harakiri can be tested."""


def _no_websocket(call: str) -> NoReturn:
    raise OSError(f"uwsgi.{call}() works only inside a request, and no server runs here")


def websocket_handshake(key: Data = "", origin: Data = "", proto: Data = "", /) -> None:
    """Makes the connection of this request a WebSocket."""
    _no_websocket("websocket_handshake")


def websocket_recv() -> bytes:
    """The next message."""
    _no_websocket("websocket_recv")


def websocket_recv_nb() -> bytes:
    """The same without waiting."""
    _no_websocket("websocket_recv_nb")


def websocket_send(message: Data, /) -> None:
    """Sends text."""
    _no_websocket("websocket_send")


def websocket_send_binary(message: Data, /) -> None:
    """Sends bytes."""
    _no_websocket("websocket_send_binary")
