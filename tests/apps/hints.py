"""Early hints: `/appliance`, `/environ` and `/slept` give two and wait until the file of `?until=` is there before they
answer; `/refused` answers what is refused; `/late` hints when the answer has begun.
"""
import os
from urllib.parse import parse_qsl

import appliance

LINKS = [("Link", "</a.css>; rel=preload; as=style"), ("Link", "</b.js>; rel=preload; as=script")]
REFUSED = [
    [("Link", "a\r\nSet-Cookie: b")],
    [("Link", "a\0")],
    [("Li nk", "a")],
    [("", "a")],
    [("Connection", "close")],
    [("Content-Length", "5")],
    [("Transfer-Encoding", "chunked")],
    [("Upgrade", "x")],
    [("Link", "\u20ac")],
    [("Link", 1)],
    [("Link",)],
    ["Link"],
    5,
]


def refusal(headers):
    try:
        return appliance.early_hints(headers)
    except Exception as error:
        return type(error).__name__


def application(environ, start_response):
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    path = environ["PATH_INFO"]
    body = b"answered"
    if path == "/refused":
        body = " ".join(map(str, map(refusal, REFUSED))).encode()
    elif path == "/late":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"begun, ")
        appliance.early_hints(LINKS)
        return [b"answered"]
    elif path == "/bytes":
        appliance.early_hints(((b"Link", b"</c.css>"),))
    else:
        if path == "/slept":
            appliance.sleep(0.01)
        hint = environ["wsgi.early_hints"] if path == "/environ" else appliance.early_hints
        body += environ["wsgi.input"].read()
        hint(LINKS[:1])
        hint(LINKS)
        while "until" in query and not os.path.exists(query["until"]):
            appliance.sleep(0.005)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
