"""Caches: one dict for each name, in this process, with exact expiry. Values are never copied to anybody."""

import operator
import sys
import threading
import time
from collections.abc import Callable

from uwsgi._values import Data, as_bytes

__all__ = [
    "cache_clear", "cache_dec", "cache_del", "cache_div", "cache_exists", "cache_get", "cache_inc", "cache_keys",
    "cache_mul", "cache_num", "cache_set", "cache_update",
]  # fmt: skip

_Item = tuple[bytes, float | None]
_caches: dict[str, dict[bytes, _Item]] = {}
_mutex = threading.Lock()
_WORD = 8  # bytes of a counter
_ORDER = sys.byteorder


def _items(cache: str | None) -> dict[bytes, _Item]:
    """What is there now, of which nothing has expired."""
    items = _caches.setdefault(cache or "", {})
    now = time.monotonic()
    for key in [key for key, (_, end) in items.items() if end is not None and end <= now]:
        del items[key]
    return items


def _store(items: dict[bytes, _Item], key: bytes, value: bytes, expires: int) -> bool | None:
    if not key or not value:
        return None
    items[key] = (value, time.monotonic() + expires if expires > 0 else None)
    return True


def cache_get(key: Data, cache: str | None = None, /) -> bytes | None:
    """The value; None if it is not there."""
    with _mutex:
        item = _items(cache).get(as_bytes(key))
    return item and item[0]


def cache_exists(key: Data, cache: str | None = None, /) -> bool | None:
    """True or None."""
    return True if cache_get(key, cache) is not None else None


def cache_set(key: Data, value: Data, expires: int = 0, cache: str | None = None, /) -> bool | None:
    """Stores what is not there yet, for so many seconds; None if it is."""
    name, data = as_bytes(key), as_bytes(value)
    with _mutex:
        items = _items(cache)
        return None if name in items else _store(items, name, data, expires)


def cache_update(key: Data, value: Data, expires: int = 0, cache: str | None = None, /) -> bool | None:
    """Stores, whether it is there or not."""
    name, data = as_bytes(key), as_bytes(value)
    with _mutex:
        return _store(_items(cache), name, data, expires)


def cache_del(key: Data, cache: str | None = None, /) -> bool | None:
    """Removes; None if it is not there."""
    with _mutex:
        return True if _items(cache).pop(as_bytes(key), None) else None


def cache_clear(cache: str | None = None, /) -> bool | None:
    """Removes everything."""
    with _mutex:
        _items(cache).clear()
    return True


def cache_keys(cache: str | None = None, /) -> list[bytes]:
    """The keys of all that is there."""
    with _mutex:
        return list(_items(cache))


def cache_num(key: Data, cache: str | None = None, /) -> int:
    """The value of a counter; 0 if it is none."""
    return _number(cache_get(key, cache))


def _number(value: bytes | None) -> int:
    if value is None or len(value) != _WORD:
        return 0
    return int.from_bytes(value, _ORDER, signed=True)


def _count(
    key: Data, operand: int, expires: int, cache: str | None, compute: Callable[[int, int], int]
) -> bool | None:
    name = as_bytes(key)
    with _mutex:
        items = _items(cache)
        value, end = items.get(name, (bytes(_WORD), None))
        if len(value) != _WORD:
            return None
        number = (compute(_number(value), operand) + 2**63) % 2**64 - 2**63
        _store(items, name, number.to_bytes(_WORD, _ORDER, signed=True), expires if name not in items else 0)
        if end is not None:
            items[name] = (items[name][0], end)
    return True


def cache_inc(key: Data, n: int = 1, expires: int = 0, cache: str | None = None, /) -> bool | None:
    """Adds to a counter, which begins with 0."""
    return _count(key, n, expires, cache, operator.add)


def cache_dec(key: Data, n: int = 1, expires: int = 0, cache: str | None = None, /) -> bool | None:
    """Subtracts from a counter."""
    return _count(key, n, expires, cache, operator.sub)


def cache_mul(key: Data, n: int = 2, expires: int = 0, cache: str | None = None, /) -> bool | None:
    """Multiplies a counter."""
    return _count(key, n, expires, cache, operator.mul)


def cache_div(key: Data, n: int = 2, expires: int = 0, cache: str | None = None, /) -> bool | None:
    """Divides a counter; by 0 it becomes 0."""
    return _count(key, n, expires, cache, lambda value, n: int(value / n) if n else 0)
