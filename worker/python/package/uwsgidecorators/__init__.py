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
