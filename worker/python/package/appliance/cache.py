"""Caches that all workers share: `[cache.NAME]` makes one.

    from appliance import cache

    cache.set("greeting", "hello", ttl=60)         # the first cache of the configuration
    cache.get("greeting")                          # b"hello", or None
    sessions = cache.named("sessions")             # another one; also: cache["sessions"]
    page = sessions.get_or_set("page:1", render, ttl=5)
    visits = cache.incr("visits")                  # across all workers, nothing is lost

Keys and values are bytes, or text, which is stored as UTF-8; values come back as bytes. Times are in seconds, and fractions
count. Every call takes microseconds and switches to no other request, so it is the same in requests, threads and coroutines.
A call that cannot do what it is asked for raises: `ValueError` for a key or a value that does not fit, `LookupError` for a
cache that is not configured, `CacheError` when it is full (and `lru` is off) or cannot be used at the moment.
"""

import sys
import types
from collections.abc import Callable

from appliance._engine import (
    CacheError,
    cache_count,
    cache_facts,
    cache_left,
    cache_list,
    cache_read,
    cache_remove,
    cache_wipe,
    cache_write,
)

__all__ = [
    "Cache",
    "CacheError",
    "add",
    "clear",
    "decr",
    "delete",
    "get",
    "get_or_set",
    "incr",
    "keys",
    "named",
    "set",
    "stats",
    "ttl",
]

Data = bytes | str


def _bytes(data: Data) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


class Cache:
    """The cache of a name; the first one of the configuration if it is empty."""

    __slots__ = ("_name",)

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"appliance.cache.named({self._name!r})"

    def get(self, key: Data, default: bytes | None = None) -> bytes | None:
        """The value of a key, else `default`."""
        value = cache_read(self._name, _bytes(key))
        return default if value is None else value

    def set(self, key: Data, value: Data, ttl: float | None = None) -> None:
        """Stores a value, for `ttl` seconds; 0: for ever; otherwise as long as the cache's `expires` says."""
        cache_write(self._name, _bytes(key), _bytes(value), ttl, False)

    def add(self, key: Data, value: Data, ttl: float | None = None) -> bool:
        """Stores a value if the key has none; whether it did. Of all who try at once one succeeds."""
        return cache_write(self._name, _bytes(key), _bytes(value), ttl, True)

    def get_or_set(self, key: Data, make: Callable[[], Data], ttl: float | None = None) -> bytes:
        """The value of a key; if it has none, what `make()` returns is stored first. Others may make it at the same time: the
        first one that is done is stored, and all get that."""
        while (value := self.get(key)) is None:
            made = _bytes(make())
            if self.add(key, made, ttl):
                return made
        return value

    def delete(self, key: Data) -> bool:
        """Removes a key; whether it was there."""
        return cache_remove(self._name, _bytes(key))

    def incr(self, key: Data, n: int = 1, ttl: float | None = None) -> int:
        """Adds to the number of a key, which begins at 0 and lives for `ttl` seconds from then on, and gives it. `uwsgi`'s calls
        see the same number; `get()` gives its 8 bytes."""
        return cache_count(self._name, _bytes(key), n, ttl)

    def decr(self, key: Data, n: int = 1, ttl: float | None = None) -> int:
        """Subtracts from the number of a key."""
        return cache_count(self._name, _bytes(key), -n, ttl)

    def ttl(self, key: Data) -> float | None:
        """How many seconds a key has left, None if it does not expire; KeyError if it is not there."""
        is_there, left = cache_left(self._name, _bytes(key))
        if not is_there:
            raise KeyError(key)
        return left

    def keys(self) -> list[bytes]:
        """Every key, in no order that means anything. It takes time in proportion to their number."""
        return cache_list(self._name)

    def clear(self) -> None:
        """Removes everything."""
        cache_wipe(self._name)

    def stats(self) -> dict[str, int]:
        """How full it is (`items`, `max_items`, `size`, `max_size`, `memory`), and what has happened in it since the appliance began (`sets`, `evicted`, `expired`, `refused`, `hits`, `misses`)."""
        return cache_facts(self._name)

    def __contains__(self, key: Data) -> bool:
        return cache_left(self._name, _bytes(key))[0]

    def __getitem__(self, key: Data) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Data, value: Data) -> None:
        self.set(key, value)

    def __delitem__(self, key: Data) -> None:
        if not self.delete(key):
            raise KeyError(key)


named = Cache
_first = Cache()
get, set, add, get_or_set, delete = _first.get, _first.set, _first.add, _first.get_or_set, _first.delete
incr, decr, ttl, keys, clear, stats = _first.incr, _first.decr, _first.ttl, _first.keys, _first.clear, _first.stats


class _Module(types.ModuleType):
    """`cache["sessions"]`: a module that has its caches by name."""

    def __getitem__(self, name: str) -> Cache:
        return Cache(name)


sys.modules[__name__].__class__ = _Module
