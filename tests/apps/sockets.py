"""WebSockets by `appliance.websocket` (and by `uwsgi`, under /uwsgi/): what a path does is said beside it."""

import json
from pathlib import Path

import appliance
import uwsgi
from appliance import websocket

#: What a browser runs; it says what came of it under /browser.
PAGE = Path(__file__).with_name("sockets.html")
#: How requests have ended, as (path, exception, code).
ended = []
#: The WebSockets of /chat.
members = set()
#: The WebSocket of /leaver.
leavers = []


def echo(ws):
    for message in ws:
        ws.send(message)


def kinds(ws):
    """Says what it gets, one word for each message."""
    for message in ws:
        ws.send(f"{type(message).__name__} {len(message)}")


def two(ws):
    """Sends, and ends."""
    ws.send("one")
    ws.send(b"two")


def fails(ws):
    raise ValueError("it fails")


def closes(ws):
    ws.close(4001, "that is all")
    ws.close(1000, "too late")
    try:
        ws.send("late")
    except websocket.ConnectionClosed as error:
        ended.append(["late", error.code, error.reason])


def misuses(ws):
    """Each mistake is an exception that says what is wrong."""
    for mistake in (
        lambda: ws.close(1005),
        lambda: ws.close(1000, "x" * 124),
        lambda: ws.send(1),
        lambda: ws.ping("x" * 126),
        lambda: websocket.accept(),
        lambda: websocket.WebSocket(),
    ):
        try:
            mistake()
        except Exception as error:
            ws.send(type(error).__name__)


def impatient(ws):
    try:
        ws.receive(timeout=0.05)
    except TimeoutError as error:
        ws.send(str(error))


def silent(ws):
    """Neither sends nor receives."""
    appliance.sleep(60)


def late(ws):
    """Receives what came meanwhile, and the end behind it."""
    appliance.sleep(0.3)
    got = list(ws)
    ended.append(["late", got, ws.close_code, ws.close_reason])


def floods(ws):
    """Sends until the client has to read, and says how far it came."""
    ended.append(["floods", "begins"])
    for number in range(1000):
        ws.send(b"x" * 65536)
        ended[-1] = ["floods", number]
    ws.send("done")


def chat(ws):
    members.add(ws)
    try:
        for message in ws:
            for member in list(members):
                try:
                    member.send(message)
                except websocket.ConnectionClosed:
                    pass  # its own request notices that too
    finally:
        members.discard(ws)


def leaver(ws):
    """Neither sends nor receives, and ends when /leave has been asked for."""
    leavers.append(ws)
    while leavers:
        appliance.sleep(0.02)


def feeder(ws):
    """Sends to the leaver until that has ended."""
    sent = 0
    try:
        while True:
            leavers[0].send(b"x" * 65536)
            sent += 1
            ended.append(["feeder", sent])
    except (websocket.ConnectionClosed, IndexError):
        ws.send("it has left")


def raises_closed(ws):
    while True:
        ws.receive()


def longer(ws):
    """Lives longer than `timeouts.request`."""
    appliance.sleep(1.5)
    ws.send("still here")
    for _ in ws:
        pass


def limited(ws):
    """Allows itself a moment only."""
    uwsgi.set_user_harakiri(1)
    ws.receive()


PATHS = {f"/{f.__name__}": f for f in (
    echo, kinds, two, fails, closes, misuses, impatient, silent, late, floods, chat, leaver, feeder, raises_closed, longer, limited,
)}


def by_uwsgi(path, environ):
    if path == "/uwsgi/proto":
        uwsgi.websocket_handshake(environ["HTTP_SEC_WEBSOCKET_KEY"], environ.get("HTTP_ORIGIN", ""), "chat")
    else:
        uwsgi.websocket_handshake()
    if path == "/uwsgi/types":
        for send, data in (
            (uwsgi.websocket_send, "text"),
            (uwsgi.websocket_send, b"bytes"),
            (uwsgi.websocket_send, bytearray(b"array")),
            (uwsgi.websocket_send_binary, "as bytes"),
            (uwsgi.websocket_send_binary, memoryview(b"view")),
        ):
            uwsgi.websocket_send(repr(send(data)))
        for send, data in ((uwsgi.websocket_send, b"\xff"), (uwsgi.websocket_send, 1)):
            try:
                send(data)
            except Exception as error:
                uwsgi.websocket_send(type(error).__name__)
    elif path == "/uwsgi/nb":
        # What comes while it sends must not be slept over.
        fd = uwsgi.connection_fd()
        while True:
            uwsgi.wait_fd_read(fd, 10)
            uwsgi.suspend()
            while message := uwsgi.websocket_recv_nb():
                appliance.sleep(0.02)
                uwsgi.websocket_send(b"nb " + message)
    else:
        while True:
            message = uwsgi.websocket_recv()
            uwsgi.websocket_send_binary(type(message).__name__.encode() + b" " + message)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/page":
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [PAGE.read_bytes()]
    if path == "/browser":
        ended.append(["browser", environ["QUERY_STRING"]])
    if path == "/leave":
        leavers.clear()
    if path in ("/ended", "/browser", "/leave"):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(ended).encode()]
    if path in ("/", "/answered"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        if path == "/answered":
            return answered()
        return [b"plain"]
    try:
        if path.startswith("/uwsgi/"):
            by_uwsgi(path, environ)
        else:
            headers = [("X-Mine", "1")] if path == "/echo" else []
            with websocket.accept(["chat", "other"], headers) as ws:
                PATHS[path](ws)
    except websocket.HandshakeError:
        raise
    except OSError as error:
        ended.append([path, type(error).__name__, getattr(error, "code", None)])
        raise
    return []


def answered():
    """A WebSocket cannot be accepted when the answer has begun."""
    yield b"begun "
    try:
        websocket.accept()
    except websocket.HandshakeError as error:
        yield str(error).encode()
