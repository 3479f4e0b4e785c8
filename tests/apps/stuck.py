"""Every way in which a request can be stuck, beside requests that only wait for a moment. Each says which worker it met
before it gets stuck.
"""
import ctypes
import json
import time

import appliance
import greenlet
import uwsgi

kept = []  # suspended requests that nobody will resume


def suspended():
    kept.append(greenlet.getcurrent())
    uwsgi.suspend()


def spinning():
    while True:
        pass


def sleeping():
    time.sleep(60)


def holding():
    # PyDLL calls C without giving up the interpreter's lock; a mutex that one locks twice is waited for whatever signals come.
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)


STUCK = {"/suspended": suspended, "/spinning": spinning, "/sleeping": sleeping, "/holding": holding}


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path in STUCK:
        print("stuck in worker", uwsgi.worker_id(), flush=True)
        STUCK[path]()
    elif path == "/wait":
        appliance.sleep(0.3)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"worker": uwsgi.worker_id()}).encode()]
