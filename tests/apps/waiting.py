"""uWSGI's calls for descriptors of the application's own: each route is a function below, and answers with its repr()."""
import asyncio
import os
import socket
import threading
from urllib.parse import parse_qsl

import appliance
import uwsgi


def now(query):
    return "now"


def exchange(query):
    """Says hello to a peer and waits for its answer, and for the end."""
    fd = uwsgi.connect(query["peer"], 5)
    facts = [fd > 2, uwsgi.is_connected(fd), uwsgi.send(fd, b"hello")]
    facts += [uwsgi.recv(fd, 100), uwsgi.recv(fd), uwsgi.close(fd), uwsgi.is_connected(fd), uwsgi.recv(fd)]
    return facts


def announced(query):
    """The same as uWSGI's documentation shows it: announce, suspend, go on."""
    fd = uwsgi.async_connect(query["peer"])
    uwsgi.wait_fd_write(fd, 5)
    uwsgi.suspend()
    facts = [uwsgi.ready_fd() == fd, uwsgi.is_connected(fd), uwsgi.send(fd, b"hello")]
    uwsgi.wait_fd_read(fd, 5)
    uwsgi.suspend()
    facts += [uwsgi.ready_fd() == fd, uwsgi.recv(fd), uwsgi.close(fd)]
    return facts


def in_a_thread(query):
    return elsewhere(lambda: exchange(query))


def on_core(query):
    async def call():
        return await appliance.on_core(exchange, query)

    return appliance.wait(call())


def on_the_loop(query):
    async def call():
        here, there = socket.socketpair()
        with here, there:
            try:
                uwsgi.recv(here.fileno())
            except RuntimeError as error:
                return str(error)

    return appliance.wait(call())


def elsewhere(function):
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    while thread.is_alive():
        appliance.sleep(0.01)
    return result[0]


def nobody(query):
    """Each way to say no."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dead, other = socket.socketpair()
    other.close()
    with dead:
        facts = [uwsgi.connect(f"127.0.0.1:{port}", 1), uwsgi.async_connect("/nonexistent"),
                 uwsgi.send(dead.fileno(), b"x"), uwsgi.recv(dead.fileno()), uwsgi.recv(9999), uwsgi.close(9999)]
    try:
        uwsgi.connect("localhost:1")
    except ValueError as error:
        facts.append("not resolved" in str(error))
    return facts


def much(query):
    """More than a pipe or a socket takes at once, with both ends in this process."""
    facts = []
    for reader, writer in (os.pipe(), [end.detach() for end in socket.socketpair()]):
        total = []

        def read(reader=reader, total=total):
            while data := uwsgi.recv(reader, 65536):
                total.append(len(data))

        async def both(reader=reader, writer=writer, read=read):
            receiving = appliance.on_core(read)
            await appliance.on_core(uwsgi.send, writer, b"x" * 1_000_000)
            uwsgi.close(writer)
            await receiving
            uwsgi.close(reader)

        appliance.wait(both(), 20)
        facts.append(sum(total))
    return facts


def own_connection(query):
    """The connection of a request is no descriptor to read from or to write to, in this request or elsewhere."""
    fd = uwsgi.connection_fd()

    def raised(function, *args):
        try:
            return function(*args)
        except ValueError as error:
            return "own" in str(error) or "body" in str(error)

    facts = [raised(uwsgi.recv, fd), raised(uwsgi.send, fd, b"raw")]
    facts += elsewhere(lambda: [raised(uwsgi.recv, fd), raised(uwsgi.send, fd, b"raw")])
    uwsgi.start_response("200 OK", [])
    uwsgi.disconnect()
    after.append(facts + [raised(uwsgi.recv, fd), raised(uwsgi.send, fd, b"raw")])


after = []


def afterwards(query):
    return after


def small_calls(query):
    """What needs no request answers alike in one and in a thread."""
    def calls():
        uwsgi.set_warning_message("a warning from the application")
        uwsgi.alarm("disk", "an alarm from the application")
        uwsgi.setprocname("renamed")
        with open("/proc/self/comm") as file:
            name = file.read().strip()
        return [uwsgi.worker_id(), uwsgi.mule_id(), uwsgi.ready(), uwsgi.listen_queue(), uwsgi.accepting(),
                uwsgi.extract("/nonexistent"), uwsgi.extract(__file__)[:3], name, uwsgi.logsize(),
                uwsgi.total_requests() > 0, uwsgi.workers()[0]["id"], uwsgi.mem()[0] > 0, uwsgi.i_am_the_spooler()]

    here, there = calls(), elsewhere(calls)
    return here if here == there else (here, there)


def refused(query):
    sentences = []
    for call in (lambda: uwsgi.accepting(0), lambda: uwsgi.listen_queue(1), lambda: uwsgi.mule_msg("x"),
                 lambda: uwsgi.embedded_data("x")):
        try:
            call()
        except ValueError as error:
            sentences.append(str(error).split(":")[0])
    return sentences


def application(environ, start_response):
    function = globals()[environ["PATH_INFO"].strip("/")]
    result = function(dict(parse_qsl(environ["QUERY_STRING"])))
    if function is own_connection:
        return []
    body = repr(result).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
