"""What PEP 3333 lets an application do, one function for each way: `/name` runs `name`."""
import sys
import threading

PLAIN = [("Content-Type", "text/plain")]
closed = []


class Body:
    """An iterable that says when it was closed."""

    def __init__(self, name, pieces):
        self.name, self.pieces = name, iter(pieces)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.pieces)

    def close(self):
        closed.append(self.name)


def a_list(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"one", b"", b"two"]


def a_tuple(environ, start_response):
    start_response("200 OK", PLAIN)
    return (b"one", b"two")


def a_generator(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"one"
    yield b""
    yield b"two"


def late_start(environ, start_response):
    """A generator calls start_response only when its first piece is asked for."""
    start_response("202 Accepted", PLAIN)
    yield b"late"


def nothing(environ, start_response):
    start_response("200 OK", PLAIN)
    return []


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def own_length(environ, start_response):
    start_response("200 OK", PLAIN + [("Content-Length", "6")])
    return iter([b"one", b"two"])


def too_long(environ, start_response):
    start_response("200 OK", PLAIN + [("Content-Length", "3")])
    return [b"onetwo"]


def too_short(environ, start_response):
    start_response("200 OK", PLAIN + [("Content-Length", "10")])
    return [b"one"]


def with_write(environ, start_response):
    write = start_response("200 OK", PLAIN)
    write(b"written ")
    write(b"and ")
    return [b"returned"]


def changed_mind(environ, start_response):
    """exc_info before the head was sent: the second status counts."""
    start_response("200 OK", PLAIN)
    try:
        raise ValueError("changed my mind")
    except ValueError:
        start_response("503 Later", PLAIN, sys.exc_info())
    return [b"later"]


def too_late(environ, start_response):
    """exc_info after the head was sent: the exception comes back."""
    start_response("200 OK", PLAIN)
    yield b"begun"
    try:
        raise ValueError("too late to change")
    except ValueError:
        start_response("503 Later", PLAIN, sys.exc_info())
    yield b"never"


def closes(environ, start_response):
    start_response("200 OK", PLAIN)
    return Body("whole", [b"one", b"two"])


def closes_after_error(environ, start_response):
    def pieces():
        yield b"one"
        raise ValueError("in the middle")

    start_response("200 OK", PLAIN)
    return Body("error", pieces())


def was_closed(environ, start_response):
    start_response("200 OK", PLAIN)
    return [",".join(closed).encode()]


def a_file(environ, start_response):
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](open(__file__, "rb"))


def two_cookies(environ, start_response):
    start_response("200 OK", PLAIN + [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    return [environ["HTTP_COOKIE"].encode()]


def says_errors_in_two_threads(environ, start_response):
    environ["wsgi.errors"].write("a line ")
    other = threading.Thread(target=environ["wsgi.errors"].write, args=["a line of another thread\n"])
    other.start()
    other.join()
    environ["wsgi.errors"].write("of the request\n")
    start_response("200 OK", PLAIN)
    return [b"ok"]


def says_errors(environ, start_response):
    environ["wsgi.errors"].write("first line for the log\nsecond ")
    environ["wsgi.errors"].writelines(["line for the log\n"])
    print("a line for standard output")
    start_response("200 OK", PLAIN)
    return [b"ok"]


def application(environ, start_response):
    return globals()[environ["PATH_INFO"][1:] or "a_list"](environ, start_response)
