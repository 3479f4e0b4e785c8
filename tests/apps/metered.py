"""Writes each request into the file $LEDGER as soon as it is entered: method, id, process. Then answers with what it got:
version, method, id and body. `/quick/ID` answers at once, `/slow/ID` after it has given the loop back for a moment.
"""
import os

import appliance

# What a reload of good code changes.
VERSION = 1


def enter(method, name):
    # One write in append mode is never mixed with another process's.
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(ledger, f"{method} {name} {os.getpid()}\n".encode())
    os.close(ledger)


def application(environ, start_response):
    _, pace, name = environ["PATH_INFO"].split("/")
    method = environ["REQUEST_METHOD"]
    enter(method, name)
    body = environ["wsgi.input"].read()
    if pace == "slow":
        appliance.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Version", str(VERSION))])
    return [f"{method} {name} ".encode() + body]
