"""The package `appliance`: each route of this application is a function below, and answers with the repr() of its result."""
import asyncio
import contextvars
import sys
import threading

import appliance
import uwsgi

color = contextvars.ContextVar("color", default="none")


def wait_until(flag):
    while not flag:
        appliance.sleep(0.01)
    return flag[0]


def at_once():
    """Two calls of which one waits for the other."""
    async def both():
        flag = []
        return await asyncio.gather(appliance.on_core(wait_until, flag), appliance.on_core(flag.append, "set"))

    return appliance.wait(both())


def many():
    async def all_of_them():
        return sum(await asyncio.gather(*(appliance.on_core(int, str(n)) for n in range(200))))

    return appliance.wait(all_of_them())


def raises():
    def fail():
        appliance.sleep(0.01)
        raise ValueError("of the call")

    async def caught():
        try:
            await appliance.on_core(fail)
        except ValueError as error:
            return str(error)

    return appliance.wait(caught())


def cancelled(in_a_thread=False):
    """What a call sees that nobody awaits any more, where it waits."""
    began, seen = [], []

    def call():
        began.append(True)
        try:
            wait_until([])
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    async def cancel():
        future = appliance.on_core(call)
        while not began:
            await asyncio.sleep(0.01)
        future.cancel()
        try:
            await future
        except asyncio.CancelledError:
            pass
        while not seen:
            await asyncio.sleep(0.01)
        return seen

    return elsewhere(cancel) if in_a_thread else appliance.wait(cancel())


def cancelled_elsewhere():
    return cancelled(in_a_thread=True)


def never_began():
    async def cancel():
        ran = []
        appliance.on_core(ran.append, True).cancel()
        await appliance.on_core(int)
        return ran

    return appliance.wait(cancel())


def too_long():
    def call():
        uwsgi.set_user_harakiri(1)
        wait_until([])

    async def caught():
        try:
            await appliance.on_core(call)
        except TimeoutError:
            return "TimeoutError"

    return appliance.wait(caught())


def context():
    color.set("red")

    async def seen():
        color.set("blue")
        return await appliance.on_core(color.get), color.get()

    return appliance.wait(seen())


def elsewhere(coroutine_function):
    """Runs a coroutine on a loop of another thread, and waits for that as a request does."""
    result = []
    thread = threading.Thread(target=lambda: result.append(asyncio.run(coroutine_function())))
    thread.start()
    while thread.is_alive():
        appliance.sleep(0.01)
    return result[0]


def on_another_loop():
    async def call():
        return await appliance.on_core(wait_until, ["result"])

    return elsewhere(call)


def sleeps_in_a_thread():
    return elsewhere(lambda: asyncio.to_thread(appliance.sleep, 0.01))


def on_the_loop():
    async def call():
        try:
            appliance.sleep(0.01)
        except RuntimeError as error:
            return str(error)

    return appliance.wait(call())


def lazily():
    before = "appliance._outside" in sys.modules
    try:
        appliance.nonsense
    except AttributeError as error:
        return before, str(error)


def where():
    return [sys.modules[name].__spec__.loader.__class__.__name__ for name in ("appliance", "uwsgidecorators")]


def application(environ, start_response):
    function = globals()[environ["PATH_INFO"].strip("/")]
    body = repr(function()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


import uwsgidecorators  # noqa: E402,F401 - imported last, as somebody may
