"""Says who it is and what it was asked, and waits as long as it is told. Needs nothing but the server's own modules."""
import hashlib
import json
import os
import time
from urllib.parse import parse_qsl

import appliance
import uwsgi

seen = []  # the targets of all requests of this worker


def who(environ):
    return {"worker": uwsgi.worker_id(), "pid": os.getpid(), "core": environ["uwsgi.core"]}


def upload(environ):
    digest, length = hashlib.sha256(), 0
    while piece := environ["wsgi.input"].read(65536):
        digest.update(piece)
        length += len(piece)
    return {"length": length, "sha256": digest.hexdigest()}


def application(environ, start_response):
    seen.append(environ["REQUEST_URI"])
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    path = environ["PATH_INFO"]
    if path == "/environ":
        answer = {key: value for key, value in environ.items() if isinstance(value, (str, int, bool, tuple))}
    elif path == "/seen":
        answer = seen
    elif path == "/upload":
        answer = upload(environ)
    elif path == "/pieces":  # ?count=3&size=1000: a generator
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (b"x" * int(query["size"]) for _ in range(int(query["count"])))
    else:
        if "s" in query:
            print("begun", path)
        if path == "/sleep":
            appliance.sleep(float(query["s"]))
        elif path == "/block":
            time.sleep(float(query["s"]))
        answer = who(environ)
    body = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
