"""A Tornado application for the workers' own listeners, and a WSGI callable for the proxy."""
import asyncio
import os

import tornado.web
import tornado.websocket


class Main(tornado.web.RequestHandler):
    async def get(self, seconds):
        await asyncio.sleep(float(seconds or 0))
        self.write({"pid": os.getpid()})


class Echo(tornado.websocket.WebSocketHandler):
    def on_message(self, message):
        self.write_message(message)


def make_app():
    if os.environ.get("FAILS"):
        raise RuntimeError("cannot be made")
    return tornado.web.Application([("/echo", Echo), (r"/([0-9.]*)", Main)])


app = tornado.web.Application([(r"/([0-9.]*)", Main)])


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
