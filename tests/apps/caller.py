"""Evaluates the Python expression in the body of a POST, and answers the `repr` of what came of it, or of its exception.
Runs under this server and under a real uWSGI; both have the same procedures."""

import os
import time

import uwsgi


def hello(*args):
    return b"hello " + b",".join(args)


def worker():
    return str(uwsgi.worker_id()).encode()


def pid():
    return str(os.getpid()).encode()


def big(length):
    return b"x" * int(length)


def boom():
    raise ValueError("boom")


def number():
    return 42


def slow(seconds):
    time.sleep(float(seconds))
    return b"slow"


def napping(seconds):
    import appliance

    appliance.sleep(float(seconds))
    return b"awake"


for function in (hello, worker, pid, big, boom, number, slow, napping):
    uwsgi.register_rpc(function.__name__, function)


def application(environ, start_response):
    answer = ""
    if environ["REQUEST_METHOD"] == "POST":
        expression = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
        try:
            answer = repr(eval(expression))
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
    body = answer.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
