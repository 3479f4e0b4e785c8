"""The calls that wait: here the thread that calls does. What was announced belongs to its thread."""

import os
import select
import socket
import threading
import time

__all__ = [
    "async_connect", "async_sleep", "close", "connect", "green_schedule", "is_connected", "ready_fd", "recv", "send",
    "suspend", "wait_fd_read", "wait_fd_write",
]  # fmt: skip


class _Announced(threading.local):
    def __init__(self) -> None:
        self.until: float | None = None
        self.reading: list[int] = []
        self.writing: list[int] = []
        self.ready = -1


_announced = _Announced()


def _end(seconds: float) -> None:
    end = time.monotonic() + max(seconds, 0.0)
    _announced.until = end if _announced.until is None else min(end, _announced.until)


def async_sleep(seconds: float, /) -> bytes:
    """Announces a pause."""
    _end(seconds)
    return b""


def wait_fd_read(fd: int, timeout: float = 0.0, /) -> bytes:
    """Announces a wait until a descriptor can be read."""
    _announced.reading.append(fd)
    if timeout > 0:
        _end(timeout)
    return b""


def wait_fd_write(fd: int, timeout: float = 0.0, /) -> bytes:
    """Announces a wait until a descriptor can be written."""
    _announced.writing.append(fd)
    if timeout > 0:
        _end(timeout)
    return b""


def suspend() -> bool:
    """Waits for what was announced."""
    until, reading, writing = _announced.until, _announced.reading, _announced.writing
    _announced.__init__()  # type: ignore[misc]
    if until is None and not reading and not writing:
        raise RuntimeError("uwsgi.suspend() would wait for ever: announce before what it waits for")
    left = None if until is None else max(until - time.monotonic(), 0.0)
    ready = select.select(reading, writing, [], left)
    _announced.ready = next(iter(ready[0] + ready[1]), -1)
    return True


green_schedule = suspend


def ready_fd() -> int:
    """The descriptor that ended the last wait, -1 if a timeout did."""
    return _announced.ready


def _connecting(address: str, timeout: float | None) -> int:
    family, target = socket.AF_UNIX, address
    peer: str | tuple[str, int] = target
    if address.startswith("@"):
        peer = "\0" + address[1:]
    elif not address.startswith("/"):
        host, _, port = address.rpartition(":")
        family, peer = (socket.AF_INET6 if ":" in host else socket.AF_INET), (host.strip("[]") or "127.0.0.1", int(port))
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(peer)
    except BlockingIOError:
        pass
    except OSError:
        connection.close()
        return -1
    return connection.detach()


def connect(address: str, timeout: float = 0.0, /) -> int:
    """Connects to IP:PORT, /PATH or @ABSTRACT; the descriptor, or -1."""
    return _connecting(address, timeout if timeout > 0 else None)


def async_connect(address: str, /) -> int:
    """Starts to connect."""
    return _connecting(address, 0.0)


def is_connected(fd: int, /) -> bool:
    """Whether that is a connected socket."""
    try:
        with socket.socket(fileno=os.dup(fd)) as connection:
            return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and bool(connection.getpeername() or 1)
    except OSError:
        return False


def send(first: int | bytes, second: bytes | None = None, /) -> bool | None:
    """send(fd, data): all of it to that descriptor; None if it takes no more. send(data) needs a request."""
    if second is None or not isinstance(first, int):
        raise RuntimeError("uwsgi.send(data) works only inside a request, and no server runs here")
    data = memoryview(second)
    try:
        while data:
            data = data[os.write(_ready(first, write=True), data) :]
    except OSError:
        return None
    return True


def recv(fd: int, max: int = 4096, /) -> bytes | None:
    """What a descriptor gives next; None at its end, or if it gives no more."""
    try:
        return os.read(_ready(fd, write=False), max) or None
    except OSError:
        return None


def _ready(fd: int, write: bool) -> int:
    os.fstat(fd)  # of what is not open an OSError
    select.select([] if write else [fd], [fd] if write else [], [])
    return fd


def close(fd: int, /) -> None:
    """Closes a descriptor."""
    try:
        os.close(fd)
    except OSError:
        pass
