"""ASGI 3 without a framework: every message that a server may see, in order and out of it."""
import asyncio
import contextvars
import json
import os

number = contextvars.ContextVar("number")
served = 0
notes = []
others = []


async def lifespan(scope, receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            if os.environ.get("FAILS") == "message":
                await send({"type": "lifespan.startup.failed", "message": "the database is not there"})
                return
            scope["state"].update(started=os.getpid(), shared=[])
            if os.environ.get("LINGERS"):
                others.append(asyncio.create_task(linger("task")))
            await send({"type": "lifespan.startup.complete"})
        else:
            say_goodbye("worker")
            await send({"type": "lifespan.shutdown.complete"})
            return


def say_goodbye(who):
    with open(os.environ.get("FAREWELL", os.devnull), "a") as file:
        file.write(f"{who} of {os.getpid()} says goodbye\n")


async def linger(who):
    """Ends only when it is cancelled, and then not at once."""
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)
        say_goodbye(who)


class Policy(asyncio.AbstractEventLoopPolicy):
    """Makes loops of its own kind, which need nobody to watch over their children."""

    def get_event_loop(self):
        return asyncio.SelectorEventLoop()

    def set_event_loop(self, loop):
        pass

    def new_event_loop(self):
        return asyncio.SelectorEventLoop()


if os.environ.get("POLICY"):
    asyncio.set_event_loop_policy(Policy())


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    name = scope["path"].split("/")[1] or "index"
    await globals()[f"page_{name}"](scope, receive, send)


async def answer(send, body, status=200, headers=(), length=True):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = [(b"content-type", b"text/plain"), *headers]
    if length:
        fields.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def whole(receive):
    pieces, more = [], True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        pieces.append(message["body"])
        more = message["more_body"]
    return pieces


async def page_index(scope, receive, send):
    await answer(send, b"hello")


async def page_scope(scope, receive, send):
    def plain(value):
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
    await answer(send, plain(scope))


async def page_state(scope, receive, send):
    global served
    served += 1
    scope["state"]["shared"].append(served)
    scope["state"]["own"] = scope["state"].get("own", 0) + 1
    await answer(send, {**scope["state"], "pid": os.getpid()})


async def page_echo(scope, receive, send):
    await answer(send, b"".join(await whole(receive)), length=False)


async def page_size(scope, receive, send):
    pieces = await whole(receive)
    await answer(send, {"bytes": sum(map(len, pieces)), "pieces": len(pieces)})


async def page_stream(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for i in range(3):
        await send({"type": "http.response.body", "body": b"line %d\n" % i, "more_body": True})
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body"})


async def page_flood(scope, receive, send):
    """More than any buffer holds; /sent says how far it came."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for i in range(2000):
        await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
        notes[:] = [i + 1]
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def page_notes(scope, receive, send):
    body, notes[:] = list(notes), []
    await answer(send, body)


async def page_sent(scope, receive, send):
    await answer(send, notes)


async def page_raise(scope, receive, send):
    raise RuntimeError("on purpose")


async def page_cut(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"some of it", "more_body": True})
    raise RuntimeError("in the middle")


async def page_silent(scope, receive, send):
    pass


async def page_half(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"some of it", "more_body": True})


async def page_late(scope, receive, send):
    """Raises, and goes on, when everything has been sent."""
    await answer(send, b"done")
    try:
        await send({"type": "http.response.body", "body": b"more"})
    except RuntimeError as error:
        notes.append(str(error))
    notes.append((await receive())["type"])
    raise RuntimeError("behind the answer")


async def page_disorder(scope, receive, send):
    try:
        await send({"type": "http.response.body", "body": b""})
    except RuntimeError as error:
        await answer(send, str(error).encode())


async def page_header(scope, receive, send):
    await answer(send, b"", headers=[(b"x-evil", b"a\r\nb: c")])


async def page_text(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": "text"})


async def page_lingers(scope, receive, send):
    notes.append("began")
    await linger("request")


async def page_child(scope, receive, send):
    child = await asyncio.create_subprocess_exec("echo", "from a child", stdout=asyncio.subprocess.PIPE)
    await answer(send, (await child.communicate())[0])


async def page_background(scope, receive, send):
    await answer(send, b"at once")
    await asyncio.sleep(0.3)
    notes.append("background")


async def page_listens(scope, receive, send):
    notes.append("began")
    await whole(receive)
    notes.append((await receive())["type"])
    await asyncio.sleep(0.05)
    notes.append("ended")


async def page_overhears(scope, receive, send):
    """Waits in a task for the end that its own answer brings."""
    await whole(receive)

    async def overhear():
        notes.append((await receive())["type"])

    task = asyncio.create_task(overhear())
    await asyncio.sleep(0.02)
    await answer(send, b"heard")
    await task


async def page_forgets(scope, receive, send):
    """Its task still waits when it has returned."""
    await whole(receive)

    async def overhear():
        notes.append((await receive())["type"])

    others.append(asyncio.create_task(overhear()))
    await asyncio.sleep(0.02)
    await answer(send, b"forgotten")


async def page_waits(scope, receive, send):
    notes.append("began")
    try:
        await asyncio.sleep(float(scope["query_string"] or 60))
        notes.append("awake")
    except asyncio.CancelledError:
        notes.append("cancelled")
        raise
    try:
        await answer(send, b"x")
    except OSError as error:
        notes.append(type(error).__name__)
        raise


async def page_streams(scope, receive, send):
    """Sends for ever, to whoever is there."""
    notes.append("began")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send({"type": "http.response.body", "body": b"tick\n", "more_body": True})
            await asyncio.sleep(0.01)
    except (OSError, asyncio.CancelledError):
        notes.append("cancelled or told")
        raise


async def page_spins(scope, receive, send):
    async def spin():
        while True:
            pass
    await (asyncio.create_task(spin()) if scope["query_string"] else spin())


async def page_hints(scope, receive, send):
    await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
    await answer(send, b"hinted")


async def page_file(scope, receive, send):
    path = scope["query_string"].decode()
    headers = [(b"content-length", str(os.path.getsize(path)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.pathsend", "path": path})


async def page_tasks(scope, receive, send):
    """receive() and send() as other code may use them: as coroutines for tasks."""
    number.set(scope["query_string"])
    first = await asyncio.create_task(receive())
    second = asyncio.ensure_future(receive())
    await asyncio.sleep(0.02)
    waits = not second.done()
    second.cancel()
    await asyncio.wait([second])
    name = asyncio.current_task().get_name()
    body = [first["type"], waits, second.cancelled(), name, number.get().decode()]
    await asyncio.gather(answer(send, body))


async def page_hosts(scope, receive, send):
    """Odd shapes that the specification allows."""
    await send({"type": "http.response.start", "status": 299, "headers": ([b"x-list", b"1"] for _ in range(2))})
    await send({"type": "http.response.body", "body": memoryview(b"memory"), "more_body": True})
    await send({"type": "http.response.body", "body": bytearray(b"array")})


def plain(scope, receive, send):
    """Three parameters and no `async`: what it returns is awaited."""
    return app(scope, receive, send)


def make():
    return app


def environ_and_start(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"wsgi in {os.getpid()}".encode()]
