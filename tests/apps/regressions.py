"""What once went wrong, a path each. The first answers are facts that the test compares."""
import asyncio
import concurrent.futures
import os
import time

import appliance
import greenlet
import uwsgi

loop = asyncio.get_event_loop()
closed = []


class Closes:
    """An empty iterable that notes its close()."""

    def __iter__(self):
        return iter(())

    def close(self):
        closed.append("closed")


def many_cancelled_timers(environ):
    for timer in [loop.call_later(0.2 + i / 1000, int) for i in range(200)][:180]:
        timer.cancel()
    appliance.wait(asyncio.sleep(0.01))
    started = time.monotonic()
    appliance.wait(asyncio.sleep(0.05))
    return time.monotonic() - started < 1


def cpu_time(environ):
    appliance.sleep(0.5)
    before = time.process_time()
    appliance.sleep(0.5)
    return time.process_time() - before < 0.25


def descriptors(environ):
    return len(os.listdir("/proc/self/fd"))


def announced_and_forgotten(environ):
    reader, writer = os.pipe()
    uwsgi.wait_fd_read(reader, 1)
    os.close(reader)
    os.close(writer)


def two_greenlets_wait(environ):
    done = []
    me = greenlet.getcurrent()

    def child():
        appliance.sleep(0.2)
        done.append("child")

    loop.call_later(0.05, me.switch)
    greenlet.greenlet(child).switch()
    appliance.sleep(0.4)
    return done


def ready_fd(environ):
    reader, writer = os.pipe()
    os.write(writer, b"x")
    uwsgi.wait_fd_read(reader, 1)
    uwsgi.suspend()
    first = uwsgi.ready_fd() == reader
    os.read(reader, 1)
    uwsgi.wait_fd_read(reader, 0.05)
    uwsgi.suspend()
    os.close(reader)
    os.close(writer)
    return first, uwsgi.ready_fd()


def late_wake_up(environ):
    try:
        appliance.wait(asyncio.sleep(5), timeout=0.05)
    except TimeoutError:
        pass
    started = time.monotonic()
    uwsgi.async_sleep(0.3)
    uwsgi.suspend()
    return time.monotonic() - started >= 0.3


def wait_in_the_hub(environ):
    heard = []

    def callback():
        try:
            environ["wsgi.input"].read()
        except RuntimeError as error:
            heard.append(str(error))

    loop.call_later(0.05, callback)
    appliance.sleep(0.2)
    return len(heard)


def read_in_a_thread(environ):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return appliance.wait(pool.submit(environ["wsgi.input"].read)).decode()


def pause(environ):
    appliance.sleep(0.1)


def closes(environ):
    return closed


PATHS = {"/" + function.__name__: function for function in (
    many_cancelled_timers, cpu_time, descriptors, announced_and_forgotten, two_greenlets_wait, ready_fd, late_wake_up,
    wait_in_the_hub, read_in_a_thread, pause, closes)}


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/sendfile":
        start_response("200 OK", [("Content-Type", "text/plain")])
        uwsgi.sendfile(__file__, 0, 3, 4)
        return Closes()
    if path == "/endless":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (appliance.sleep(0.02) or b"x" for _ in iter(int, 1))
    if path == "/large":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * int(environ["QUERY_STRING"])]
    body = repr(PATHS[path](environ)).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
