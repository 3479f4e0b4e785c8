"""Counts, and says what has been counted: in views, in threads, and through uWSGI's calls."""
import json
import threading
from urllib.parse import parse_qsl

import appliance.metrics
import uwsgi

orders = appliance.metrics.counter("shop_orders_total", 'Orders that were "paid".\nNot those \\ others.', labels=["kind"])
depth = appliance.metrics.gauge("shop_depth", "How deep it is.")
took = appliance.metrics.histogram("shop_seconds", "How long it takes.", buckets=(0.1, 1, float("inf")))


@took.time()
def count(kind, amount):
    orders.labels(kind=kind).inc(amount)


def count_in_threads(threads, times):
    def run():
        for _ in range(times):
            depth.inc()
            uwsgi.metric_inc("kit.hits")

    started = [threading.Thread(target=run) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def wrong(call):
    try:
        call()
    except ValueError as error:
        return str(error)


def mistakes():
    return [
        wrong(lambda: appliance.metrics.gauge("shop_orders_total")),
        wrong(lambda: appliance.metrics.counter("worker.1.requests")),
        wrong(lambda: appliance.metrics.histogram("shop_seconds", buckets=(1, 2))),
        wrong(lambda: orders.inc()),
        wrong(lambda: orders.labels("a", "b")),
        wrong(lambda: orders.labels(kind="a").inc(-1)),
    ]


def application(environ, start_response):
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    path, status, answer = environ["PATH_INFO"], query.get("status", "200"), None
    if path == "/count":
        count(query["kind"], float(query.get("amount", 1)))
    elif path == "/call":
        answer = getattr(uwsgi, query["name"])(*json.loads(query["arguments"]))
    elif path == "/threads":
        count_in_threads(4, int(query["times"]))
        answer = depth.value
    elif path == "/mistakes":
        answer = mistakes()
    elif path == "/bounds":
        depth.set(5)
        depth.set_max(3)
        depth.set_max(8)
        depth.set_min(9)
        with depth.track_inprogress():
            answer = depth.value
        depth.dec(0.5)
        answer = [answer, depth.value]
    elif path == "/fail":
        raise RuntimeError("as it was told")
    start_response(f"{status} Whatever", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
