"""The application behind the fronts: the least that WSGI can do, a body that comes back, and an answer that is larger than
what proxies like to hold. Every answer has a Content-Length.
"""

HELLO = b"Hello, world!\n"
LARGE = bytes(range(256)) * 256


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/echo":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    elif path == "/large":
        body = LARGE
    else:
        body = HELLO
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]
