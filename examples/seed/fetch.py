"""A WSGI callable that asks another service and is resumed by a callback, without blocking the worker.

`me.parent.switch()` gives the loop back; the callback's `me.switch()` continues where the callable stopped.
"""
import functools

import greenlet
from tornado.httpclient import AsyncHTTPClient

# The main IOLoop, the same that serves the requests.
from tornado.ioloop import IOLoop

io_loop = IOLoop.instance()


def handle_request(me, future):
    """Called at the end of the external request."""
    if future.exception():
        # No connection, for example: raised where the callable waits.
        return me.throw(future.exception())
    response = future.result()
    if response.error:
        print("Error:", response.error)
        me.result = b"the service did not answer\n"
    else:
        me.result = response.body
    me.switch()  # back to the WSGI callable


def application(e, sr):
    me = greenlet.getcurrent()
    # Tornado 6 has no callback argument any more: the callback hangs on the future.
    future = AsyncHTTPClient().fetch("http://localhost:9191/services", raise_error=False)
    io_loop.add_future(future, functools.partial(handle_request, me))
    me.parent.switch()  # suspend until an event of the loop
    sr("200 OK", [("Content-Type", "text/plain")])
    return [me.result]
