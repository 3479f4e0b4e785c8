"""The application that ASGI servers are measured with: the least that an ASGI application can do, and the same by Starlette."""
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

BODY = b"Hello, world!\n"
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())],
}


async def starlette_hello(request):
    return PlainTextResponse(BODY)


async def echo(request):
    body = await request.body()
    return PlainTextResponse(body)


starlette = Starlette(routes=[Route("/starlette", starlette_hello), Route("/echo", echo, methods=["POST"])])


async def application(scope, receive, send):
    if scope["type"] != "http" or scope["path"] != "/":
        return await starlette(scope, receive, send)
    await send(START)
    await send({"type": "http.response.body", "body": BODY})
