"""A Starlette application as people write them: middleware, streams, files, background tasks, lifespan."""
import asyncio
import contextlib
import gc
import os
import threading

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

notes = []
#: The WebSocket of /leaver.
leavers = []
#: Those that /blocking has run on.
threads = set()


class Stamp(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-stamp"] = "seen"
        return response


@contextlib.asynccontextmanager
async def lifespan(app):
    if os.environ.get("FAILS") == "raises":
        raise RuntimeError("no database on purpose")
    async with anyio.create_task_group() as beside:
        if os.environ.get("FAILS") == "later":
            beside.start_soon(fail_later)
        yield {"greeting": "hello"}


async def fail_later():
    raise RuntimeError("in a task of the lifespan")


async def index(request):
    return PlainTextResponse(request.state.greeting)


def blocking(request):
    threads.add(threading.current_thread())
    return PlainTextResponse("from a thread")


async def sweep(request):
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return JSONResponse(sorted(task.get_name() for task in others))


async def trample(request):
    """Cancels tasks also before their first step."""
    names = set()
    for _ in range(5):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        names |= {task.get_name() for task in others if task.get_name() == "appliance" and task.cancel()}
        await asyncio.sleep(0)
    return JSONResponse(sorted(names))


async def workers(request):
    return JSONResponse(len(threads))


async def upload(request):
    async with request.form() as form:
        file = form["file"]
        return JSONResponse({"title": form["title"], "name": file.filename, "bytes": len(await file.read())})


async def stream(request):
    async def lines():
        for i in range(5):
            yield f"line {i}\n"
            await asyncio.sleep(0.01)
    return StreamingResponse(lines(), media_type="text/plain")


async def events(request):
    async def forever():
        notes.append("began")
        try:
            while True:
                yield "data: tick\n\n"
                await asyncio.sleep(0.01)
        finally:
            notes.append("ended")
    return StreamingResponse(forever(), media_type="text/event-stream")


async def background(request):
    return PlainTextResponse("accepted", background=BackgroundTask(later))


async def later():
    await asyncio.sleep(0.05)
    notes.append("done in the background")


async def file(request):
    return FileResponse(request.query_params["path"])


async def taken(request):
    # A generator that was left where it yields, in a cycle of Starlette's middleware, ends when that is found.
    gc.collect()
    body, notes[:] = list(notes), []
    return JSONResponse(body)


async def seen(request):
    return JSONResponse(notes)


async def fails(request):
    raise RuntimeError("in a view")


async def facts(request):
    return JSONResponse({"url": str(request.url), "client": request.client.host, "body": (await request.body()).decode(),
                         "headers": sorted(name for name in request.headers if not name.startswith("x-"))})


async def moved(request):
    return RedirectResponse("/")


async def echo(socket):
    """Sends back what comes, until the client leaves."""
    protocols = socket.scope["subprotocols"]
    await socket.accept(subprotocol=protocols[-1] if protocols else None, headers=[(b"x-from", b"starlette")])
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                notes.append([message["code"], message["reason"]])
                return
            await socket.send({"type": "websocket.send", **{key: message[key] for key in ("text", "bytes") if key in message}})
    except WebSocketDisconnect:
        notes.append("disconnected")


async def closes(socket):
    await socket.accept()
    await socket.send_text(f"{socket.url.scheme} {socket.client.host} {socket.query_params['x']}")
    await socket.close(4001, "enough")


async def refuses(socket):
    await socket.close()


async def denies(socket):
    await socket.send_denial_response(PlainTextResponse("not you", 401))


async def breaks(socket):
    await socket.accept()
    raise RuntimeError("in a socket")


async def leaver(socket):
    """Neither sends nor receives, and ends when /leave has been asked for."""
    await socket.accept()
    leavers.append(socket)
    while leavers:
        await asyncio.sleep(0.02)


async def feed(request):
    """Sends to the leaver until that has ended."""
    leaver = leavers[0]
    try:
        for number in range(10_000):
            await leaver.send_bytes(b"x" * 10_000)
            notes[:] = [number]
    except WebSocketDisconnect:
        return PlainTextResponse("it has left")


async def leave(request):
    leavers.clear()
    return PlainTextResponse("")


async def eager(socket):
    """A task of its own receives from before it accepts until after it has returned, as in Quart."""
    await socket.receive()
    leavers.append(asyncio.create_task(hear(socket)))
    await asyncio.sleep(0.02)
    await socket.accept()
    while not notes:
        await asyncio.sleep(0.02)


async def hear(socket):
    message = {}
    while message.get("type") != "websocket.disconnect":
        message = await socket.receive()
        notes.append(message.get("text", message["type"]))


async def deaf(socket):
    """Neither sends nor receives, for ever."""
    await socket.accept()
    try:
        await asyncio.sleep(3600)
    finally:
        notes.append("deaf")


async def tardy(socket):
    """Accepts when /leave has been asked for, whoever is there then."""
    leavers.append(socket)
    while leavers:
        await asyncio.sleep(0.02)
    await socket.accept()


async def named(socket):
    """Accepts with whatever subprotocol the query names."""
    await socket.accept(subprotocol=socket.query_params["name"])


async def floods(socket):
    await socket.accept()
    try:
        for number in range(10_000):
            await socket.send_bytes(b"x" * 10_000)
            notes[:] = [number]
    except WebSocketDisconnect:
        notes[:] = ["left"]


app = Starlette(
    routes=[
        Route("/", index), Route("/blocking", blocking), Route("/workers", workers), Route("/sweep", sweep), Route("/trample", trample),
        Route("/upload", upload, methods=["POST"]), Route("/stream", stream),
        Route("/events", events), Route("/background", background), Route("/file", file), Route("/notes", taken), Route("/seen", seen),
        Route("/fails", fails), Route("/facts", facts, methods=["GET", "POST", "PUT"]), Route("/moved", moved),
        Route("/feed", feed), Route("/leave", leave), WebSocketRoute("/leaver", leaver), WebSocketRoute("/deaf", deaf), WebSocketRoute("/eager", eager), WebSocketRoute("/named", named), WebSocketRoute("/tardy", tardy),
        WebSocketRoute("/echo", echo), WebSocketRoute("/closes", closes), WebSocketRoute("/refuses", refuses),
        WebSocketRoute("/denies", denies), WebSocketRoute("/breaks", breaks), WebSocketRoute("/floods", floods),
    ],
    middleware=[Middleware(Stamp)] if os.environ.get("STAMP") else [],
    lifespan=lifespan,
)
