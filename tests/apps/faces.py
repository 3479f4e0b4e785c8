"""The awaitable forms of the package, wherever a coroutine may run: awaited by a WSGI request, in a thread with a loop of its
own, in an ASGI application and in Tornado's handlers. Each scenario is a coroutine function below, which takes the name of a
cache and gives what is answered, by its repr()."""
import asyncio
import socket
import threading

import appliance
import tornado.web
from appliance import cache, rpc, websocket
from appliance.locks import lock

#: Those that are open.
sockets = []


async def made():
    await asyncio.sleep(0)
    return "made"


async def cached(name):
    """Every awaitable form that each cache has, whoever's it is."""
    there = cache.named(name)
    await there.aclear()
    return [
        await there.aget("k"),
        await there.aset("k", "v", ttl=60),
        await there.aget("k", b"default"),
        await there.aadd("k", "w"),
        await there.aadd("new", "w"),
        await there.aget_or_set("new", made),
        await there.aget_or_set("text", lambda: "plain"),
        await there.aget_or_set("slow", made, ttl=60),
        await there.aincr("n", 5),
        await there.adecr("n", 7),
        await there.adelete("k"),
        await there.adelete("k"),
    ]


async def at_once(name):
    """How often others had a turn while calls were made that have nothing to wait for."""
    turns = []
    loop = asyncio.get_running_loop()
    loop.call_soon(turns.append, "turn")
    await cache.aset("k", "v")
    await cache.aget("k")
    await cache.akeys()
    return len(turns), (await cache.astats())["items"], await cache.attl("k")


async def refused(name):
    """What each call says that cannot do what it is asked for."""
    there, said = cache.named(name), []
    for call in (
        lambda: there.aget("k"),
        lambda: there.aset("k", "v"),
        lambda: there.attl("k"),
        lambda: there.akeys(),
        lambda: there.astats(),
        lambda: there.aset("k", "v", ttl=0.5),
        lambda: there.aset("k", ""),
        lambda: there.aget(""),
        lambda: there.aset("k", 5),
    ):
        try:
            said.append(repr(await call()))
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


async def on_the_loop(name):
    """The form that waits, where nothing may."""
    try:
        cache.named(name).get("k")
    except RuntimeError as error:
        return str(error)


async def given_up(name):
    """What a server sees that never answers, when nobody awaits the call any more: the question, then its end."""
    loop, listener = asyncio.get_running_loop(), socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    call = asyncio.ensure_future(cache.named(f"pages@127.0.0.1:{listener.getsockname()[1]}").aget("k"))
    connection, _ = await loop.sock_accept(listener)
    asked = await loop.sock_recv(connection, 1000)
    call.cancel()
    await asyncio.wait([call])
    return asked[:1], await loop.sock_recv(connection, 1000)


async def locked(name):
    """Four tasks have the lock one after the other, as they came, and one that gave up before its turn has not."""
    order, inside = [], []

    @lock("faces")
    async def enter(number):
        inside.append(number)
        await asyncio.sleep(0)
        assert len(inside) == 1
        order.append(inside.pop())

    async with lock("faces"):
        tasks = []
        for number in range(4):
            tasks.append(asyncio.ensure_future(enter(number)))
            await asyncio.sleep(0.01)
        tasks[1].cancel()
        late = await lock("faces").aacquire(timeout=0.01)
    await asyncio.gather(*tasks, return_exceptions=True)
    return order, late, lock("faces").locked()


async def told(name):
    """Sends more to the WebSocket of another request than fits on the way, and then a word."""
    while not sockets:
        await asyncio.sleep(0.01)
    for _ in range(16):
        await sockets[0].asend(b"x" * 1_000_000)
    return await sockets[0].asend("told")


async def called(name):
    return await rpc.acall("nap", "0.01")


@rpc.procedure
def nap(seconds):
    appliance.sleep(float(seconds))
    return "awake"


async def scenario(path, query):
    return repr(await globals()[path.strip("/")](query)).encode()


def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/socket":
        with websocket.accept() as ws:
            sockets.append(ws)
            list(ws)
            sockets.remove(ws)
        return []
    if path.startswith("/thread"):
        body = elsewhere(path.removeprefix("/thread"), query)
    else:
        body = appliance.wait(scenario(path, query))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def elsewhere(path, query):
    results = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(scenario(path, query))))
    thread.start()
    while thread.is_alive():
        appliance.sleep(0.01)
    return results[0]


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    body = await scenario(scope["path"], scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Handler(tornado.web.RequestHandler):
    async def get(self, path):
        self.write(await scenario(path, self.request.query))


handlers = tornado.web.Application([("/(.*)", Handler)])
