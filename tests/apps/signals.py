"""Signals, timers and files: who ran what is noted in a file."""
import json
import os
import threading
import time

import appliance
import uwsgi
from appliance import signals
from uwsgidecorators import cron, filemon, mstimer, postfork, rbtimer, signal, timer

FOLDER = os.environ["SIGNALS_FOLDER"]
os.chdir(FOLDER)
WATCHED = os.path.join(FOLDER, "watched")
with open(WATCHED, "a"):
    pass


def note(what):
    with open(os.path.join(FOLDER, "notes"), "a") as file:
        file.write(f"{what} {uwsgi.worker_id()}\n")


@signal(17)
def one(number):
    note(f"one:{number}")


@signal(18, target="workers")
def each(number):
    note("each")


@signal(19, target="worker2")
def second(number):
    appliance.sleep(0.01)
    note(f"second:{uwsgi.signal_received()}")


@signal(20, target="active-workers")
async def awaited(number):
    import asyncio
    await asyncio.sleep(0.001)
    note("awaited")


@signal(21)
def failing(number):
    raise ZeroDivisionError("on purpose")


@signal(22, target="worker1")
def slow(number):
    note("slow-begins")
    appliance.sleep(0.05)
    note("slow-ends")


@mstimer(100)
def quick(number):
    note("quick")


@timer(1, target="workers")
def tick(number):
    note("tick")


@rbtimer(1, 2)
def twice(number):
    note("twice")


@filemon(WATCHED)
def changed(number):
    note("changed")


@cron(-1, -1, -1, -1, -1)
def minutely(number):
    note("minutely")


@appliance.every("150ms", workers=2)
def modern():
    note("modern")


@signals.on_change(WATCHED, workers="all")
def reread():
    note("reread")


loud = signals.handler(lambda: note("loud"), workers="all")


@postfork
def late():
    uwsgi.register_signal(60, "workers", lambda number: note("postfork"))
    uwsgi.add_ms_timer(60, 100)


def refused():
    said = []
    for call in (lambda: uwsgi.register_signal(1, "mule1", print), lambda: uwsgi.add_ms_timer(1, 1),
                 lambda: uwsgi.add_cron(1, 60, -1, -1, -1, -1), lambda: appliance.every("3 days"),
                 lambda: uwsgi.signal(1, "127.0.0.1:1"), lambda: uwsgi.register_signal(256, "", print)):
        try:
            call()
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def application(environ, start_response):
    name, query = environ["PATH_INFO"][1:], environ["QUERY_STRING"]
    out = None
    if name == "fire":
        for number in query.split(","):
            uwsgi.signal(int(number))
    elif name == "thread":
        thread = threading.Thread(target=lambda: [uwsgi.signal(int(query)), loud.send()])
        thread.start()
        thread.join()
    elif name == "wait":
        uwsgi.signal_wait(int(query))
        out = uwsgi.signal_received()
    elif name == "registered":
        out = [number for number in range(256) if uwsgi.signal_registered(number)]
    elif name == "register":
        uwsgi.register_signal(int(query), "workers", lambda number: note("registered"))
    elif name == "flood":
        deadline = time.monotonic() + float(query)
        while time.monotonic() < deadline:
            uwsgi.signal(17)
    elif name == "refused":
        out = refused()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(out).encode()]
