"""Answers from files. `/HOW?name=NAME` wraps the file of that name in the folder `FILES`, opened as HOW says, in
`wsgi.file_wrapper`; `/sendfile/HOW` promises it with `uwsgi.sendfile`, `/late` does that in a generator. `status=`, `length=`
and `begin=` (bytes to be written before the file) change the answer, `from=` is where the file is moved to before. `/closed`
says how often files were closed.
"""
import gzip
import io
import os
import tempfile
from urllib.parse import parse_qsl

import uwsgi

closed = []


class Shouting(io.FileIO):
    """A file that hands out other bytes than it has."""

    def read(self, size=-1):
        return super().read(size).upper()


class Slow:
    """Only what PEP 3333 asks for."""

    def __init__(self, path):
        self.file = open(path, "rb")

    def read(self, size):
        return self.file.read(min(size, 1000))


def own_read(path):
    file = open(path, "rb")
    file.read = lambda size=-1, read=file.read: read(size).upper()
    return file


def temporary(path):
    file = tempfile.NamedTemporaryFile()
    file.write(open(path, "rb").read())
    file.flush()
    file.seek(0)
    return file


def unflushed(path):
    """The last bytes are still in Python's own buffer when the answer begins."""
    file = open(path, "r+b")
    file.seek(0, os.SEEK_END)
    file.write(b"added")
    file.seek(0)
    return file


def pipe(path):
    read, write = os.pipe()
    os.write(write, b"through a pipe")
    os.close(write)
    return open(read, "rb")


WAYS = {
    "buffered": lambda path: open(path, "rb"),
    "raw": lambda path: open(path, "rb", buffering=0),
    "random": lambda path: open(path, "r+b"),
    "unflushed": unflushed,
    "temporary": temporary,
    "memory": lambda path: io.BytesIO(open(path, "rb").read()),
    "gzip": lambda path: gzip.open(path, "rb"),
    "shouting": Shouting,
    "own_read": own_read,
    "slow": Slow,
    "pipe": pipe,
    "proc": lambda path: open("/proc/self/status", "rb"),
    "text": lambda path: open(path),
    "write_only": lambda path: open(path, "ab"),
}


def opened(how, query):
    file = WAYS[how](os.path.join(os.environ["FILES"], query["name"]))
    if "from" in query:
        file.seek(int(query["from"]))
    if how in ("buffered", "random"):
        # Django sets a close of its own, too.
        file.close = lambda close=file.close: (closed.append(query["name"]), close())
    return file


def promise(what, query):
    """`uwsgi.sendfile` with a path, a file or a descriptor."""
    numbers = [int(query.get(name, 0)) for name in ("chunk", "pos", "size")]
    path = os.path.join(os.environ["FILES"], query["name"])
    if what == "path":
        return uwsgi.sendfile(path, *numbers)
    if what == "descriptor":
        fd = os.open(path, os.O_RDONLY)
        try:
            return uwsgi.sendfile(fd, *numbers)
        finally:
            os.close(fd)
    return uwsgi.sendfile(opened(what, query), *numbers)


def application(environ, start_response):
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    _, how, *what = environ["PATH_INFO"].split("/")
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    write = start_response(query.get("status", "200 OK"), headers)
    if "begin" in query:
        write(query["begin"].encode())
    if how == "closed":
        return [str(closed.count(query["name"])).encode()]
    if how == "late":
        return (promise("path", query) and b"" for _ in range(1))
    if how == "sendfile":
        answer = promise(what[0], query)
        return [] if answer is True else [repr(answer).encode()]
    wrapper = environ["wsgi.file_wrapper"](opened(how, query), 5000)
    if what == ["iterated"]:
        return (block for block in wrapper)
    if what == ["begun"]:
        next(wrapper)
    return wrapper
