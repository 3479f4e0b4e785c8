"""The application of api.py: makes one call of `uwsgi` many times and answers its CPU time in microseconds. A new call to be
measured is one more line in CALLS.
"""
import json
import time

KEYS = [b"key%d" % n for n in range(1000)]
VALUE = b"v" * 100

CALLS = {
    "cache_update": lambda uwsgi, n: uwsgi.cache_update(KEYS[n % 1000], VALUE),
    "cache_update with expiry": lambda uwsgi, n: uwsgi.cache_update(KEYS[n % 1000], VALUE, 100),
    "cache_get": lambda uwsgi, n: uwsgi.cache_get(KEYS[n % 1000]),
    "cache_get of nothing": lambda uwsgi, n: uwsgi.cache_get(b"none"),
    "cache_inc": lambda uwsgi, n: uwsgi.cache_inc(b"counter"),
    "metric_inc": lambda uwsgi, n: uwsgi.metric_inc("bench.hits"),
    "metric_get": lambda uwsgi, n: uwsgi.metric_get("bench.hits"),
    "rpc, local": lambda uwsgi, n: uwsgi.rpc(None, b"echo", VALUE),
}


def echo(value):
    return value


def measured(name, times):
    import uwsgi

    uwsgi.register_rpc("echo", echo)
    call = CALLS[name]
    begun = time.thread_time()
    for n in range(times):
        call(uwsgi, n)
    return (time.thread_time() - begun) * 1e6 / times


def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    body = json.dumps(measured(name, int(environ["QUERY_STRING"]))) if name else "Hello, world!\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
