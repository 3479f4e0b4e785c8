"""Run by the tests where no server runs, with the installed package: what users' own tests may rely on. Its argument is a cache
of a server, by its name for others. Ends with "fine"."""
import asyncio
import os
import socket
import sys
import threading
import time

import appliance
import uwsgi
import uwsgidecorators


def raises(kind, function, *arguments):
    try:
        function(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError(f"{function} did not raise {kind}")


# Caches, by whatever name.
assert uwsgi.cache_set("k", "v", 0, "pages") and uwsgi.cache_set("k", "v2", 0, "pages") is None
assert uwsgi.cache_get(b"k", "pages") == b"v" and uwsgi.cache_get("k") is None
assert uwsgi.cache_update("k", "é", 0, "pages") and uwsgi.cache_get("k", "pages") == "é".encode()
assert uwsgi.cache_keys("pages") == [b"k"] and uwsgi.cache_del("k", "pages") and uwsgi.cache_del("k", "pages") is None
assert uwsgi.cache_inc("n", 5) and uwsgi.cache_dec("n", 8) and uwsgi.cache_num("n") == -3 and len(uwsgi.cache_get("n")) == 8
assert uwsgi.cache_mul("n", -4) and uwsgi.cache_div("n", 5) and uwsgi.cache_num("n") == 2
assert uwsgi.cache_set("short", "v", 1) and uwsgi.cache_exists("short") and uwsgi.cache_clear()
raises(TypeError, uwsgi.cache_set, "k", 5)

# Metrics.
assert uwsgi.metric_inc("m") and uwsgi.metric_set_max("m", 7) and uwsgi.metric_get("m") == 7
assert uwsgi.metric_div("m", 0) is None and uwsgi.metric_get("unknown") == 0

# Signals come at once; what would come later is written down.
seen = []
uwsgi.register_signal(17, "", seen.append)
uwsgi.signal(17)
uwsgi.signal(99)
uwsgi.add_timer(17, 60)
assert seen == [17] and uwsgi.signal_registered(17) and uwsgi.scheduled == [("timer", 17, 60)]

# Procedures, locks, decorators.
assert uwsgi.register_rpc("double", lambda x: x * 2) and uwsgi.call("double", "ab") == b"abab"
assert uwsgi.rpc(None, b"double", b"x") == b"xx" and uwsgi.rpc("127.0.0.1:1", b"double") is None
uwsgi.lock()
assert uwsgi.is_locked()
uwsgi.unlock()


@uwsgidecorators.postfork
def later():
    raise AssertionError("no process forks here")


@uwsgidecorators.harakiri(1)
@uwsgidecorators.lock
def guarded(x):
    return uwsgi.is_locked(), x


@uwsgidecorators.thread
def in_a_thread():
    seen.append(threading.current_thread() is not threading.main_thread())


@uwsgidecorators.rpc("named")
def named():
    return "named"


in_a_thread().join()
assert guarded(1) == (True, 1) and seen[-1] is True and uwsgi.call("named") == b"named"

# Waiting.
here, there = socket.socketpair()
uwsgi.wait_fd_read(here.fileno(), 0.01)
assert uwsgi.suspend() and uwsgi.ready_fd() == -1
assert uwsgi.send(there.fileno(), b"hello")
uwsgi.wait_fd_read(here.fileno())
assert uwsgi.suspend() and uwsgi.ready_fd() == here.fileno() and uwsgi.recv(here.fileno()) == b"hello"
assert uwsgi.is_connected(here.fileno()) and not uwsgi.is_connected(9999) and uwsgi.connect("/nonexistent") == -1
before = time.monotonic()
uwsgi.async_sleep(0.05)
uwsgi.suspend()
assert time.monotonic() - before >= 0.04
raises(RuntimeError, uwsgi.suspend)

# What needs a request or a master says so.
assert "no server runs here" in raises(RuntimeError, uwsgi.request_id)
assert "no server runs here" in raises(OSError, uwsgi.websocket_recv)
raises(RuntimeError, uwsgi.reload)
assert (uwsgi.worker_id(), uwsgi.mypid(), uwsgi.workers()) == (0, os.getpid(), ())


# The package itself.
async def answer():
    await asyncio.sleep(0)
    return "result"


async def awaited():
    return await appliance.on_core(uwsgi.call, "named")


async def slow():
    await asyncio.sleep(60)


assert appliance.wait(answer()) == "result" and asyncio.run(awaited()) == b"named"
assert "0.01 s" in raises(TimeoutError, appliance.wait, slow(), 0.01)
appliance.sleep(0.001)
appliance.early_hints([("Link", "</a.css>")])
assert appliance.__version__
raises(AttributeError, getattr, appliance, "nonsense")

# Its modules and `uwsgi` see the same.
appliance.cache.set("shared", "value", ttl=60)
assert uwsgi.cache_get("shared") == b"value" and uwsgi.cache_inc("number", 3) and appliance.cache.incr("number") == 4
assert uwsgi.cache_set("named", "x", 0, "other") and appliance.cache["other"]["named"] == b"x"
orders = appliance.metrics.counter("orders")
orders.inc(2)
assert uwsgi.metric_inc("orders") and orders.value == 3 and uwsgi.metric_get("orders") == 3
assert appliance.rpc.call("double", "z") == b"zz"
with appliance.lock(7):
    assert uwsgi.is_locked(7)
appliance.signals.handler(lambda: seen.append("sent")).send()
assert seen[-1] == "sent" and uwsgi.signal_registered(0)


@appliance.every("1h")
@appliance.cron("0 3 * * *")
def at_times():
    raise AssertionError("no time passes here")


raises(OSError, appliance.websocket.accept)


# Awaitable forms; another server's cache is asked for real.
async def made():
    return "made"


async def counted():
    async with appliance.lock("counted", timeout=1):
        return await appliance.cache.aincr("counted")


async def all_of_them():
    return await asyncio.gather(*(counted() for _ in range(9))), await appliance.cache.aget_or_set("made", made)


assert asyncio.run(all_of_them()) == (list(range(1, 10)), b"made")
there = appliance.cache.named(sys.argv[1])
there.clear()
assert there.get("k") is None and there.set("k", "v" * 60_000, ttl=60) is None and len(there["k"]) == 60_000
assert (there.add("k", "w"), there.add("new", "w"), "new" in there) == (False, True, True)
assert (there.delete("new"), there.delete("new"), there.incr("n", 5), asyncio.run(there.adecr("n"))) == (True, False, 5, 4)
assert "no word for its keys" in raises(appliance.cache.CacheError, there.keys)
assert "Connection refused" in raises(appliance.cache.CacheError, appliance.cache.named("a@127.0.0.1:1").get, "k")
assert "has refused it" in raises(appliance.cache.CacheError, appliance.cache.named(f"no-{sys.argv[1]}").set, "k", "v")
assert "is no address" in raises(ValueError, appliance.cache.named("a@b").get, "k")
assert "more than 65535 bytes" in raises(ValueError, there.get, "k" * 70_000)
assert uwsgi.cache_num("n", sys.argv[1]) == 4 and uwsgi.cache_inc("n", 2, 0, sys.argv[1]) and there.incr("n") == 7
assert uwsgi.cache_get("k", "a@127.0.0.1:1") is None and uwsgi.cache_set("k", "v", 0, "a@127.0.0.1:1") is None


# Tries of others neither keep nor lose whoever waits.
async def tried_while_awaited():
    held = appliance.lock("tried")
    assert held.acquire(0)
    waiter = asyncio.create_task(appliance.lock("tried").aacquire())
    await asyncio.sleep(0.01)
    assert not any(appliance.lock("tried").acquire(0) for _ in range(2000))
    held.release()
    return await waiter


assert asyncio.run(tried_while_awaited()) is True


# A wait that is cancelled ends as cancelled, and leaves nothing held.
async def cancelled_after(turns):
    held = appliance.lock("cancelled")
    assert held.acquire(0)
    waiter = asyncio.create_task(appliance.lock("cancelled").aacquire())
    await asyncio.sleep(0.01)
    held.release()
    for _ in range(turns):
        await asyncio.sleep(0)
    if waiter.cancel():
        await asyncio.wait([waiter])
        assert waiter.cancelled(), turns
    elif await waiter:
        held.release()
    assert not held.locked()


for turns in range(9):
    asyncio.run(cancelled_after(turns))

# A server that ends in the middle of a value.
listener = socket.create_server(("127.0.0.1", 0))


def answer_half():
    connection = listener.accept()[0]
    connection.recv(4096)
    pairs = b"".join(len(text).to_bytes(2, "little") + text for text in (b"status", b"ok", b"size", b"100"))
    connection.sendall(b"\0" + len(pairs).to_bytes(2, "little") + b"\0" + pairs + b"half")
    connection.close()


threading.Thread(target=answer_half).start()
half = appliance.cache.named("half@127.0.0.1:%d" % listener.getsockname()[1])
assert "sent 4 bytes of 100" in raises(appliance.cache.CacheError, half.get, "k")
print("fine")
