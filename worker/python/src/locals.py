"""Frameworks such as Bottle keep "the current request" in a `threading.local`. Here all requests of a worker run on one thread,
each in a greenlet: with the interpreter's own `threading.local`, a request that waits would go on with another's data.
"""
import _threading_local
import threading

import greenlet

# `_threading_local` is the standard library's `threading.local` in Python. It asks this function whose storage is meant, keeps
# the storage in the `__dict__` of what it gets, and forgets it with that: a thread, or just as well a greenlet. A thread
# without greenlets has one all the same, its own main greenlet, so that other threads see no difference.
_threading_local.current_thread = greenlet.getcurrent


class local(_threading_local.local):
    """Like the interpreter's own, weak references to it are possible."""

    __slots__ = ("__weakref__",)


threading.local = local
