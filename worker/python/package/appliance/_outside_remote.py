"""Caches of other servers where no server runs here: scripts and shells ask them for real, over uWSGI's protocol. There is one
connection for each question, and the thread that asks waits. Called by `_outside_cache` for names with an `@`.
"""

import socket
import struct
from typing import NoReturn

__all__ = ["CacheError"]

_CACHE, _DICTIONARY = 111, 17  # modifiers 1 and 2
_PATIENCE = 5.0  # seconds; timeouts.remote by default
_MOST = 65_535  # bytes of a packet


class CacheError(Exception):
    """A cache is full, cannot be used at the moment, or is that of a server which does not answer."""


def read(name: str, key: bytes) -> bytes | None:
    """The value of a key, or None."""
    return _ask(name, b"get", _key(name, key))


def has(name: str, key: bytes) -> bool:
    """Whether there is such a key."""
    return _ask(name, b"exists", _key(name, key)) is not None


def write(name: str, key: bytes, value: bytes, ttl: float | None, only_add: bool) -> bool:
    """Stores a value; false if it was only to be added and there is one."""
    if not value:
        raise ValueError(f"cache {name}: a value that is sent to another server has 1 byte at least")
    command, variables = b"set" if only_add else b"update", _key(name, key) | _expires(name, ttl)
    if _ask(name, command, variables | {b"size": b"%d" % len(value)}, value) is not None:
        return True
    if only_add and has(name, key):
        return False
    _refused(name)


def remove(name: str, key: bytes) -> bool:
    """Removes an item; false if there was none."""
    return _ask(name, b"del", _key(name, key)) is not None


def count(name: str, key: bytes, n: int, ttl: float | None) -> int:
    """Adds to the number of a key, and gives it."""
    digits = _ask(name, b"inc", _key(name, key) | {b"num": b"%d" % n} | _expires(name, ttl))
    if digits is None:
        _refused(name)
    return int(digits)


def wipe(name: str) -> None:
    """Removes everything."""
    if _ask(name, b"clear", {}) is None:
        _refused(name)


def cannot(name: str, what: str) -> NoReturn:
    """Raises what the protocol has no word for."""
    why = f"the protocol between servers has no word for {what}; call a procedure there (appliance.rpc)"
    raise CacheError(f"cache {name}: {why}")


def _refused(name: str) -> NoReturn:
    why = "is there such a cache that listens ([cache.NAME] listen), with room, or the item a number? its log may tell"
    raise CacheError(f"cache {name}: has refused it, and the protocol between servers cannot say why: {why}")


def _key(name: str, key: bytes) -> dict[bytes, bytes]:
    if not key:
        raise ValueError(f"cache {name}: a key has 1 byte at least")
    return {b"key": key}


def _expires(name: str, ttl: float | None) -> dict[bytes, bytes]:
    if ttl is None:
        return {}
    if ttl < 1 or ttl != int(ttl):
        why = "another server is told whole seconds, 1 or more; None leaves it to its cache"
        raise ValueError(f"cache {name}: ttl {ttl}: {why}")
    return {b"expires": b"%d" % ttl}


def _ask(name: str, command: bytes, variables: dict[bytes, bytes], value: bytes = b"") -> bytes | None:
    """What is answered, b"" if that is only a yes; None for a no, which servers say by closing the connection."""
    cache, _, address = name.partition("@")
    variables = {b"cmd": command, **variables} | ({b"cache": cache.encode()} if cache else {})
    texts = [text for pair in variables.items() for text in pair]
    if sum(2 + len(text) for text in texts) > _MOST:
        raise ValueError(f"cache {name}: the packet would have more than {_MOST} bytes, which the uwsgi protocol cannot say")
    body = b"".join(struct.pack("<H", len(text)) + text for text in texts)
    try:
        with _connect(name, address) as connection, connection.makefile("rb") as answer:
            connection.sendall(struct.pack("<BHB", _CACHE, len(body), _DICTIONARY) + body + value)
            header = answer.read(4)
            told = _variables(answer.read(int.from_bytes(header[1:3], "little"))) if len(header) == 4 else {}
            return answer.read(int(told.get(b"size", b"0"))) if told.get(b"status") == b"ok" else None
    except (ConnectionResetError, BrokenPipeError):
        return None
    except (OSError, struct.error) as error:
        raise CacheError(f"cache {name}: cannot ask {address}: {error}") from error


def _connect(name: str, address: str) -> socket.socket:
    path = address.removeprefix("unix:")
    if path.startswith(("/", "@")):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_PATIENCE)
        connection.connect("\0" + path[1:] if path.startswith("@") else path)
        return connection
    host, _, port = path.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f'cache {name}: {address!r} is no address; write "10.0.0.1:3031", "/run/app.sock" or "@name"')
    return socket.create_connection((host.strip("[]"), int(port)), _PATIENCE)


def _variables(body: bytes) -> dict[bytes, bytes]:
    texts: list[bytes] = []
    while body:
        (length,) = struct.unpack_from("<H", body)
        texts.append(body[2 : 2 + length])
        body = body[2 + length :]
    return dict(zip(texts[::2], texts[1::2]))
