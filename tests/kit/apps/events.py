"""Everything in uwsgidecorators: who ran, how often, and where.

State is kept in the uwsgi cache "ev" (shared by all processes), one counter
per hook name plus "<name>.who", the last process that ran it.
Routes:  /state  /fire?n=17  /mulefunc?x=..  /spool?x=..  /mulemsg?m=..
         /touch  /lock?t=..  /thread  /harakiri?t=..
"""
import json
import os
import threading
import time
from urllib.parse import parse_qsl

import uwsgi
import uwsgidecorators
from uwsgidecorators import (cron, filemon, harakiri, lock, postfork, rbtimer,
                             rpc, signal, thread, timer)

# Mules and spoolers are uWSGI's alone.
HAS_MULES = hasattr(uwsgidecorators, "mulefunc")

WATCH = os.environ.get("KIT_WATCH", "/tmp/kit_watch")
open(WATCH, "a").close()


def who():
    if uwsgi.mule_id():
        return "mule%d" % uwsgi.mule_id()
    if uwsgi.i_am_the_spooler():
        return "spooler"
    return "worker%d" % uwsgi.worker_id()


def note(name, extra=""):
    uwsgi.cache_inc(name, 1, 0, "ev")
    uwsgi.cache_update(name + ".who", "%s %d %s %s" % (
        who(), os.getpid(), threading.current_thread().name, extra), 0, "ev")


@postfork
def after_fork():
    note("postfork.%s" % who())


@postfork(1)
def only_first():
    note("postfork1.%s" % who())


@timer(1)
def tick(num):
    note("timer", str(num))


@timer(1, target="workers")
def tick_all(num):
    note("timer.workers", str(num))


@rbtimer(1)
def rbtick(num):
    note("rbtimer", str(num))


@cron(-1, -1, -1, -1, -1)
def every_minute(num):
    note("cron", str(num))


@signal(17)
def on17(num):
    note("signal17", str(num))


@signal(18, target="workers")
def on18(num):
    note("signal18." + who(), str(num))


@signal(20, target="worker1")
def on20(num):
    note("signal20", str(num))


@filemon(WATCH, target="mule1" if HAS_MULES else "workers")
def changed(num):
    note("filemon", str(num))


if HAS_MULES:
    from uwsgidecorators import mule, mulefunc, spool, spoolraw

    @timer(1, target="mule1")
    def tick_mule(num):
        note("timer.mule1", str(num))

    @timer(1, target="spooler")
    def tick_spooler(num):
        note("timer.spooler", str(num))

    @signal(19, target="mule1")
    def on19(num):
        note("signal19", str(num))

    @mulefunc(1)              # without a number: the queue shared by all mules
    def offload(x):
        note("mulefunc", repr(x))

    @mule(2)
    def brain():
        note("mule2.brain")
        while True:
            msg = uwsgi.mule_get_msg()
            note("mule2.msg", repr(msg))

    @spool
    def job(args):
        note("spool", repr(sorted(args.items())))
        return uwsgi.SPOOL_OK

    @spool(pass_arguments=True)
    def job2(*args, **kw):
        note("spool2", repr((args, kw)))

    @spoolraw
    def jobraw(args):
        n = uwsgi.cache_num("spoolraw", "ev")
        note("spoolraw", repr(sorted(args.items())))
        return uwsgi.SPOOL_RETRY if n < 1 else uwsgi.SPOOL_OK


@lock
def locked(t):
    a = time.time()
    time.sleep(t)
    return [os.getpid(), a, time.time()]


@thread
def in_thread(tag):
    time.sleep(0.2)
    note("thread", tag)


@harakiri(1)
def limited(t):
    time.sleep(t)
    return "survived"


@rpc("ev.who")
def rpc_who():
    return who().encode()


def application(env, start_response):
    q = dict(parse_qsl(env.get("QUERY_STRING", "")))
    p = env["PATH_INFO"]
    out = None
    try:
        if p == "/state":
            out = {}
            for k in uwsgi.cache_keys("ev"):
                k = k.decode()
                out[k] = (uwsgi.cache_get(k, "ev").decode() if k.endswith(".who")
                          else uwsgi.cache_num(k, "ev"))
        elif p == "/fire":
            out = uwsgi.signal(int(q["n"]))
        elif p == "/mulefunc":
            out = offload(q["x"])
        elif p == "/mulemsg":
            out = uwsgi.mule_msg(q["m"], 2)
        elif p == "/mulemsg_any":
            out = uwsgi.mule_msg(q["m"])
        elif p == "/spool":
            out = job.spool(a=q["x"], b="2").decode()
        elif p == "/spool2":
            out = job2(1, q["x"], k=[1, 2]).decode()
        elif p == "/spoolraw":
            out = jobraw.spool(x=q["x"], body=b"the body").decode()
        elif p == "/spool_at":
            out = uwsgi.spool({b"ud_spool_func": b"job", b"ud_spool_ret": b"-2",
                               b"x": b"late", b"at": str(int(time.time()) + 2).encode()}).decode()
        elif p == "/touch":
            with open(WATCH, "a") as f:
                f.write("x")
        elif p == "/lock":
            out = locked(float(q["t"]))
        elif p == "/thread":
            in_thread("T")
        elif p == "/harakiri":
            out = limited(float(q["t"]))
        elif p == "/misc":
            out = {"pid": os.getpid(), "wid": uwsgi.worker_id(),
                   "masterpid": uwsgi.masterpid(),
                   "registered": [n for n in range(256) if uwsgi.signal_registered(n)]}
    except Exception as exc:
        out = {"error": repr(exc)}
    body = json.dumps(out).encode()
    start_response("200 OK", [("Content-Type", "application/json"),
                              ("Content-Length", str(len(body)))])
    return [body]
