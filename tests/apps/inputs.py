"""Reads the request's body in the way that the path names, and answers what it got as a Python expression."""
import os

import appliance
import uwsgi


def slowly(stream):
    """Leaves the loop to others between two reads."""
    pieces = []
    while piece := stream.read(10000):
        pieces.append(piece)
        appliance.sleep(0.001)
    return len(b"".join(pieces))


def chunked_read(stream):
    pieces = []
    while piece := uwsgi.chunked_read(5):
        pieces.append(piece)
    return b"".join(pieces)


WAYS = {
    "read": lambda stream: stream.read(),
    "read_minus_one": lambda stream: stream.read(-1),
    "read_none": lambda stream: stream.read(None),
    "read_zero": lambda stream: (stream.read(0), stream.read()),
    "read_some": lambda stream: [stream.read(4), stream.read(4), stream.read(100), stream.read(4)],
    "readline": lambda stream: [stream.readline(), stream.readline(2), stream.readline(), stream.readline()],
    "readlines": lambda stream: stream.readlines(),
    "readlines_hint": lambda stream: [stream.readlines(1), stream.read()],
    "iterate": lambda stream: list(stream),
    "length": lambda stream: len(stream.read()),
    "slowly": slowly,
    "chunked_read": chunked_read,
    "ignore": lambda stream: "ignored",
}


def application(environ, start_response):
    try:
        answer = repr(WAYS[environ["PATH_INFO"][1:]](environ["wsgi.input"]))
    except OSError as error:
        print("OSError:", error, flush=True)
        raise
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Pid", str(os.getpid()))])
    return [answer.encode()]
