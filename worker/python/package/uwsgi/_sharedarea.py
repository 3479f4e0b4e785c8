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
        raise ValueError(f"position {pos} of shared area {id}: not all of it would be inside the area, which has {SIZE} bytes")
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


class _Number:
    """Numbers of so many bytes, in the order of the machine."""

    def __init__(self, width: int) -> None:
        self.width, self.bits = width, 8 * width

    def read(self, id: int, pos: int, /) -> int:
        """The number at a position, with its sign."""
        return int.from_bytes(_piece(id, pos, self.width), sys.byteorder, signed=True)

    def write(self, id: int, pos: int, value: int, /) -> None:
        """Writes a number."""
        if not -(1 << (self.bits - 1)) <= value < 1 << self.bits:
            raise OverflowError(f"{value} does not fit into {self.bits} bits")
        _piece(id, pos, self.width)[:] = (value % (1 << self.bits)).to_bytes(self.width, sys.byteorder)

    def inc(self, id: int, pos: int, amount: int = 1, /) -> None:
        """Adds to a number."""
        with _mutex:
            self.write(id, pos, (self.read(id, pos) + amount) % (1 << self.bits))

    def dec(self, id: int, pos: int, amount: int = 1, /) -> None:
        """Subtracts from a number."""
        self.inc(id, pos, -amount)


_8, _16, _32, _64 = map(_Number, (1, 2, 4, 8))
sharedarea_read8, sharedarea_write8, sharedarea_inc8, sharedarea_dec8 = _8.read, _8.write, _8.inc, _8.dec
sharedarea_read16, sharedarea_write16, sharedarea_inc16, sharedarea_dec16 = _16.read, _16.write, _16.inc, _16.dec
sharedarea_read32, sharedarea_write32, sharedarea_inc32, sharedarea_dec32 = _32.read, _32.write, _32.inc, _32.dec
sharedarea_read64, sharedarea_write64, sharedarea_inc64, sharedarea_dec64 = _64.read, _64.write, _64.inc, _64.dec
sharedarea_readbyte, sharedarea_writebyte = sharedarea_read8, sharedarea_write8
sharedarea_readlong, sharedarea_writelong = sharedarea_read64, sharedarea_write64
sharedarea_inclong, sharedarea_declong = sharedarea_inc64, sharedarea_dec64
