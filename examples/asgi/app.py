"""An ASGI application with Starlette: pages, a stream of events, and what is set up once in each worker."""
import asyncio
import contextlib
import os

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route


@contextlib.asynccontextmanager
async def lifespan(app):
    """Runs in each worker, after the fork: the place for connections and background tasks."""
    yield {"started_in": os.getpid()}


async def index(request):
    await asyncio.sleep(0.1)  # the others go on
    return PlainTextResponse(f"Hello from worker process {request.state.started_in}\n")


async def events(request):
    async def ticks():
        for number in range(5):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.2)
    return StreamingResponse(ticks(), media_type="text/event-stream")


async def echo(request):
    return JSONResponse({"bytes": len(await request.body())})


app = Starlette(routes=[Route("/", index), Route("/events", events), Route("/echo", echo, methods=["POST"])], lifespan=lifespan)
