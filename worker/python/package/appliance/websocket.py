"""WebSockets in blocking style, for WSGI applications: Flask, Django, or none at all.

    from appliance import websocket

    def application(environ, start_response):
        with websocket.accept(subprotocols=["chat"]) as ws:
            for message in ws:              # str is text, bytes is binary
                ws.send(message)
        return []

The request suspends while it waits; others go on. Pings, the closing handshake and what the protocol forbids are the
server's business. Every request of the worker may send on a WebSocket, only the one that has accepted it receives. In
asyncio and Tornado code: `await ws.asend(message)`.
"""

from appliance._engine import ConnectionClosed, HandshakeError, WebSocket, accept_websocket

__all__ = ["ConnectionClosed", "HandshakeError", "WebSocket", "accept"]

accept = accept_websocket
