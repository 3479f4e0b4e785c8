"""A chat: whatever somebody says reaches everybody. One plain WSGI application, one page, and a WebSocket for each visitor."""

import json
from pathlib import Path

from appliance import websocket

PAGE = (Path(__file__).parent / "index.html").read_bytes()

#: Who is here: the WebSockets of this worker, each with its visitor's name.
visitors = {}


def tell_everybody(**said):
    text = json.dumps(said)
    for visitor in list(visitors):
        try:
            visitor.send(text)
        except websocket.ConnectionClosed:
            pass  # its own request notices that too


def chat(ws):
    """Serves one visitor: the first message is the name, each further one is for all."""
    visitors[ws] = name = str(ws.receive(timeout=60))[:40]
    tell_everybody(name=name, joined=len(visitors))
    try:
        for message in ws:
            tell_everybody(name=name, text=str(message))
    finally:
        del visitors[ws]
        tell_everybody(name=name, left=len(visitors))


def application(environ, start_response):
    if environ["PATH_INFO"] == "/chat":
        with websocket.accept() as ws:
            chat(ws)
        return []
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [PAGE]
