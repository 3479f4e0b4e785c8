"""What `uwsgi` says of the request and does with it, one function for each call: `/name` runs `name`. `/slept/name` runs it
after the request has been suspended, `/inner/name` in a greenlet that the request has started.
"""
import threading

import appliance
import greenlet
import uwsgi

PLAIN = [("Content-Type", "text/plain")]
ran_on = []
arrived = bytearray()  # what the last reader of a body has got so far


def raised(call, *arguments):
    try:
        return call(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def says(answer):
    """An application that answers what `answer` gives for its environ."""

    def application(environ, start_response):
        body = repr(answer(environ)).encode()
        start_response("200 OK", PLAIN)
        return [body]

    return application


def logvars(environ):
    return [
        uwsgi.set_logvar("user", "me"),
        uwsgi.get_logvar("user"),
        uwsgi.set_logvar(b"user", b"\xff"),
        uwsgi.get_logvar(b"user"),
        uwsgi.get_logvar("nobody"),
        uwsgi.add_var("KEY", "value"),
        uwsgi.get_logvar("KEY"),
        "KEY" in environ,
    ]


def wrong_types(environ):
    return [
        raised(uwsgi.set_logvar, "a", 1).split(":")[0],
        raised(uwsgi.set_logvar, [1, 2], "a").split(":")[0],
        raised(uwsgi.set_logvar, "a").split(":")[0],
        raised(uwsgi.get_logvar, None).split(":")[0],
        raised(uwsgi.add_var, "a", None).split(":")[0],
        raised(uwsgi.is_connected, "a").split(":")[0],
        raised(uwsgi.chunked_read, "a").split(":")[0],
        raised(uwsgi.sendfile).split(":")[0],
        raised(uwsgi.cl, 1).split(":")[0],
    ]


def connection(environ):
    fd = uwsgi.connection_fd()
    return [fd > 2, uwsgi.is_connected(fd), uwsgi.is_connected(999), uwsgi.is_connected(-1)]


def env(environ):
    return [uwsgi.env is environ, callable(uwsgi.start_response), raised(getattr, uwsgi, "nothing").split(":")[0]]


def elsewhere(environ):
    """Every call of the request, in a thread that serves none."""
    calls = (uwsgi.cl, uwsgi.request_id, uwsgi.disconnect, uwsgi.connection_fd, uwsgi.log_this_request)
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(raised(call).split(":")[0] for call in calls))
    thread.start()
    thread.join()
    return answers


def logged(environ):
    uwsgi.set_logvar("who", "line\nbreak")
    return uwsgi.log_this_request()


def pieces(environ):
    """The body, piece by piece, and what follows its end."""
    arrived.clear()
    while piece := uwsgi.chunked_read(5):
        arrived.extend(piece)
    return bytes(arrived), uwsgi.chunked_read(), uwsgi.chunked_read_nb()


def polled(environ):
    """The same without waiting inside of the call."""
    arrived.clear()
    empty = 0
    while (piece := uwsgi.chunked_read_nb()) != b"":
        if piece is None:
            empty += 1
            appliance.sleep(0.005)
        else:
            arrived.extend(piece)
    return bytes(arrived), empty > 0


def waited(environ):
    """And with uWSGI's way to wait, on the descriptor that it names."""
    arrived.clear()
    while (piece := uwsgi.chunked_read_nb()) != b"":
        if piece is None:
            uwsgi.wait_fd_read(uwsgi.connection_fd(), 5)
            uwsgi.suspend()
        else:
            arrived.extend(piece)
    return bytes(arrived)


def late(environ):
    """A body that stops before its end."""
    read = 0
    while read < 5000:
        read += len(uwsgi.chunked_read(5))
    try:
        uwsgi.chunked_read(0.05)
    except OSError as error:
        return read, type(error)


def sends(environ, start_response):
    early = raised(uwsgi.send, b"too early")
    start_response("200 OK", PLAIN)
    answers = [uwsgi.send(b"sent "), uwsgi.send(uwsgi.connection_fd(), b"and sent ")]
    answers += [raised(uwsgi.send, text).split(":")[0] for text in ("text", 5)]
    answers += [raised(uwsgi.send, 1, "text").split(":")[0], early.split(":")[0]]
    return [repr(answers).encode()]


def leaves(environ, start_response):
    """Says what it has to say, and goes on."""
    length = environ["QUERY_STRING"]
    start_response("200 OK", PLAIN + ([("Content-Length", length)] if length else []))
    uwsgi.send(b"before")
    fd = uwsgi.connection_fd()
    uwsgi.disconnect()
    facts = [uwsgi.is_connected(fd), uwsgi.connection_fd(), uwsgi.send(b"lost"), uwsgi.disconnect()]
    for _ in range(5):
        appliance.sleep(0.01)
        uwsgi.send(b"stolen")
    ran_on.append(facts)
    return [b"returned to nobody"]


def leaves_unsaid(environ, start_response):
    start_response("202 Accepted", PLAIN)
    uwsgi.disconnect()
    appliance.sleep(0.01)
    ran_on.append("unsaid")
    raise FileNotFoundError("after the answer")


def leaves_unstarted(environ, start_response):
    uwsgi.disconnect()
    ran_on.append("unstarted")
    start_response("200 OK", PLAIN)
    return [b"returned to nobody"]


def leaves_generating(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"before"
    uwsgi.disconnect()
    yield b""
    ran_on.append("generating")
    yield b"stolen"
    ran_on.append("never")


def ran(environ, start_response):
    start_response("200 OK", PLAIN)
    return [repr(ran_on).encode()]


SAYS = {
    "logvars": logvars,
    "wrong_types": wrong_types,
    "connection": connection,
    "env": env,
    "elsewhere": elsewhere,
    "logged": logged,
    "pieces": pieces,
    "polled": polled,
    "waited": waited,
    "late": late,
    "arrived": lambda environ: len(arrived),
    "cl": lambda environ: uwsgi.cl(),
    "request_id": lambda environ: uwsgi.request_id(),
}


def application(environ, start_response):
    *how, name = environ["PATH_INFO"][1:].split("/")
    call = says(SAYS[name]) if name in SAYS else globals()[name]
    if how == ["slept"]:
        appliance.sleep(0.02)
    if how == ["inner"]:
        return greenlet.greenlet(call).switch(environ, start_response)
    return call(environ, start_response)
