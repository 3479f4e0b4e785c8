"""The decorators of uWSGI's module of the same name that this server offers.

As with the original, `from uwsgidecorators import *` also brings the name `uwsgi`.
"""
import functools
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import uwsgi

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_postfork_hooks: list[Callable[[], object]] = []


def _run_postfork_hooks() -> None:
    for hook in _postfork_hooks:
        uwsgi._guard(hook)


class postfork:
    """Runs a function in every worker after the fork, before it serves: `@postfork`, or `@postfork(2)` for worker 2."""

    def __init__(self, target: Callable[..., Any] | int) -> None:
        self._function: Callable[..., Any] | None = None
        if callable(target):
            self._worker = 0
            self._register(target)
        else:
            self._worker = int(target)

    def _register(self, function: Callable[..., Any]) -> None:
        self._function = function
        _postfork_hooks.append(self._run)
        uwsgi.post_fork_hook = _run_postfork_hooks

    def _run(self) -> None:
        if self._function is not None and self._worker in (0, uwsgi.worker_id()):
            self._function()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            self._register(args[0])
            return self
        return self._function(*args, **kwargs)


def _registered(function: Callable[..., object], target: str, signum: int) -> int:
    """The number of the signal for which the function runs: the first that is free, unless one is said."""
    number = signum or next((n for n in range(256) if not uwsgi.signal_registered(n)), None)
    if number is None:
        raise ValueError("all 256 signals have a function already")
    uwsgi.register_signal(number, target, function)
    return number


class signal:
    """Runs `function(number)` when a signal is raised: `@signal(17)`, `@signal(17, target="workers")`."""

    def __init__(self, num: int, target: str = "") -> None:
        self._number, self._target = num, target

    def __call__(self, function: F) -> F:
        uwsgi.register_signal(self._number, self._target, function)
        return function


class _Added:
    """A signal that something raises by itself."""

    _add: Callable[..., object]

    def __init__(self, *what: Any, target: str = "", signum: int = 0) -> None:
        self._what, self._target, self._number = what, target, signum

    def __call__(self, function: F) -> F:
        self._add(_registered(function, self._target, self._number), *self._what)
        return function


class timer(_Added):
    """Runs `function(number)` every so many seconds: `@timer(30)`, once in all workers together."""

    _add = staticmethod(uwsgi.add_timer)


class rbtimer(_Added):
    """The same, so often and no more: `@rbtimer(30, 5)`; without a number for ever."""

    _add = staticmethod(uwsgi.add_rb_timer)


class mstimer(_Added):
    """The same in milliseconds."""

    _add = staticmethod(uwsgi.add_ms_timer)


class cron(_Added):
    """Runs `function(number)` at certain minutes: `@cron(59, 3, -1, -1, -1)`; -1 is any, -5 every fifth."""

    _add = staticmethod(uwsgi.add_cron)


class filemon(_Added):
    """Runs `function(number)` when a file changes: `@filemon("/etc/flags")`."""

    _add = staticmethod(uwsgi.add_file_monitor)


def lock(function: Callable[P, T]) -> Callable[P, T]:
    """Only one call of the function runs at a time, in all workers together; others wait, and only their requests (lock 0)."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        uwsgi.lock()
        try:
            return function(*args, **kwargs)
        finally:
            uwsgi.unlock()

    return call


def thread(function: Callable[P, Any]) -> Callable[P, threading.Thread]:
    """Each call of the function runs in a thread of its own, which ends with the process; gives the thread."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> threading.Thread:
        one = threading.Thread(target=function, args=args, kwargs=kwargs, daemon=True)
        one.start()
        return one

    return call


def harakiri(seconds: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A call of the function must end within so many seconds: `@harakiri(30)`. Otherwise its request is ended, and no other."""

    def limited(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            uwsgi.set_user_harakiri(seconds)
            try:
                return function(*args, **kwargs)
            finally:
                uwsgi.set_user_harakiri(0)

        return call

    return limited


def rpc(name: str) -> Callable[[F], F]:
    """The function can be called by others under this name: `@rpc("name")`."""

    def register(function: F) -> F:
        uwsgi.register_rpc(name, function)
        return function

    return register
