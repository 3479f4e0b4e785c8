"""Every way in which a request can end, one function for each: `/name` runs `name`. What was asked for is noted."""
import os

import appliance
import uwsgi

seen = []


def hello(start):
    start("200 OK", [])
    return [b"hello"]


def nothing(start):
    start("404 Not Found", [])
    return [b"there is nothing"]


def pieces(start):
    start("200 OK", [])
    for _ in range(3):
        yield b"a piece"


def asks(start):
    uwsgi.log_this_request()
    start("200 OK", [])
    return [b"asked"]


def notes(start):
    uwsgi.set_logvar("user", "joe")
    uwsgi.set_logvar("user", 'jo\u00ebl "\r\nx')
    uwsgi.set_logvar("cart", b"3")
    start("200 OK", [("X-App", "1")])
    return [b"noted"]


def notes_and_raises(start):
    uwsgi.set_logvar("user", "joe")
    raise ValueError("as it must")


def raises(start):
    raise ValueError("as it must")


def raises_late(start):
    start("200 OK", [])
    yield b"begun"
    raise ValueError("as it must")


def too_short(start):
    start("200 OK", [("Content-Length", "10")])
    yield b"short"


def own_failure(start):
    start("500 Own", [])
    return [b"sorry"]


def forges(start):
    start("200 OK", [("X-Appliance-Cause", "exception")])
    return [b""]


def says_nothing(start):
    uwsgi.disconnect()
    start("200 OK", [])
    return [b"nobody gets it"]


def sleeps(start):
    appliance.sleep(60)


def dies(start):
    os._exit(1)


def count(start, of):
    start("200 OK", [])
    return [str(seen.count(of)).encode()]


def application(environ, start):
    name = environ["PATH_INFO"][1:]
    if name == "seen":
        return count(start, environ["QUERY_STRING"])
    seen.append(name)
    return globals()[name](start) or []
