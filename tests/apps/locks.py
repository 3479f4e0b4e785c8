"""Locks: what holds them for how long, and who else may."""
import asyncio
import json
import os
import threading
import time

import appliance
import uwsgi
from uwsgidecorators import lock as locked

cell = {}
os.chdir(os.environ["LOCKS_FOLDER"])


def now():
    return time.monotonic()


def held(t, pause=appliance.sleep):
    """A critical section; when it began and ended."""
    began = now()
    with open("inside", "x"):
        pause(t)
    os.unlink("inside")
    return [began, now()]


@locked
def decorated(t):
    return held(t)


def named(t):
    with appliance.lock("mail"):
        return held(t)


def threaded(t):
    """In a thread of the application's own."""
    def work():
        with appliance.lock("mail"):
            cell["spans"] = held(t, time.sleep)
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        appliance.sleep(0.005)
    return cell["spans"]


def tasked(t):
    """In a task on the shared loop."""
    async def work():
        async with appliance.lock("mail"):
            began = now()
            with open("inside", "x"):
                await asyncio.sleep(t)
            os.unlink("inside")
            return [began, now()]
    return appliance.wait(work())


def kept(t):
    uwsgi.lock(3)
    return "kept"


def twice(t):
    uwsgi.lock(1)
    try:
        uwsgi.lock(1)
    finally:
        uwsgi.unlock(1)


def take(t):
    uwsgi.lock(2)
    appliance.sleep(t)
    uwsgi.unlock(2)
    return uwsgi.worker_id()


def die(t):
    """A critical section that nobody comes out of."""
    with appliance.lock("mail"):
        os.kill(os.getpid(), 9)


def counted(t):
    """Reads, waits and writes: nothing is lost if nobody else is between."""
    with appliance.lock("count"):
        number = int(open("count").read() or 0) if os.path.exists("count") else 0
        appliance.sleep(t)
        with open("count.new", "w") as file:
            file.write(str(number + 1))
        os.replace("count.new", "count")
    return number + 1


def state(t):
    return [uwsgi.is_locked(number) for number in range(4)] + [appliance.lock("mail").locked()]


def forked(t):
    """What a process that the application forks is told when it wants to lock, and whether it has harmed anybody."""
    reading, writing = os.pipe()
    with appliance.lock("mail"):
        pid = os.fork()
        if pid == 0:
            try:
                appliance.lock("mail").release()
            except RuntimeError as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        return os.read(reading, 1000).decode(), appliance.lock("mail").locked()


def late(t):
    with appliance.lock("mail", timeout=t):
        return "early"


def refused(t):
    said = []
    for call in (lambda: uwsgi.lock(9), lambda: uwsgi.is_locked(-1), lambda: appliance.lock("").acquire(),
                 lambda: appliance.lock("x" * 65).acquire()):
        try:
            call()
        except ValueError as error:
            said.append(str(error))
    return said


def application(environ, start_response):
    name, t = environ["PATH_INFO"][1:], float(environ["QUERY_STRING"] or 0)
    try:
        out = globals()[name](t)
    except Exception as error:
        out = f"{type(error).__name__}: {error}"
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(out).encode()]
