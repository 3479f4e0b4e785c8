"""Every way in which a request can be left by its client, one function for each: `/name` runs `name`. What becomes of the
requests is told by `/log`, and forgotten by that.
"""
import asyncio
import os
import socket
from contextlib import contextmanager

import appliance
import greenlet
import uwsgi

log = []
FOREVER = 3600
LENGTHS = {"tail": 4, "failing": 4, "writing": 5_000_000}  # of the bodies that announce it


@contextmanager
def noting(name):
    log.append(f"{name} began")
    try:
        yield
    except BaseException as error:
        log.append(f"{name}: {type(error).__module__}.{type(error).__name__}, {isinstance(error, greenlet.GreenletExit)}")
        raise


def sleeping(environ):
    with noting("sleeping"):
        appliance.sleep(FOREVER)


def awaiting(environ):
    async def never():
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            log.append("the coroutine: cancelled")
            raise

    with noting("awaiting"):
        appliance.wait(never())


def switched(environ):
    me = greenlet.getcurrent()
    # Somebody can still switch back, much later.
    asyncio.get_event_loop().call_later(FOREVER, me.switch)
    with noting("switched"):
        me.parent.switch()


def descriptor(environ):
    here, there = socket.socketpair()
    with noting("descriptor"), here, there:
        uwsgi.wait_fd_read(here.fileno(), FOREVER)
        uwsgi.suspend()


def reading(environ):
    with noting("reading"):
        environ["wsgi.input"].read()


def writing(environ):
    with noting("writing"):
        environ["write"](b"x" * LENGTHS["writing"])


def caught(environ):
    try:
        with noting("caught"):
            appliance.sleep(FOREVER)
    except appliance.ClientDisconnected:
        appliance.sleep(0.05)  # cleaning up may wait, too
        log.append("caught: cleaned up")


def nested(environ):
    def inner():
        with noting("nested, inner"):
            appliance.sleep(FOREVER)

    with noting("nested"):
        greenlet.greenlet(inner).switch()


def held(environ):
    """Waits for a file, and does not mind being left meanwhile."""
    with noting("held"):
        while not os.path.exists(environ["QUERY_STRING"]):
            appliance.sleep(0.01)
    log.append("held: done")


class Chunks:
    """A body without an end; its second piece comes late."""

    def __init__(self, pause):
        self.pause = pause

    def __iter__(self):
        yield b"first"
        with noting("chunks"):
            while True:
                appliance.sleep(self.pause)
                yield b"x" * 100_000

    def close(self):
        log.append("chunks: closed")


class Unclosable(Chunks):
    """The same, but its end goes wrong."""

    def close(self):
        raise ValueError("cannot be closed")


def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    length = [("Content-Length", str(LENGTHS[name]))] if name in LENGTHS else []
    environ["write"] = start_response("200 OK", [("Content-Type", "text/plain"), *length])
    if name == "log":
        said, log[:] = "\n".join(log), []
        return [said.encode()]
    if name.startswith("chunks"):
        return Chunks(FOREVER if name == "chunks" else 0)
    if name == "unclosable":
        return Unclosable(FOREVER)
    if name == "tail":
        return tail()
    if name == "failing":
        return failing()
    globals()[name](environ)
    return [b"done"]


def failing():
    """Fails when its client has all that it was promised."""
    yield b"done"
    raise FileNotFoundError("what was to be cleaned up")


def tail():
    """Has something to do after its answer."""
    with noting("tail"):
        yield b"done"
        appliance.sleep(0.3)
    log.append("tail: done")
