"""A Tornado application for the workers' own listeners, and a WSGI callable for the proxy."""
import asyncio
import os
import sys

import tornado.web
import tornado.websocket


class Main(tornado.web.RequestHandler):
    async def get(self, seconds):
        await asyncio.sleep(float(seconds or 0))
        self.write({"pid": os.getpid()})


class Events(tornado.web.RequestHandler):
    """A stream that does not end by itself."""

    async def get(self):
        try:
            while True:
                self.write("data: tick\n\n")
                await self.flush()
                await asyncio.sleep(0.05)
        finally:
            print("the stream has ended", file=sys.stderr)


class Echo(tornado.websocket.WebSocketHandler):
    def on_message(self, message):
        self.write_message(message)


def make_app():
    if os.environ.get("FAILS"):
        raise RuntimeError("cannot be made")
    own = {"log_function": log} if os.environ.get("LOGS") else {}
    return tornado.web.Application([("/echo", Echo), ("/events", Events), (r"/([0-9.]*)", Main)], **own)


def log(handler):
    print("its own line for", handler.request.uri, file=sys.stderr)


app = tornado.web.Application([(r"/([0-9.]*)", Main)], transforms=(tornado.web.GZipContentEncoding,))


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
