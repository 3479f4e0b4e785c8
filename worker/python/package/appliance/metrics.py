"""Numbers for Prometheus, counted by all workers together:

    orders = appliance.metrics.counter("shop_orders_total", "Orders that were paid.", labels=("kind",))
    orders.labels(kind="book").inc()

    took = appliance.metrics.histogram("shop_payment_seconds", "How long the bank takes.")
    with took.time():
        ...

A metric is made by whoever asks for it first, at import time or later, and is the same one for everybody who gives its name;
configured ones (`[[metric]]`) are there already. Counting never waits, and works in requests, coroutines and threads. Numbers are
doubles: whole ones are exact up to 2**53. They are told at `/metrics`, and live as long as the appliance.
"""

import functools
import inspect
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar, cast

from appliance._engine import MetricFamily, MetricSeries, metric_family

__all__ = ["DEFAULT_BUCKETS", "Counter", "Gauge", "Histogram", "Timer", "counter", "gauge", "histogram"]

#: Upper bounds of a histogram's ranges, for durations in seconds.
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M", bound="_Labelled")


class _Labelled:
    """What all metrics have in common: a name, and a series for each combination of labels."""

    __slots__ = ("_family", "_labels", "_series", "name")

    def __init__(self, name: str, family: MetricFamily, labels: tuple[str, ...]) -> None:
        self.name = name
        self._family = family
        self._labels = labels
        self._series = None if labels else family.series([])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def labels(self: M, *values: object, **named: object) -> M:
        """The same metric with these labels: values in the order of their names, or `name=value`."""
        names = self._labels
        if values and named or len(values or named) != len(names) or any(name not in names for name in named):
            raise ValueError(f"{self!r} has the labels {', '.join(names) or 'none'}; give a value for each")
        chosen = values or tuple(named[name] for name in names)
        child = object.__new__(type(self))
        child.name, child._family, child._labels = self.name, self._family, ()
        child._series = self._family.series([(name, str(value)) for name, value in zip(names, chosen)])
        return child

    def _only(self) -> MetricSeries:
        if self._series is None:
            raise ValueError(f"{self!r} has labels; say which: .labels({', '.join(f'{n}=…' for n in self._labels)})")
        return self._series


class Counter(_Labelled):
    """A number that only grows."""

    __slots__ = ()

    def inc(self, amount: float = 1) -> None:
        """Adds to it."""
        self._only().add(amount)

    @property
    def value(self) -> float:
        """What all workers have counted."""
        return self._only().get()


class Gauge(_Labelled):
    """A number that goes up and down."""

    __slots__ = ()

    def inc(self, amount: float = 1) -> None:
        """Adds to it."""
        self._only().add(amount)

    def dec(self, amount: float = 1) -> None:
        """Subtracts from it."""
        self._only().add(-amount)

    def set(self, value: float) -> None:
        """Replaces it."""
        self._only().set(value)

    def set_max(self, value: float) -> None:
        """Replaces it, unless it is more already."""
        self._only().raise_to(value)

    def set_min(self, value: float) -> None:
        """Replaces it, unless it is less already."""
        self._only().lower_to(value)

    def track_inprogress(self) -> "InProgress":
        """`with gauge.track_inprogress():` is counted in it for as long as it runs. What a killed worker had begun stays in it."""
        return InProgress(self)

    @property
    def value(self) -> float:
        """What it is."""
        return self._only().get()


class InProgress:
    """Something that is counted while it runs."""

    __slots__ = ("_gauge",)

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def __enter__(self) -> None:
        self._gauge.inc()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gauge.dec()


class Histogram(_Labelled):
    """How many observations there were, in ranges of their size, and their sum."""

    __slots__ = ()

    def observe(self, value: float) -> None:
        """Counts an observation."""
        self._only().observe(value)

    def time(self) -> "Timer":
        """`with histogram.time():` observes how many seconds it took; also a decorator, for `async def` too."""
        return Timer(self)

    @property
    def count(self) -> int:
        """How many observations all workers have made."""
        return self._only().observed()[0]

    @property
    def sum(self) -> float:
        """Their sum."""
        return self._only().observed()[1]


class Timer:
    """Observes a duration; each `with` needs one of its own."""

    __slots__ = ("_began", "_histogram")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._histogram.observe(time.perf_counter() - self._began)

    def __call__(self, function: F) -> F:
        """As a decorator: every call is observed."""
        histogram = self._histogram
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_task(*args: Any, **kwargs: Any) -> Any:
                with Timer(histogram):
                    return await function(*args, **kwargs)

            return cast(F, timed_task)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with Timer(histogram):
                return function(*args, **kwargs)

        return cast(F, timed)


def counter(name: str, help: str = "", labels: Iterable[str] = ()) -> Counter:
    """The counter with this name. `ValueError`: it is another kind of metric already, or cannot be one."""
    names = tuple(labels)
    return Counter(name, metric_family(name, "counter", help, names, ()), names)


def gauge(name: str, help: str = "", labels: Iterable[str] = ()) -> Gauge:
    """The gauge with this name, likewise."""
    names = tuple(labels)
    return Gauge(name, metric_family(name, "gauge", help, names, ()), names)


def histogram(
    name: str, help: str = "", labels: Iterable[str] = (), buckets: Iterable[float] = DEFAULT_BUCKETS
) -> Histogram:
    """The histogram with this name, likewise; `buckets` are the upper bounds of its ranges, at most 24."""
    names = tuple(labels)
    bounds = [float(bound) for bound in buckets if bound != float("inf")]
    return Histogram(name, metric_family(name, "histogram", help, names, bounds), names)
