"""Metrics where no server runs: those of this process."""

import threading
from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["MetricFamily", "MetricSeries", "metric_family"]

_mutex = threading.Lock()
_families: dict[str, "MetricFamily"] = {}


class MetricSeries:
    """One number, or one histogram, of a metric."""

    def __init__(self, is_counter: bool, bounds: Sequence[float]) -> None:
        self._is_counter = is_counter
        self._bounds = bounds
        self._ranges = [0] * (len(bounds) + 1)
        self._value = 0.0

    def add(self, amount: float, /) -> None:
        """Adds to it; a counter only grows."""
        if self._is_counter and not 0 <= amount < float("inf"):
            raise ValueError(f"a counter only grows: {amount} cannot be added")
        with _mutex:
            self._value += amount

    def set(self, value: float, /) -> None:
        """Replaces its value."""
        self._value = float(value)

    def raise_to(self, value: float, /) -> None:
        """Makes it this value, unless it is more already."""
        with _mutex:
            self._value = max(self._value, float(value))

    def lower_to(self, value: float, /) -> None:
        """Makes it this value, unless it is less already."""
        with _mutex:
            self._value = min(self._value, float(value))

    def get(self) -> float:
        """Its value."""
        return self._value

    def observe(self, value: float, /) -> None:
        """Counts an observation."""
        with _mutex:
            self._ranges[bisect_left(self._bounds, value)] += 1
            self._value += value

    def observed(self) -> tuple[int, float]:
        """How many observations there were, and their sum."""
        with _mutex:
            return sum(self._ranges), self._value


class MetricFamily:
    """A metric; what it counts is in its series."""

    def __init__(self, kind: str, bounds: Sequence[float]) -> None:
        self.kind = kind
        self._bounds = bounds
        self._series: dict[tuple[tuple[str, str], ...], MetricSeries] = {}

    def series(self, labels: Sequence[tuple[str, str]], /) -> MetricSeries:
        """The series with these labels, made if there is none."""
        with _mutex:
            key = tuple(labels)
            if key not in self._series:
                self._series[key] = MetricSeries(self.kind == "counter", self._bounds)
            return self._series[key]


def metric_known(name: str, /) -> MetricFamily | None:
    """The metric with this name, if there is one; for uWSGI's calls."""
    return _families.get(_key(name))


def _key(name: str) -> str:
    return name.replace(".", "_").replace("-", "_")


def metric_family(
    name: str, kind: str, help: str, labels: Sequence[str], buckets: Sequence[float], /
) -> MetricFamily:
    """The metric with this name, made if there is none; `kind` is `counter`, `gauge` or `histogram`."""
    with _mutex:
        family = _families.setdefault(_key(name), MetricFamily(kind, tuple(buckets)))
    if family.kind != kind:
        raise ValueError(f"the metric {name} is a {family.kind} already, and not a {kind}; choose another name")
    return family
