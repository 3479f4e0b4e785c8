"""Metrics: numbers of this process. Each is there from when it is first set."""

import threading

__all__ = [
    "metric_dec", "metric_div", "metric_get", "metric_inc", "metric_mul", "metric_set", "metric_set_max", "metric_set_min",
]  # fmt: skip

_values: dict[str, int] = {}
_mutex = threading.Lock()


def metric_get(name: str, /) -> int:
    """The value; 0 if there is no such metric."""
    return _values.get(name, 0)


def metric_set(name: str, value: int = 1, /) -> bool | None:
    """Sets it."""
    _values[name] = value
    return True


def metric_inc(name: str, n: int = 1, /) -> bool | None:
    """Adds to it."""
    with _mutex:
        return metric_set(name, metric_get(name) + n)


def metric_dec(name: str, n: int = 1, /) -> bool | None:
    """Subtracts from it."""
    return metric_inc(name, -n)


def metric_mul(name: str, n: int = 1, /) -> bool | None:
    """Multiplies it."""
    with _mutex:
        return metric_set(name, metric_get(name) * n)


def metric_div(name: str, n: int = 1, /) -> bool | None:
    """Divides it; None if that is by 0."""
    with _mutex:
        return metric_set(name, int(metric_get(name) / n)) if n else None


def metric_set_max(name: str, value: int, /) -> bool | None:
    """Sets it, unless it is larger."""
    with _mutex:
        return metric_set(name, max(_values.get(name, value), value))


def metric_set_min(name: str, value: int, /) -> bool | None:
    """Sets it, unless it is smaller."""
    with _mutex:
        return metric_set(name, min(_values.get(name, value), value))
