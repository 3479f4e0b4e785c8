"""Shared areas, of which this process has as many as the server may have; each is made when it is first used."""

import sys
import threading

from uwsgi._values import Data, as_bytes

__all__ = [
    "sharedarea_dec16", "sharedarea_dec32", "sharedarea_dec64", "sharedarea_dec8", "sharedarea_declong", "sharedarea_inc16",
    "sharedarea_inc32", "sharedarea_inc64", "sharedarea_inc8", "sharedarea_inclong", "sharedarea_memoryview",
    "sharedarea_read", "sharedarea_read16", "sharedarea_read32", "sharedarea_read64", "sharedarea_read8",
    "sharedarea_readbyte", "sharedarea_readlong", "sharedarea_rlock", "sharedarea_unlock", "sharedarea_wlock",
    "sharedarea_write", "sharedarea_write16", "sharedarea_write32", "sharedarea_write64", "sharedarea_write8",
    "sharedarea_writebyte", "sharedarea_writelong",
]  # fmt: skip

AREAS, SIZE = 64, 65536

_mutex = threading.RLock()
_areas: dict[int, bytearray] = {}
_locks = [threading.Lock() for _ in range(AREAS)]


def _area(id: int) -> bytearray:
    if not 0 <= id < AREAS:
        raise ValueError(f"there is no shared area {id}")
    with _mutex:
        return _areas.setdefault(id, bytearray(SIZE))


def _piece(id: int, pos: int, length: int) -> memoryview:
    area = _area(id)
    if pos < 0 or length < 0 or pos + length > SIZE:
        raise ValueError(f"position {pos} of shared area {id}: not all of it would be inside, which ends after {SIZE} bytes")
    return memoryview(area)[pos : pos + length]


def sharedarea_read(id: int, pos: int, len: int = 0, /) -> bytes:
    """A copy of so many bytes; 0: all from there on."""
    return bytes(_piece(id, pos, len or max(SIZE - pos, 1)))


def sharedarea_write(id: int, pos: int, data: Data, /) -> None:
    """Writes bytes, or text as UTF-8."""
    written = as_bytes(data)
    _piece(id, pos, len(written))[:] = written


def sharedarea_memoryview(id: int, /) -> memoryview:
    """The memory itself."""
    return memoryview(_area(id))


def sharedarea_rlock(id: int, /) -> None:
    """Waits until nobody else holds the lock of the area."""
    _area(id)
    _locks[id].acquire()


def sharedarea_wlock(id: int, /) -> None:
    """The same."""
    sharedarea_rlock(id)


def sharedarea_unlock(id: int, /) -> None:
    """Gives it back."""
    _area(id)
    if _locks[id].locked():
        _locks[id].release()


def _read(id: int, pos: int, width: int) -> int:
    return int.from_bytes(_piece(id, pos, width), sys.byteorder, signed=True)


def _write(id: int, pos: int, width: int, value: int) -> None:
    bits = 8 * width
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise OverflowError(f"{value} does not fit into {bits} bits")
    _piece(id, pos, width)[:] = (value % (1 << bits)).to_bytes(width, sys.byteorder)


def _add(id: int, pos: int, width: int, amount: int) -> None:
    with _mutex:
        _write(id, pos, width, (_read(id, pos, width) + amount) % (1 << 8 * width))


def sharedarea_read8(id: int, pos: int, /) -> int:
    """The number of 8 bits at a position, with its sign."""
    return _read(id, pos, 1)


def sharedarea_write8(id: int, pos: int, value: int, /) -> None:
    """Writes a number of 8 bits."""
    _write(id, pos, 1, value)


def sharedarea_inc8(id: int, pos: int, amount: int = 1, /) -> None:
    """Adds to a number of 8 bits."""
    _add(id, pos, 1, amount)


def sharedarea_dec8(id: int, pos: int, amount: int = 1, /) -> None:
    """Subtracts from a number of 8 bits."""
    _add(id, pos, 1, -amount)


def sharedarea_read16(id: int, pos: int, /) -> int:
    """The number of 16 bits at a position, with its sign."""
    return _read(id, pos, 2)


def sharedarea_write16(id: int, pos: int, value: int, /) -> None:
    """Writes a number of 16 bits."""
    _write(id, pos, 2, value)


def sharedarea_inc16(id: int, pos: int, amount: int = 1, /) -> None:
    """Adds to a number of 16 bits."""
    _add(id, pos, 2, amount)


def sharedarea_dec16(id: int, pos: int, amount: int = 1, /) -> None:
    """Subtracts from a number of 16 bits."""
    _add(id, pos, 2, -amount)


def sharedarea_read32(id: int, pos: int, /) -> int:
    """The number of 32 bits at a position, with its sign."""
    return _read(id, pos, 4)


def sharedarea_write32(id: int, pos: int, value: int, /) -> None:
    """Writes a number of 32 bits."""
    _write(id, pos, 4, value)


def sharedarea_inc32(id: int, pos: int, amount: int = 1, /) -> None:
    """Adds to a number of 32 bits."""
    _add(id, pos, 4, amount)


def sharedarea_dec32(id: int, pos: int, amount: int = 1, /) -> None:
    """Subtracts from a number of 32 bits."""
    _add(id, pos, 4, -amount)


def sharedarea_read64(id: int, pos: int, /) -> int:
    """The number of 64 bits at a position, with its sign."""
    return _read(id, pos, 8)


def sharedarea_write64(id: int, pos: int, value: int, /) -> None:
    """Writes a number of 64 bits."""
    _write(id, pos, 8, value)


def sharedarea_inc64(id: int, pos: int, amount: int = 1, /) -> None:
    """Adds to a number of 64 bits."""
    _add(id, pos, 8, amount)


def sharedarea_dec64(id: int, pos: int, amount: int = 1, /) -> None:
    """Subtracts from a number of 64 bits."""
    _add(id, pos, 8, -amount)


sharedarea_readbyte, sharedarea_writebyte = sharedarea_read8, sharedarea_write8
sharedarea_readlong, sharedarea_writelong = sharedarea_read64, sharedarea_write64
sharedarea_inclong, sharedarea_declong = sharedarea_inc64, sharedarea_dec64
