"""Tornado and WSGI side by side, in the same workers and on the same loop.

Each worker serves `make_app` by Tornado's own server after the fork, on 8000 + its number (`native.app` in appliance.toml).
The WSGI page reads what that server says with Tornado's own HTTP client; to the page, the fetch is an ordinary call.
"""
import asyncio
import json
import os

import tornado.web
from tornado.httpclient import AsyncHTTPClient

try:
    import appliance
    import uwsgi
except ImportError:
    raise SystemExit("This example needs its server: appliance run --config examples/tornado/appliance.toml") from None

served = {"tornado": 0, "wsgi": 0}


class Facts(tornado.web.RequestHandler):
    """Answers from the worker's memory, which it shares with the WSGI page."""

    async def get(self):
        served["tornado"] += 1
        await asyncio.sleep(0.1)
        self.write({"worker": uwsgi.worker_id(), "pid": os.getpid(), "served": served})


def make_app():
    """Called in each worker."""
    return tornado.web.Application([("/", Facts)])


def application(environ, start_response):
    """The WSGI page: asks the Tornado server of its own worker, and waits for the answer while others are served."""
    served["wsgi"] += 1
    base_port = int(os.environ.get("BASE_PORT", "8000"))
    url = f"http://127.0.0.1:{base_port + uwsgi.worker_id()}/"
    facts = json.loads(appliance.wait(AsyncHTTPClient().fetch(url)).body)
    body = json.dumps({"page": {"worker": uwsgi.worker_id(), "pid": os.getpid()}, "tornado": facts}, indent=2).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
