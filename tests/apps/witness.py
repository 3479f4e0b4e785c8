"""Remembers what it was asked, to the byte, and tells it once: `/witness` gives every request since the last time."""
import json
import re

seen = []

# What a proxy adds or must not pass on, and what says how a body is framed on its way: it differs from door to door.
OF_THE_WAY = {
    "HTTP_CONNECTION",
    "HTTP_EXPECT",
    "HTTP_HOST",
    "HTTP_TRANSFER_ENCODING",
    "HTTP_UPGRADE",
    "HTTP_X_REQUEST_ID",
}


def is_said(name):
    is_field = name.startswith("HTTP_") or name == "CONTENT_TYPE"
    return is_field and name not in OF_THE_WAY and not name.startswith("HTTP_X_FORWARDED_")


def target_of(environ):
    """The target in origin form, in which a proxy sends on the absolute one."""
    target = re.sub("^https?://[^/?]*", "", environ["REQUEST_URI"], flags=re.IGNORECASE)
    return target if target.startswith(("/", "*")) else "/" + target


def body_of(environ):
    """The body, or what was given of one that was never complete."""
    body = []
    try:
        while piece := environ["wsgi.input"].read(65536):
            body.append(piece)
    except OSError as error:
        body.append(f"cut: {type(error).__name__}".encode())
    return b"".join(body)


def application(environ, start_response):
    if environ["PATH_INFO"] == "/witness":
        answer = json.dumps(seen).encode()
        seen.clear()
    else:
        request = {name: environ[name] for name in ("SERVER_PROTOCOL", "REQUEST_METHOD", "PATH_INFO", "QUERY_STRING")}
        if environ["SERVER_PROTOCOL"] != "HTTP/1.0":  # a proxy adds it
            request["host"] = environ["HTTP_HOST"]
        request["target"] = target_of(environ)
        request["fields"] = {name: value for name, value in environ.items() if is_said(name)}
        request["body"] = body_of(environ).decode("latin-1")
        seen.append(request)
        answer = b"seen"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
