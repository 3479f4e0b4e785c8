"""Calls of the cache, by path: what they answer, as text."""
import os
import signal
import threading

import uwsgi


def basic():
    return [
        uwsgi.cache_get("a"),
        uwsgi.cache_set("a", "1"),
        uwsgi.cache_set("a", b"2"),
        uwsgi.cache_get(b"a"),
        uwsgi.cache_update("a", bytearray(b"3")),
        uwsgi.cache_get("a"),
        uwsgi.cache_exists("a"),
        uwsgi.cache_del("a"),
        uwsgi.cache_del("a"),
        uwsgi.cache_exists("a"),
    ]


def refused():
    return [
        uwsgi.cache_set("", "1"),
        uwsgi.cache_set("empty", ""),
        uwsgi.cache_set("k" * 2000, "1"),
        uwsgi.cache_set("long", "1" * 100_000),
        uwsgi.cache_set("a", "1", 0, "no-such-cache"),
        uwsgi.cache_get("a", "no-such-cache"),
        uwsgi.cache_keys(),
    ]


def numbers():
    uwsgi.cache_set("text", "abc")
    return [
        uwsgi.cache_inc("n"),
        uwsgi.cache_inc("n", 9),
        uwsgi.cache_dec("n", 2),
        uwsgi.cache_mul("n"),
        uwsgi.cache_num("n"),
        uwsgi.cache_div("n", 4),
        uwsgi.cache_num("n"),
        uwsgi.cache_num("none"),
        uwsgi.cache_inc("text"),
        uwsgi.cache_get("text"),
    ]


def names():
    uwsgi.cache_update("a", "first")
    uwsgi.cache_update("a", "second", 0, "second")
    return [
        uwsgi.cache_get("a"),
        uwsgi.cache_get("a", "first"),
        uwsgi.cache_get("a", "second"),
        uwsgi.cache_clear("second"),
        uwsgi.cache_keys(),
        uwsgi.cache_keys("second"),
    ]


def face():
    from appliance import cache

    def error(call):
        try:
            return call()
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    cache.set("a", "1", ttl=60)
    tiny = cache["second"]
    for n in range(10):
        tiny[f"{n}"] = "x"
    return [
        cache.get("a"),
        59 < cache.ttl("a") <= 60,
        cache.add("a", "2"),
        cache.get_or_set("b", lambda: "made"),
        cache["first"]["b"],
        cache.incr("n"),
        cache.decr("n", 5),
        "none" in tiny,
        error(lambda: tiny["none"]),
        error(lambda: tiny.set("one more", "x")),
        error(lambda: cache["third"].get("a")),
        error(lambda: cache.incr("a")),
        error(lambda: cache.set("", "x")),
        cache.delete("a"),
        cache.stats()["items"],
    ]


def in_threads():
    def work():
        for n in range(200):
            uwsgi.cache_inc("threads")
            uwsgi.cache_update(f"{n}", "x")
            uwsgi.cache_get(f"{n}")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return uwsgi.cache_num("threads")


def in_a_fork():
    """Whoever the application forks is refused, and harms nobody."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, repr([uwsgi.cache_get("a"), uwsgi.cache_update("a", "child")]).encode())
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    return os.read(reading, 1000).decode(), uwsgi.cache_update("a", "parent")


def storm(query):
    """Writes pairs of keys that belong together, and counts what was committed in a file that no kill takes back."""
    ledger = os.open(query["ledger"], os.O_WRONLY | os.O_APPEND)
    for _ in range(int(query["rounds"])):
        if uwsgi.cache_inc("count"):
            os.write(ledger, b".")
        is_there = uwsgi.cache_update("text", (b"%d" % (os.getpid() % 10)) * 3000)
        value = uwsgi.cache_get("text")
        if is_there and (value is None or len(value) != 3000 or len(set(value)) != 1):
            return f"corrupt: {value!r}"
    return "ok"


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    query = dict(pair.split("=") for pair in environ["QUERY_STRING"].split("&") if pair)
    name = environ["PATH_INFO"].strip("/")
    match name:
        case "":
            result = "ok"
        case "set":
            result = uwsgi.cache_update(query["key"], query["value"], int(query.get("expires", 0)))
        case "get":
            result = uwsgi.cache_get(query["key"])
        case "inc":
            for _ in range(int(query["times"])):
                uwsgi.cache_inc("count")
            result = uwsgi.worker_id()
        case "num":
            result = uwsgi.cache_num(query.get("key", "count"))
        case "storm":
            result = storm(query)
        case _:
            result = globals()[name]()
    return [str(result).encode()]
