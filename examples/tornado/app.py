"""Tornado and WSGI side by side, in the same workers and on the same loop.

Each worker opens a Tornado server of its own after the fork, on 8000 + its number. The WSGI page reads what that server
says with Tornado's own HTTP client; to the page, the fetch is an ordinary call.
"""
import asyncio
import json
import os

import tornado.web
from tornado.httpclient import AsyncHTTPClient

try:
    import appliance
    import uwsgi
    from uwsgidecorators import postfork
except ImportError:
    raise SystemExit("This example needs its server: appliance run --config examples/tornado/appliance.toml") from None

# Worker 1 listens on the next port, worker 2 on the one after.
BASE_PORT = int(os.environ.get("BASE_PORT", "8000"))
served = {"tornado": 0, "wsgi": 0}


class Facts(tornado.web.RequestHandler):
    """Answers from the worker's memory, which it shares with the WSGI page."""

    async def get(self):
        served["tornado"] += 1
        await asyncio.sleep(0.1)
        self.write({"worker": uwsgi.worker_id(), "pid": os.getpid(), "served": served})


@postfork
def listen():
    tornado.web.Application([("/", Facts)]).listen(
        BASE_PORT + uwsgi.worker_id(), "127.0.0.1", reuse_port=True  # a successor binds before its predecessor has gone
    )


def application(environ, start_response):
    """The WSGI page: asks the Tornado server of its own worker, and waits for the answer while others are served."""
    served["wsgi"] += 1
    url = f"http://127.0.0.1:{BASE_PORT + uwsgi.worker_id()}/"
    facts = json.loads(appliance.wait(AsyncHTTPClient().fetch(url)).body)
    body = json.dumps({"page": {"worker": uwsgi.worker_id(), "pid": os.getpid()}, "tornado": facts}, indent=2).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
