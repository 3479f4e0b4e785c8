"""What `appliance.websocket` is made of where no server runs: no request can become a WebSocket there.

Whatever is written here has the name, the arguments and the results of its like in the server's module `_appliance`.
"""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NoReturn

__all__ = ["ConnectionClosed", "HandshakeError", "WebSocket", "accept_websocket"]


class ConnectionClosed(OSError):
    """The WebSocket is closed: `code` and `reason` say how. A request that ends with it has ended well."""

    code: int
    reason: str


class HandshakeError(OSError):
    """The request cannot become a WebSocket. If nobody catches it, the client is answered 400 or 426."""


class WebSocket:
    """One that is open. It iterates over its messages, and as a context manager it closes itself."""

    #: The subprotocol that was chosen.
    subprotocol: str | None
    #: The code with which it was closed, as far as that was noticed; 1006: without any.
    close_code: int | None
    #: The reason that goes with it.
    close_reason: str | None

    def __new__(cls) -> "NoReturn":
        raise TypeError("accept() makes WebSockets")

    def receive(self, timeout: float | None = None) -> str | bytes:
        """The next message; `TimeoutError` after so many seconds, `ConnectionClosed` when there will be none."""
        raise NotImplementedError

    def send(self, data: str | bytes | bytearray | memoryview, /) -> None:
        """Sends a message, `str` as text and the others as binary."""
        raise NotImplementedError

    async def asend(self, data: str | bytes | bytearray | memoryview, /) -> None:
        """The same, to be awaited on the loop."""
        raise NotImplementedError

    def ping(self, payload: str | bytes | None = None, /) -> None:
        """Sends a ping of at most 125 bytes; nothing waits for the answer."""
        raise NotImplementedError

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes it; once is enough."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[str | bytes]:
        raise NotImplementedError

    def __next__(self) -> str | bytes:
        raise NotImplementedError

    def __enter__(self) -> "WebSocket":
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        raise NotImplementedError


def accept_websocket(
    subprotocols: Iterable[str] = (), headers: Iterable[tuple[str, str]] = ()
) -> WebSocket:
    """Makes the connection of this request a WebSocket. The first of our subprotocols that the client speaks is chosen."""
    raise HandshakeError("a WebSocket is accepted in a request, and no server runs here")
