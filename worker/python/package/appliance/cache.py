"""Caches that all workers share: `[cache.NAME]` makes one.

    from appliance import cache

    cache.set("greeting", "hello", ttl=60)         # the first cache of the configuration
    cache.get("greeting")                          # b"hello", or None
    sessions = cache.named("sessions")             # another one; also cache["sessions"], which type checkers do not know
    page = sessions.get_or_set("page:1", render, ttl=5)
    visits = cache.incr("visits")                  # across all workers, nothing is lost
    there = cache.named("pages@10.0.0.2:3031")     # another server's; also: "pages@/run/other.sock"
    page = await there.aget("page:1")              # in a coroutine

Keys and values are bytes, or text, which is stored as UTF-8; values come back as bytes. Times are in seconds, and fractions
count. Every call takes microseconds and switches to no other request, so it is the same in requests, threads and coroutines;
each has an awaitable form with an `a` before its name, for code that does not know where its cache is. Another server's cache is
waited for: a request or a thread that calls, a coroutine that awaits.

A call that cannot do what it is asked for raises: `ValueError` for a key or a value that does not fit, `LookupError` for a
cache that is not configured, `CacheError` when it is full (and `lru` is off), cannot be used at the moment, or the other server
does not answer.
"""

import functools
import inspect
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from appliance._awaitable import named_after, on_core
from appliance._engine import (
    CacheError,
    cache_count,
    cache_facts,
    cache_has,
    cache_left,
    cache_list,
    cache_read,
    cache_remove,
    cache_wipe,
    cache_write,
)

__all__ = [
    "Cache", "CacheError", "aadd", "aclear", "add", "adecr", "adelete", "aget", "aget_or_set", "aincr", "akeys", "aset",
    "astats", "attl", "clear", "decr", "delete", "get", "get_or_set", "incr", "keys", "named", "set", "stats", "ttl",
]  # fmt: skip

Data = bytes | bytearray | memoryview | str
P = ParamSpec("P")
T = TypeVar("T")


def _bytes(data: Data) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode()
    try:
        return memoryview(data).tobytes()
    except TypeError:
        # Not bytes(): that makes five zeros of 5.
        kind = type(data).__name__
        raise TypeError(f"keys and values of a cache are bytes or text, not {kind}; json.dumps() makes text of it") from None


def _awaitable(
    method: Callable[Concatenate["Cache", P], T],
) -> Callable[Concatenate["Cache", P], Coroutine[Any, Any, T]]:
    """The awaitable form of a method, which takes a core only if there is something to wait for."""

    @functools.wraps(method)
    async def call(self: "Cache", /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self.is_remote:
            return await on_core(method, self, *args, **kwargs)
        return method(self, *args, **kwargs)

    return named_after(method, call)


class Cache:
    """The cache of a name; the first one of the configuration if it is empty, another server's if it is `name@address`."""

    __slots__ = ("_name", "is_remote")

    def __init__(self, name: str = "") -> None:
        self._name = name
        #: Whether it is another server's, so that its calls wait.
        self.is_remote: bool = "@" in name

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

    aget, aset, aadd, adelete = _awaitable(get), _awaitable(set), _awaitable(add), _awaitable(delete)
    aincr, adecr, attl = _awaitable(incr), _awaitable(decr), _awaitable(ttl)
    akeys, aclear, astats = _awaitable(keys), _awaitable(clear), _awaitable(stats)

    async def aget_or_set(
        self, key: Data, make: Callable[[], Data | Awaitable[Data]], ttl: float | None = None
    ) -> bytes:
        """The same as `get_or_set()`, to be awaited on the loop; `make` may be an `async def`."""
        while (value := await self.aget(key)) is None:
            made = make()
            data = _bytes(await made if inspect.isawaitable(made) else made)
            if await self.aadd(key, data, ttl):
                return data
        return value

    def __contains__(self, key: Data) -> bool:
        return cache_has(self._name, _bytes(key))

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
aget, aset, aadd, aget_or_set, adelete = _first.aget, _first.aset, _first.aadd, _first.aget_or_set, _first.adelete
aincr, adecr, attl, akeys, aclear, astats = (
    _first.aincr, _first.adecr, _first.attl, _first.akeys, _first.aclear, _first.astats,
)  # fmt: skip


class _Module(types.ModuleType):
    """`cache["sessions"]`: a module that has its caches by name."""

    def __getitem__(self, name: str) -> Cache:
        return Cache(name)


sys.modules[__name__].__class__ = _Module
