"""The application of echoes.py: echoes messages, once for each way of hosting. `application` is ours, in blocking style;
`asgi` is for other servers. Plain requests get the usual hello, by which servers.py sees that a server is up."""

HELLO = b"Hello, world!\n"


def application(environ, start_response):
    if "HTTP_UPGRADE" in environ:
        from appliance import websocket

        with websocket.accept() as ws:
            for message in ws:
                ws.send(message)
        return []
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))])
    return [HELLO]


async def asgi(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            if event.get("text") is not None:
                await send({"type": "websocket.send", "text": event["text"]})
            else:
                await send({"type": "websocket.send", "bytes": event["bytes"]})
    elif scope["type"] == "http":
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(HELLO)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": HELLO})
