"""Metrics: those of `appliance.metrics`. Each is there from when it is first set, as a counter that may be set."""

import threading

from appliance._outside_metrics import MetricSeries, metric_family, metric_known

__all__ = [
    "metric_dec", "metric_div", "metric_get", "metric_inc", "metric_mul", "metric_set", "metric_set_max", "metric_set_min",
]  # fmt: skip

_mutex = threading.Lock()


def _series(name: str) -> MetricSeries:
    return (metric_known(name) or metric_family(name, "counter", "", [], [])).series([])


def metric_get(name: str, /) -> int:
    """The value; 0 if there is no such metric."""
    family = metric_known(name)
    return int(family.series([]).get()) if family else 0


def metric_set(name: str, value: int = 1, /) -> bool | None:
    """Sets it."""
    _series(name).set(value)
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
        return metric_set(name, max(metric_get(name), value) if metric_known(name) else value)


def metric_set_min(name: str, value: int, /) -> bool | None:
    """Sets it, unless it is smaller."""
    with _mutex:
        return metric_set(name, min(metric_get(name), value) if metric_known(name) else value)
