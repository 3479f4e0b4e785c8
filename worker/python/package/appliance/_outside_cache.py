"""Caches where no server runs: one of each name that is asked for, in this process; another server's is asked for real."""

import sys
import threading
import time

from appliance import _outside_remote as remote
from appliance._outside_remote import CacheError

__all__ = [
    "CacheError", "cache_count", "cache_facts", "cache_has", "cache_left", "cache_list", "cache_read", "cache_remove",
    "cache_wipe", "cache_write",
]  # fmt: skip

_Item = tuple[bytes, float | None]
_caches: dict[str, dict[bytes, _Item]] = {}
_mutex = threading.RLock()
_WORD = 8  # bytes of a number


def _items(name: str) -> dict[bytes, _Item]:
    """What is there now, of which nothing has expired."""
    items = _caches.setdefault(name, {})
    now = time.monotonic()
    for key in [key for key, (_, end) in items.items() if end is not None and end <= now]:
        del items[key]
    return items


def cache_read(name: str, key: bytes, /) -> bytes | None:
    """The value of a key, or None."""
    if "@" in name:
        return remote.read(name, key)
    with _mutex:
        item = _items(name).get(key)
    return item[0] if item else None


def cache_has(name: str, key: bytes, /) -> bool:
    """Whether there is such a key."""
    if "@" in name:
        return remote.has(name, key)
    return cache_read(name, key) is not None


def cache_write(name: str, key: bytes, value: bytes, ttl: float | None, only_add: bool, /) -> bool:
    """Stores a value; false if it was only to be added and there is one."""
    if "@" in name:
        return remote.write(name, key, value, ttl, only_add)
    if not key:
        raise ValueError("a key has 1 byte at least")
    with _mutex:
        items = _items(name)
        if only_add and key in items:
            return False
        items[key] = (value, time.monotonic() + ttl if ttl else None)
        return True


def cache_remove(name: str, key: bytes, /) -> bool:
    """Removes an item; false if there was none."""
    if "@" in name:
        return remote.remove(name, key)
    with _mutex:
        return _items(name).pop(key, None) is not None


def cache_count(name: str, key: bytes, n: int, ttl: float | None, /) -> int:
    """Adds to the number of a key, and gives it."""
    if "@" in name:
        return remote.count(name, key, n, ttl)
    with _mutex:
        items = _items(name)
        if key not in items:
            cache_write(name, key, bytes(_WORD), ttl, True)
        value, end = items[key]
        if len(value) != _WORD:
            raise ValueError("the value is not a number")
        number = int.from_bytes(value, sys.byteorder, signed=True) + n
        items[key] = (number.to_bytes(_WORD, sys.byteorder, signed=True), end)
        return number


def cache_left(name: str, key: bytes, /) -> tuple[bool, float | None]:
    """Whether a key is there, and how many seconds it has left, None if it does not expire."""
    if "@" in name:
        remote.cannot(name, "what is left of a life")
    with _mutex:
        item = _items(name).get(key)
    if item is None:
        return False, None
    return True, None if item[1] is None else item[1] - time.monotonic()


def cache_list(name: str, /) -> list[bytes]:
    """Every key."""
    if "@" in name:
        remote.cannot(name, "its keys")
    with _mutex:
        return list(_items(name))


def cache_wipe(name: str, /) -> None:
    """Removes everything."""
    if "@" in name:
        return remote.wipe(name)
    with _mutex:
        _items(name).clear()


def cache_facts(name: str, /) -> dict[str, int]:
    """How full it is."""
    if "@" in name:
        remote.cannot(name, "its figures")
    with _mutex:
        return {"items": len(_items(name))}
