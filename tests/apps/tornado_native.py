"""A Tornado application that each worker binds after the fork, beside a WSGI callable, both on the same IOLoop."""
import asyncio
import os

import appliance
import tornado.web
import uwsgi
from tornado.httpclient import AsyncHTTPClient
from tornado.ioloop import IOLoop
from uwsgidecorators import postfork

LOOP_AT_IMPORT = IOLoop.current()
BASE_PORT = int(os.environ["BASE_PORT"])
answers = []


class Main(tornado.web.RequestHandler):
    async def get(self):
        await asyncio.sleep(0.01)
        answers.append(self.request.path)
        self.write(f"tornado in worker {uwsgi.worker_id()}")


@postfork
def listen():
    application = tornado.web.Application([("/.*", Main)])
    application.listen(BASE_PORT + uwsgi.worker_id(), "127.0.0.1", reuse_port=True)


def application(environ, start_response):
    port = BASE_PORT + uwsgi.worker_id()
    if environ["PATH_INFO"] == "/loops":
        same = [IOLoop.current(), IOLoop.instance()]
        body = repr([loop is LOOP_AT_IMPORT for loop in same]).encode()
    else:
        body = appliance.wait(AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/from-wsgi")).body
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Answers", str(len(answers)))])
    return [body]
