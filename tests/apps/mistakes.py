"""What an application must not do, one function for each mistake: `/name` makes it, `/` answers properly."""
import sys

import appliance

PLAIN = [("Content-Type", "text/plain")]


class Weird(BaseException):
    """Not an Exception: `except Exception` lets it through."""


def raises(environ, start_response):
    raise ValueError("a secret of the application")


def raises_after_start(environ, start_response):
    start_response("200 OK", PLAIN)
    raise ValueError("a secret of the application")


def raises_in_first_piece(environ, start_response):
    start_response("200 OK", PLAIN)
    raise ValueError("a secret of the application")
    yield b""


def raises_base_exception(environ, start_response):
    raise Weird("a secret of the application")


def exits(environ, start_response):
    sys.exit("a secret of the application")


def interrupts(environ, start_response):
    raise KeyboardInterrupt


def says_that_the_client_has_left(environ, start_response):
    raise appliance.ClientDisconnected


def recurses(environ, start_response):
    return recurses(environ, start_response)


def returns_none(environ, start_response):
    start_response("200 OK", PLAIN)


def returns_str(environ, start_response):
    start_response("200 OK", PLAIN)
    return "text"


def returns_int(environ, start_response):
    start_response("200 OK", PLAIN)
    return 42


def returns_list_of_str(environ, start_response):
    start_response("200 OK", PLAIN)
    return ["text"]


def yields_str(environ, start_response):
    start_response("200 OK", PLAIN)
    yield "text"


def never_starts(environ, start_response):
    return [b"body"]


def starts_twice(environ, start_response):
    start_response("200 OK", PLAIN)
    start_response("200 OK", PLAIN)
    return [b"body"]


def status_without_reason_or_number(environ, start_response):
    start_response("fine", PLAIN)
    return [b"body"]


def status_of_bytes(environ, start_response):
    start_response(b"200 OK", PLAIN)
    return [b"body"]


def status_injects(environ, start_response):
    start_response("200 OK\r\nX-Injected: yes", PLAIN)
    return [b"body"]


def value_injects(environ, start_response):
    start_response("200 OK", [("X-Value", "a\r\nX-Injected: yes")])
    return [b"body"]


def name_injects(environ, start_response):
    start_response("200 OK", [("X-Name: a\r\nX-Injected", "yes")])
    return [b"body"]


def value_has_nul(environ, start_response):
    start_response("200 OK", [("X-Value", "a\0b")])
    return [b"body"]


def value_ends_line(environ, start_response):
    start_response("200 OK", [("X-Value", "a\n")])
    return [b"body"]


def hop_by_hop(environ, start_response):
    start_response("200 OK", [("Transfer-Encoding", "chunked")])
    return [b"4\r\nbody\r\n0\r\n\r\n"]


def upgrades(environ, start_response):
    start_response("200 OK", [("Connection", "Upgrade")])
    return [b"body"]


def interim(environ, start_response):
    start_response("103 Early Hints", [("Link", "</a.css>")])
    return [b"body"]


def writes_str(environ, start_response):
    start_response("200 OK", PLAIN)("text")
    return [b"body"]


def value_is_int(environ, start_response):
    start_response("200 OK", [("X-Value", 1)])
    return [b"body"]


def headers_of_tuple(environ, start_response):
    start_response("200 OK", (("X-Value", "a"),))
    return [b"body"]


def header_beyond_latin1(environ, start_response):
    start_response("200 OK", [("X-Value", "\u20ac")])
    return [b"body"]


def length_is_no_number(environ, start_response):
    start_response("200 OK", [("Content-Length", "many")])
    return [b"body"]


def yields_str_late(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"begun"
    yield "text"


def writes_str_late(environ, start_response):
    write = start_response("200 OK", PLAIN)
    write(b"begun")
    write("text")
    return []


def returns_str_with_length(environ, start_response):
    start_response("200 OK", PLAIN + [("Content-Length", "9")])
    return iter([b"begun", "text"])


def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    if name:
        return globals()[name](environ, start_response)
    start_response("200 OK", PLAIN)
    return [b"fine"]
