"""The decorators of uWSGI's module of the same name that this server offers.

As with the original, `from uwsgidecorators import *` also brings the name `uwsgi`.
"""
import functools

import uwsgi

_postfork_hooks = []


def _run_postfork_hooks():
    for hook in _postfork_hooks:
        uwsgi._guard(hook)


class postfork:
    """Runs a function in every worker after the fork, before it serves: `@postfork`, or `@postfork(2)` for worker 2."""

    def __init__(self, target):
        if callable(target):
            self._worker = 0
            self._register(target)
        else:
            self._worker = int(target)
            self._function = None

    def _register(self, function):
        self._function = function
        _postfork_hooks.append(self._run)
        uwsgi.post_fork_hook = _run_postfork_hooks

    def _run(self):
        if self._worker in (0, uwsgi.worker_id()):
            self._function()

    def __call__(self, *args, **kwargs):
        if self._function is None:
            self._register(args[0])
            return self
        return self._function(*args, **kwargs)


def _registered(function, target, signum):
    """The number of the signal for which the function runs: the first that is free, unless one is said."""
    number = signum or next((n for n in range(256) if not uwsgi.signal_registered(n)), None)
    if number is None:
        raise ValueError("all 256 signals have a function already")
    uwsgi.register_signal(number, target, function)
    return number


class signal:
    """Runs `function(number)` when a signal is raised: `@signal(17)`, `@signal(17, target="workers")`."""

    def __init__(self, num, target=""):
        self._number, self._target = num, target

    def __call__(self, function):
        uwsgi.register_signal(self._number, self._target, function)
        return function


class _Added:
    """A signal that something raises by itself."""

    def __init__(self, *what, target="", signum=0):
        self._what, self._target, self._number = what, target, signum

    def __call__(self, function):
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


def lock(function):
    """Only one call of the function runs at a time, in all workers together; others wait, and only their requests (lock 0)."""
    @functools.wraps(function)
    def call(*args, **kwargs):
        uwsgi.lock()
        try:
            return function(*args, **kwargs)
        finally:
            uwsgi.unlock()
    return call


def harakiri(seconds):
    """A call of the function must end within so many seconds: `@harakiri(30)`. Otherwise its request is ended, and no other."""
    def limited(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            uwsgi.set_user_harakiri(seconds)
            try:
                return function(*args, **kwargs)
            finally:
                uwsgi.set_user_harakiri(0)
        return call
    return limited


def rpc(name):
    """The function can be called by others under this name: `@rpc("name")`."""
    def register(function):
        uwsgi.register_rpc(name, function)
        return function
    return register
