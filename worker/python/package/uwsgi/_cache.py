"""Caches: those of `appliance.cache`, one for each name that is asked for, in this process."""

import functools
import operator
import sys
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from appliance._outside_cache import (
    CacheError,
    cache_count,
    cache_list,
    cache_read,
    cache_remove,
    cache_wipe,
    cache_write,
)
from uwsgi._values import Data, as_bytes

__all__ = [
    "cache_clear", "cache_dec", "cache_del", "cache_div", "cache_exists", "cache_get", "cache_inc", "cache_keys",
    "cache_mul", "cache_num", "cache_set", "cache_update",
]  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")

_mutex = threading.Lock()
_WORD = 8  # bytes of a counter


def _forgiving(call: Callable[P, T]) -> Callable[P, T | None]:
    """Another server that cannot be asked is a miss."""

    @functools.wraps(call)
    def forgiving(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return call(*args, **kwargs)
        except CacheError:
            return None

    return forgiving


@_forgiving
def cache_get(key: Data, cache: str | None = None, /) -> bytes | None:
    """The value; None if it is not there."""
    return cache_read(cache or "", as_bytes(key))


def cache_exists(key: Data, cache: str | None = None, /) -> bool | None:
    """True or None."""
    return True if cache_get(key, cache) is not None else None


@_forgiving
def _store(key: Data, value: Data, expires: int, cache: str | None, only_add: bool) -> bool | None:
    name, data = as_bytes(key), as_bytes(value)
    if not name or not data:
        return None
    return cache_write(cache or "", name, data, max(expires, 0) or None, only_add) or None


def cache_set(key: Data, value: Data, expires: int = 0, cache: str | None = None, /) -> bool | None:
    """Stores what is not there yet, for so many seconds; None if it is."""
    return _store(key, value, expires, cache, only_add=True)


def cache_update(key: Data, value: Data, expires: int = 0, cache: str | None = None, /) -> bool | None:
    """Stores, whether it is there or not."""
    return _store(key, value, expires, cache, only_add=False)


@_forgiving
def cache_del(key: Data, cache: str | None = None, /) -> bool | None:
    """Removes; None if it is not there."""
    return cache_remove(cache or "", as_bytes(key)) or None


@_forgiving
def cache_clear(cache: str | None = None, /) -> bool | None:
    """Removes everything."""
    cache_wipe(cache or "")
    return True


def cache_keys(cache: str | None = None, /) -> list[bytes]:
    """The keys of all that is there."""
    return cache_list(cache or "")


def cache_num(key: Data, cache: str | None = None, /) -> int:
    """The value of a counter; 0 if it is none."""
    value = cache_get(key, cache)
    if value is None or len(value) != _WORD:
        return 0
    return int.from_bytes(value, sys.byteorder, signed=True)


@_forgiving
def _count(
    key: Data, operand: int, expires: int, cache: str | None, compute: Callable[[int, int], int]
) -> bool | None:
    with _mutex:
        before = cache_num(key, cache)
        number = (compute(before, operand) + 2**63) % 2**64 - 2**63
        try:
            cache_count(cache or "", as_bytes(key), number - before, max(expires, 0) or None)
        except ValueError:
            return None
        return True


def cache_inc(key: Data, n: int = 1, expires: int = 0, cache: str | None = None, /) -> bool | None:
    """Adds to a counter, which begins with 0; None if the value is none."""
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
