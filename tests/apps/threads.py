"""An application of blocking code, for requests that run on threads: `/name` runs `name` and answers what it returns."""
import asyncio
import contextvars
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

import appliance
import uwsgi

LOOP_AT_IMPORT = asyncio.get_event_loop()
lock = threading.Lock()
stopped = threading.Event()
running = {"now": 0, "most": 0}
local = threading.local()
setting = contextvars.ContextVar("setting", default="unset")
given = []  # pieces that generators have been asked for
ended = []  # how requests have ended
ticks = []  # times at which the loop was there


def sleep(query):
    with lock:
        running["now"] += 1
        running["most"] = max(running.values())
    time.sleep(float(query["s"]))
    with lock:
        running["now"] -= 1
    return running["most"]


def until(query):
    """Blocks until the file exists."""
    ended.append("begun")
    while not os.path.exists(query["path"]):
        time.sleep(0.01)
    ended.append("over")
    return "it is there"


def for_ever(query):
    threading.Event().wait()


def spin(query):
    """Keeps the GIL as busy as Python code can, until `/stop`."""
    while not stopped.is_set():
        pass
    return "spun"


def block(query):
    stopped.wait()
    return "blocked"


def stop(query):
    stopped.set()
    return "stopped"


def threads(query):
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("appliance-"))


def visits(query):
    """What belongs to a thread stays while the thread serves one request after the other."""
    local.visits = getattr(local, "visits", 0) + 1
    before = setting.get()
    setting.set("set")
    return local.visits, before


async def give(value, seconds=0.05):
    await asyncio.sleep(seconds)
    return value


async def fail():
    await asyncio.sleep(0.01)
    raise LookupError("from the coroutine")


def result(query):
    return appliance.wait(give("result"))


def gathered(query):
    async def all_of_it():
        return await asyncio.gather(give(1), give(2), give(3))

    return appliance.wait(all_of_it())


def exception(query):
    try:
        appliance.wait(fail())
    except LookupError as error:
        return f"caught {error}"


def timeout(query):
    states = []

    async def late():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            states.append("cancelled")
            raise

    began = time.monotonic()
    try:
        appliance.wait(late(), timeout=0.1)
    except TimeoutError:
        appliance.wait(give("the loop has had its turn", 0))
        return states, time.monotonic() - began < 5


def cancelled(query):
    async def gives_up():
        raise asyncio.CancelledError

    try:
        appliance.wait(gives_up())
    except asyncio.CancelledError:
        return "cancelled"


def future_of_the_loop(query):
    async def make():
        return asyncio.ensure_future(give("from a future"))

    return appliance.wait(appliance.wait(make()))


def pooled(query):
    with ThreadPoolExecutor(1) as pool:
        return appliance.wait(pool.submit(lambda: (time.sleep(0.05), "from a pool")[1]))


def no_awaitable(query):
    try:
        appliance.wait(42)
    except TypeError:
        return "TypeError"


def context(query):
    setting.set("of the request")

    async def inside():
        return setting.get()

    return appliance.wait(inside())


def loops(query):
    async def inside():
        return asyncio.get_running_loop() is LOOP_AT_IMPORT

    try:
        asyncio.get_event_loop()
    except RuntimeError:
        return appliance.wait(inside()), asyncio.run(give("a loop of its own"))


def asgiref(query):
    """What Django and Flask run async views with."""
    from asgiref.sync import async_to_sync

    return async_to_sync(give)("from asgiref")


def touched(query):
    """The loop's descriptors are the loop's."""
    try:
        LOOP_AT_IMPORT.add_reader(0, print)
    except RuntimeError as error:
        return str(error)


def called_threadsafe(query):
    called = threading.Event()
    LOOP_AT_IMPORT.call_soon_threadsafe(called.set)
    return called.wait(10)


def in_a_callback(query):
    async def inside():
        try:
            appliance.sleep(0.01)
        except RuntimeError as error:
            return str(error)

    return appliance.wait(inside())


def in_another_thread(query):
    def inside():
        try:
            uwsgi.suspend()
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(inside).result()


def pause(query):
    began = time.monotonic()
    appliance.sleep(0.2)
    return 0.2 <= time.monotonic() - began < 5


def async_sleep(query):
    began = time.monotonic()
    uwsgi.async_sleep(0.2)
    uwsgi.suspend()
    return 0.2 <= time.monotonic() - began < 5


def suspend(query):
    try:
        uwsgi.suspend()
    except RuntimeError as error:
        return str(error)


def wait_fd_read(query):
    reader, writer = os.pipe()
    threading.Timer(0.05, os.write, (writer, b"x")).start()
    uwsgi.wait_fd_read(reader, 5)
    uwsgi.suspend()
    answer = uwsgi.ready_fd() == reader, os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    return answer


def wait_fd_read_timeout(query):
    reader, writer = os.pipe()
    began = time.monotonic()
    uwsgi.wait_fd_read(reader, 0.1)
    uwsgi.suspend()
    os.close(reader)
    os.close(writer)
    return uwsgi.ready_fd(), 0.1 <= time.monotonic() - began < 5


def connection(query):
    return uwsgi.is_connected(uwsgi.connection_fd()), uwsgi.worker_id(), uwsgi.async_id() < uwsgi.cores


def disconnect(query):
    uwsgi.disconnect()
    ended.append("after disconnect")


def tick(query):
    """The loop counts while requests block."""
    before = len(ticks)
    appliance.wait(count(5))
    time.sleep(0.1)
    return len(ticks) - before


async def count(times):
    for _ in range(times):
        ticks.append(time.monotonic())
        await asyncio.sleep(0.001)


def facts(query):
    return {"ended": ended, "given": len(given)}[query["of"]]


class Pieces:
    """An endless body that says when it was closed."""

    def __iter__(self):
        return self

    def __next__(self):
        given.append(1)
        time.sleep(0.01)
        return b"piece"

    def close(self):
        ended.append("closed")


def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    if name == "endless":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Pieces()
    answer = globals()[name](dict(parse_qsl(environ["QUERY_STRING"]))) if name else environ["wsgi.multithread"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(answer).encode()]
