"""Bodies of any size: `/give/FORM?size=N` answers so many bytes, `/echo/FORM` what was sent, each in the form that is asked
for and with `status=` if that is said. `/held/FORM?until=PATH` is `/echo/FORM` that does not look at the body before that
file exists.
"""
import os
from urllib.parse import parse_qsl

import appliance

PERIOD = 251  # divides no power of two, so that a piece that is lost, doubled or moved shows
MOST = 20_000_000
PIECE = 100_000
PATTERN = (bytes(range(PERIOD)) * (MOST // PERIOD + 1))[:MOST]

given = 0  # bytes that the last generator has been asked for
seen = []  # what has been asked for


def pieces(body):
    global given
    given = 0
    for at in range(0, len(body), PIECE):
        piece = body[at : at + PIECE]
        given += len(piece)
        yield piece


def answer(form, status, body, start_response):
    headers = [("Content-Type", "application/octet-stream")]
    if form.startswith("announced"):
        headers.append(("Content-Length", str(len(body))))
    start_response(f"{status} Whatever", headers)
    return pieces(body) if form.endswith("pieces") else [body]


def application(environ, start_response):
    seen.append(environ["REQUEST_URI"])
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    _, what, *form = environ["PATH_INFO"].split("/")
    while what == "held" and not os.path.exists(query["until"]):
        appliance.sleep(0.01)
    if what in ("echo", "held"):
        body = environ["wsgi.input"].read()
    elif what == "give":
        body = PATTERN[: int(query["size"])]
    else:
        body = str({"given": given, "seen": len(seen)}.get(what, what)).encode()
    return answer(form[0] if form else "announced", query.get("status", "200"), body, start_response)
