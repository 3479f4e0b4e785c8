"""Every way in which a request can wait, one function for each: `/name` runs `name` and answers what it returns."""
import asyncio
import contextvars
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

import appliance
import greenlet
import uwsgi

LOOP_AT_IMPORT = asyncio.get_event_loop()
pool = ThreadPoolExecutor(4)
setting = contextvars.ContextVar("setting", default="unset")
kept = threading.local()
most = {"now": 0, "ever": 0}


def pause(query):
    most["now"] += 1
    most["ever"] = max(most.values())
    appliance.sleep(float(query["s"]))
    most["now"] -= 1
    return most["ever"]


async def give(value, seconds=0.05):
    await asyncio.sleep(seconds)
    return value


async def fail():
    await asyncio.sleep(0.01)
    raise LookupError("from the coroutine")


def result(query):
    return appliance.wait(give("result"))


def gathered(query):
    return appliance.wait(asyncio.gather(give(1), give(2), give(3)))


def exception(query):
    try:
        appliance.wait(fail())
    except LookupError as error:
        return f"caught {error}"


def timeout(query):
    task = asyncio.ensure_future(give("late", 60))
    began = time.monotonic()
    try:
        appliance.wait(task, timeout=0.1)
    except TimeoutError:
        appliance.sleep(0.01)
        return task.cancelled(), time.monotonic() - began < 5
    except asyncio.TimeoutError:
        return "asyncio.TimeoutError"


def cancelled(query):
    task = asyncio.ensure_future(give("never", 60))
    asyncio.get_event_loop().call_later(0.01, task.cancel)
    try:
        appliance.wait(task)
    except asyncio.CancelledError:
        return "cancelled"


def done_already(query):
    future = asyncio.get_event_loop().create_future()
    future.set_result("there")
    return appliance.wait(future)


def thread(query):
    return appliance.wait(pool.submit(lambda: (time.sleep(0.05), "from a thread")[1]))


def thread_exception(query):
    try:
        appliance.wait(pool.submit(lambda: 1 / 0))
    except ZeroDivisionError as error:
        return f"caught {error}"


def no_awaitable(query):
    try:
        appliance.wait(42)
    except TypeError:
        return "TypeError"


def inner_greenlet(query):
    return greenlet.greenlet(lambda: appliance.wait(give("inner"))).switch()


def in_a_callback(query):
    future = asyncio.get_event_loop().create_future()

    def callback():
        try:
            appliance.sleep(0.01)
        except RuntimeError as error:
            future.set_result(str(error))

    asyncio.get_event_loop().call_soon(callback)
    return appliance.wait(future)


def loops(query):
    async def inside():
        return asyncio.get_running_loop()

    same = [asyncio.get_event_loop(), asyncio.get_running_loop(), appliance.wait(inside())]
    return [loop is LOOP_AT_IMPORT for loop in same]


def callback_switches(query):
    me = greenlet.getcurrent()
    asyncio.get_event_loop().call_later(0.05, lambda: me.switch("switched"))
    return me.parent.switch()


def callback_throws(query):
    me = greenlet.getcurrent()
    asyncio.get_event_loop().call_later(0.05, lambda: me.throw(LookupError("thrown")))
    try:
        me.parent.switch()
    except LookupError as error:
        return f"caught {error}"


def thrown_into_sleep(query):
    me = greenlet.getcurrent()
    asyncio.get_event_loop().call_later(0.05, lambda: me.throw(LookupError("thrown")))
    try:
        appliance.sleep(60)
    except LookupError as error:
        return f"caught {error}"


def thrown_and_not_caught(query):
    me = greenlet.getcurrent()
    asyncio.get_event_loop().call_later(0.05, lambda: me.throw(LookupError("thrown and not caught")))
    me.parent.switch()


def switched_too_early(query):
    me, began = greenlet.getcurrent(), time.monotonic()
    asyncio.get_event_loop().call_later(0.01, me.switch)
    appliance.sleep(0.2)
    return time.monotonic() - began >= 0.2


def suspend(query):
    me = greenlet.getcurrent()
    asyncio.get_event_loop().call_later(0.05, me.switch)
    return uwsgi.suspend()


def async_sleep(query):
    began = time.monotonic()
    uwsgi.async_sleep(0.2)
    uwsgi.suspend()
    return 0.2 <= time.monotonic() - began < 2


def wait_fd_read(query):
    reader, writer = os.pipe()
    asyncio.get_event_loop().call_later(0.05, os.write, writer, b"x")
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
    return uwsgi.ready_fd(), 0.1 <= time.monotonic() - began < 3


def wait_fd_write(query):
    reader, writer = os.pipe()
    uwsgi.wait_fd_write(writer, 5)
    uwsgi.suspend()
    answer = uwsgi.ready_fd() == writer
    os.close(reader)
    os.close(writer)
    return answer


def context(query):
    before = setting.get()
    setting.set(query["v"])
    appliance.sleep(0.1)
    return before, setting.get(), appliance.wait(context_of_task())


def thread_local(query):
    before = getattr(kept, "value", "unset")
    kept.value = query["v"]
    appliance.sleep(0.05)
    return before, kept.value, appliance.wait(pool.submit(getattr, kept, "value", "unset"))


def weak_thread_local(query):
    own = threading.local()
    return weakref.ref(own)() is own


async def context_of_task():
    return setting.get()


def nobody_resumes(query):
    greenlet.getcurrent().parent.switch()


def me(query):
    return uwsgi.async_id(), uwsgi.worker_id(), uwsgi.mypid() == os.getpid(), uwsgi.masterpid(), uwsgi.numproc, uwsgi.cores


def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    answer = globals()[name](dict(parse_qsl(environ["QUERY_STRING"]))) if name else "here"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(answer).encode()]
