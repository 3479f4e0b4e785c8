"""Requests that take too long, each in another way; what becomes of them is noted."""
import contextlib
import ctypes
import select
import socket
import threading
import time

import appliance
import uwsgi
from uwsgidecorators import harakiri

log = []
held = ctypes.PyDLL(None).usleep


@contextlib.contextmanager
def noting(name):
    log.append(f"{name} began")
    try:
        yield
    except BaseException as error:
        kind = type(error)
        log.append(f"{name}: {kind.__module__}.{kind.__qualname__}")
        raise


def sleeping(environ):
    appliance.sleep(60)


def descriptor(environ):
    here, there = socket.socketpair()
    with here, there:
        uwsgi.wait_fd_read(here.fileno(), 60)
        uwsgi.suspend()


def awaiting(environ):
    import asyncio
    appliance.wait(asyncio.sleep(60))


def looping(environ):
    while True:
        pass


def blocking(environ):
    time.sleep(60)


def locked(environ):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def receiving(environ):
    here, there = socket.socketpair()
    with here, there:
        here.recv(1)


def selecting(environ):
    here, there = socket.socketpair()
    with here, there:
        select.select([here], [], [], 60)


def reading(environ):
    environ["wsgi.input"].read()


def stubborn(environ):
    """Swallows what it is told twice."""
    for _ in range(2):
        try:
            time.sleep(60)
        except appliance.RequestTimeout:
            log.append("stubborn: swallowed")
    time.sleep(60)


def own(environ):
    uwsgi.set_user_harakiri(1)
    appliance.sleep(60)


def taken_back(environ):
    uwsgi.set_user_harakiri(1)
    uwsgi.set_user_harakiri(0)
    time.sleep(1.3)


@harakiri(1)
def limited(seconds):
    time.sleep(seconds)


def decorated(environ):
    limited(0.1)
    appliance.sleep(1.2)
    limited(60)


def deaf(environ):
    """Keeps the interpreter's lock in C, where nothing interrupts it."""
    held(int(environ["QUERY_STRING"]))


def stream():
    yield b"begun"
    appliance.sleep(60)


def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    if name == "log":
        start_response("200 OK", [])
        said, log[:] = "\n".join(log), []
        return [said.encode()]
    if name == "quick":
        start_response("200 OK", [])
        return [b"quick"]
    if name == "caught":
        try:
            appliance.sleep(60)
        except appliance.RequestTimeout as error:
            start_response("200 OK", [])
            return [f"caught: {error}".encode()]
    if name == "streamed":
        start_response("200 OK", [])
        return stream()
    if name == "wait":
        appliance.sleep(float(environ["QUERY_STRING"]))
        start_response("200 OK", [])
        return [b"waited"]
    if name == "block":
        time.sleep(float(environ["QUERY_STRING"]))
        start_response("200 OK", [])
        return [b"blocked"]
    with noting(name):
        globals()[name](environ)
    start_response("200 OK", [])
    return [b"done"]
