"""The application behind the fronts: the least that WSGI can do, a body that comes back, an answer that is larger than what
proxies like to hold, and one of 100 MiB that is made as it leaves. Every answer has a Content-Length.
"""
from itertools import repeat

HELLO = b"Hello, world!\n"
LARGE = bytes(range(256)) * 256
HUGE_PIECES = 1600


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/huge":
        length = str(len(LARGE) * HUGE_PIECES)
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", length)])
        return repeat(LARGE, HUGE_PIECES)
    if path == "/echo":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    elif path == "/large":
        body = LARGE
    else:
        body = HELLO
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]
