"""The queue and the shared areas, as the workers of one appliance use them."""
import json
import os
import threading
import zlib

import appliance
import uwsgi

# What was there before the fork is there in the workers.
if hasattr(uwsgi, "sharedarea_memoryview"):
    VIEW = uwsgi.sharedarea_memoryview(0)
    if not uwsgi.is_a_reload:
        uwsgi.sharedarea_write(0, 100, "made at import")


def push(*texts):
    return [uwsgi.queue_push(text) for text in texts]


def pull():
    return text(uwsgi.queue_pull())


def text(value):
    return value.decode() if value is not None else None


def storm(rounds, offset):
    """Messages that tell whether they are whole, and counters; how many rounds were finished is in the ledger."""
    with open(os.environ["AREAS_LEDGER"], "ab", buffering=0) as ledger:
        for number in range(int(rounds)):
            body = b"%d:%d:" % (os.getpid(), number) + os.urandom(1500)
            uwsgi.queue_push(body + b"%08x" % zlib.crc32(body))
            uwsgi.queue_set(number % 8, body + b"%08x" % zlib.crc32(body))
            uwsgi.sharedarea_inc64(0, 0)
            uwsgi.sharedarea_inc32(0, int(offset))
            ledger.write(b"x")
    return "done"


def is_whole(message):
    return message is not None and b"%08x" % zlib.crc32(message[:-8]) == message[-8:]


def found():
    """What the storm has left."""
    counts = [uwsgi.sharedarea_read64(0, 0), uwsgi.sharedarea_read32(0, 13)]
    slots = [is_whole(message) for message in map(uwsgi.queue_get, range(8)) if message is not None]
    pulled = [is_whole(message) for message in iter(uwsgi.queue_pull, None)]
    return counts, len(slots), all(slots), len(pulled), all(pulled)


def hold(seconds):
    uwsgi.sharedarea_wlock(0)
    uwsgi.sharedarea_write8(0, 50, 1)
    appliance.sleep(float(seconds))
    uwsgi.sharedarea_write8(0, 50, 0)
    uwsgi.sharedarea_unlock(0)
    return uwsgi.worker_id()


def held():
    return uwsgi.sharedarea_read8(0, 50)


def view(at, value):
    VIEW[int(at)] = int(value)
    return uwsgi.worker_id()


def byte(at):
    return VIEW[int(at)]


def threads():
    """From threads of the application's own."""
    def work():
        for _ in range(100):
            uwsgi.sharedarea_inc64(0, 200)
            uwsgi.sharedarea_inc16(0, 211)
            uwsgi.queue_push("x")
    all_of_them = [threading.Thread(target=work) for _ in range(4)]
    for thread in all_of_them:
        thread.start()
    while any(thread.is_alive() for thread in all_of_them):
        appliance.sleep(0.005)
    return uwsgi.sharedarea_read64(0, 200), uwsgi.sharedarea_read16(0, 211), len(list(iter(uwsgi.queue_pull, None)))


def said():
    """What calls say that cannot do what they are asked."""
    calls = [
        lambda: uwsgi.sharedarea_read(0, 4090, 7), lambda: uwsgi.sharedarea_read(7, 0), lambda: uwsgi.sharedarea_read(-1, 0),
        lambda: uwsgi.sharedarea_write16(0, 0, 1 << 16), lambda: uwsgi.sharedarea_write8(0, 0, -129),
        lambda: uwsgi.sharedarea_write(0, -1, "x"), lambda: uwsgi.queue_push(5), lambda: uwsgi.queue_get(-1),
        lambda: uwsgi.farm_msg("f", "x"), lambda: uwsgi.farm_get_msg(),
        lambda: uwsgi.sharedarea_object(0), lambda: uwsgi.sharedarea_typo(0),
    ]
    return [attempt(call) for call in calls]


def missing():
    return [attempt(lambda name=name: getattr(uwsgi, name)) for name in ("queue_push", "sharedarea_read", "other")]


def attempt(call):
    try:
        return repr(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def parsed():
    with open(os.environ["AREAS_LEDGER"], "wb") as file:
        file.write(b"\x11\x0b\x00\x00\x01\x00a\x02\x00bc\x00\x00")
    broken = attempt(lambda: uwsgi.parsefile(os.environ["AREAS_LEDGER"]))
    with open(os.environ["AREAS_LEDGER"], "wb") as file:
        file.write(b"\x11\x07\x00\x00\x01\x00a\x02\x00bc" + b"body")
    return broken, repr(uwsgi.parsefile(os.environ["AREAS_LEDGER"])), uwsgi.parsefile("/nonexistent"), uwsgi.parsefile("/etc/passwd")


def application(environ, start_response):
    name, arguments = environ["PATH_INFO"][1:], environ["QUERY_STRING"]
    if name == "offload":
        start_response("200 OK", [])
        return [uwsgi.offload(__file__)]
    value = globals()[name](*arguments.split("&") if arguments else ())
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(value).encode()]
