"""The page that `make run` serves: which process answered, and what happens when many requests wait at the same time.

An ordinary Flask application. What is not ordinary is that `appliance.sleep` and `appliance.wait` look like blocking calls
but give the worker's loop to the other requests until they return.
"""
import asyncio
import json
import os
import platform
import time

from flask import Flask, Response, jsonify, render_template, request
from tornado.httpclient import AsyncHTTPClient

try:
    import appliance
    import uwsgi
except ImportError:
    raise SystemExit(
        "This example needs the server it shows: type `make run` at the top of the repository, "
        "or `appliance run --config examples/welcome/appliance.toml`."
    ) from None

# Where the burst knocks: the public listener of appliance.toml. Set it when you listen elsewhere.
FRONT_DOOR = os.environ.get("FRONT_DOOR", "http://127.0.0.1:8080")
# More than a burst of this size would rather test the limit of open files than show anything.
MOST_REQUESTS = 300
SECONDS_EACH = 1.0

app = Flask(__name__)


def whereabouts():
    """Who runs this request: the worker, its core and its process."""
    return {
        "worker": uwsgi.worker_id(),
        "core": request.environ["uwsgi.core"],
        "pid": os.getpid(),
    }


@app.get("/")
def page():
    return render_template(
        "index.html",
        here=whereabouts(),
        python=platform.python_version(),
        request_id=request.headers.get("X-Request-ID", "none"),
        workers=uwsgi.numproc,
        cores=uwsgi.cores,
        most=MOST_REQUESTS,
        seconds=SECONDS_EACH,
    )


@app.get("/hello")
def hello():
    """A request that has nothing to wait for."""
    return jsonify(whereabouts())


@app.get("/wait")
def wait():
    """A request that waits. The line that sleeps holds this request, and nothing else."""
    appliance.sleep(SECONDS_EACH)
    return jsonify(whereabouts())


@app.get("/burst")
def burst():
    """Knocks at the front door `n` times at once and streams a line of JSON for each answer as it comes.

    A browser opens six connections to one host at most, so the page cannot do this itself.
    """
    count = min(max(request.args.get("n", 50, type=int), 1), MOST_REQUESTS)

    def lines():
        waiting = appliance.wait(knock(count))
        while waiting:
            answered, waiting = appliance.wait(asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED))
            for task in answered:
                yield json.dumps(task.result()) + "\n"

    return Response(lines(), mimetype="application/x-ndjson", headers={"Cache-Control": "no-store"})


async def knock(count):
    """Starts `count` requests on the loop that also serves them, and returns their tasks."""
    client = AsyncHTTPClient(force_instance=True, max_clients=count)
    return [asyncio.ensure_future(ask(client, number)) for number in range(count)]


async def ask(client, number):
    began = time.monotonic()
    answer = {"number": number}
    try:
        response = await client.fetch(FRONT_DOOR + "/wait", request_timeout=60)
        answer.update(json.loads(response.body))
    except Exception as error:  # whatever went wrong, the page shows it for this one request
        answer["error"] = str(error)
    return dict(answer, seconds=time.monotonic() - began)
