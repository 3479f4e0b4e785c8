"""Two callbacks in a chain: fetch from another service, then wait ten seconds, then answer.

Compare it with `appliance.wait(client.fetch(url))` and `appliance.sleep(10)`, which do the same in two lines.
"""
import functools
import os
import time

import greenlet
from tornado.httpclient import AsyncHTTPClient
from tornado.ioloop import IOLoop

io_loop = IOLoop.instance()
SECONDS = float(os.environ.get("SECONDS", "10"))


def sleeper(me):
    """Timed out: finally back to the WSGI callable."""
    me.switch()


def handle_request(me, future):
    """Called at the end of the external request; adds another callback to the chain."""
    if future.exception():
        # No connection, for example: raised where the callable waits.
        return me.throw(future.exception())
    response = future.result()
    if response.error:
        print("Error:", response.error)
        me.result = b"the service did not answer\n"
    else:
        me.result = response.body
    me.timeout = io_loop.add_timeout(time.time() + SECONDS, functools.partial(sleeper, me))


def application(e, sr):
    me = greenlet.getcurrent()
    future = AsyncHTTPClient().fetch("http://localhost:9191/services", raise_error=False)
    io_loop.add_future(future, functools.partial(handle_request, me))
    me.parent.switch()  # suspend until both have happened
    io_loop.remove_timeout(me.timeout)
    sr("200 OK", [("Content-Type", "text/plain")])
    return [me.result]
