"""Writes each request into the file $LEDGER as soon as it is entered: method, path, process. `/slow/…` then takes a moment,
everything else but `/` waits until the file $RELEASE exists.
"""
import os

import appliance


def enter(environ):
    line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {os.getpid()}\n"
    # One write in append mode is never mixed with another process's.
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(ledger, line.encode())
    os.close(ledger)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path != "/":
        enter(environ)
    if path.startswith("/slow/"):
        appliance.sleep(0.005)
    elif path != "/":
        while not os.path.exists(os.environ["RELEASE"]):
            appliance.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [path.encode()]
