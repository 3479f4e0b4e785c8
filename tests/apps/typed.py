"""A small application that uses every module of `appliance`, with types: it is checked strictly, and never run."""
import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import appliance
import uwsgi
import uwsgidecorators
from appliance import cache, metrics, rpc, signals, websocket
from appliance.locks import lock

orders = metrics.counter("shop_orders_total", "Orders that were paid.", labels=["kind"])
open_now = metrics.gauge("shop_open")
took = metrics.histogram("shop_seconds", buckets=[0.1, 1])
sessions = cache.named("sessions@10.0.0.2:3031")


@rpc.procedure
def greet(name: bytes) -> str:
    return f"hello {name.decode()}"


@rpc.procedure("other")
def other(name: bytes) -> bytes:
    return name


@appliance.every("30s", workers="all")
@appliance.lock("refresh")
def refresh() -> None:
    cache.clear()


@appliance.cron("*/5 8-18 * * mon-fri")
@appliance.lock("report", timeout=5)
async def report() -> int:
    return await cache.aincr("reports")


@signals.on_change("/etc/app/flags.json", workers=1)
def reread() -> None:
    signals.handler(refresh).send()


@took.time()
def page() -> bytes:
    return b"page"


async def made() -> str:
    return "made"


async def awaited() -> tuple[bytes | None, bytes, bool, int, float | None, list[bytes], dict[str, int]]:
    await sessions.aset("key", b"value", ttl=60)
    added: bool = await cache.aadd("key", "value")
    value: bytes = await cache.aget_or_set("page", made, ttl=5)
    plain: bytes = await sessions.aget_or_set("page", page)
    await asyncio.gather(cache.adelete("a"), sessions.adelete("b"), sessions.aclear())
    if await lock("a").aacquire(timeout=1):
        lock("a").release()
    async with appliance.lock("b"), lock(3, timeout=0.5):
        called: bytes = await rpc.acall("greet", "you", node="worker:2")
    number: int = await appliance.on_core(len, called + plain)
    return await sessions.aget("k"), value, added, number, await cache.attl("k"), await cache.akeys(), await cache.astats()


def talk() -> None:
    with websocket.accept(subprotocols=["chat"], headers=[("x", "y")]) as ws:
        for message in ws:
            ws.send(message)
        appliance.wait(ws.asend("to all"))
        closed: int | None = ws.close_code
        ws.close(closed or 1000, "bye")


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    with open_now.track_inprogress(), took.time(), lock("mail"):
        orders.labels(kind="book").inc()
        orders.labels("book").inc(2)
    pages = cache.named("pages")
    pages["/"] = "page"
    visits: int = cache.incr("visits", ttl=0.5)
    value: bytes | None = cache.get("k")
    page: bytes = pages.get_or_set("/", lambda: "page")
    asked = appliance.wait(awaited(), timeout=5)
    try:
        appliance.sleep(0.1)
        appliance.early_hints([("Link", "</a.css>")])
        remote: bytes = rpc.call("greet", b"you", node="/run/other.sock")
    except (appliance.ClientDisconnected, appliance.RequestTimeout):
        raise
    except (rpc.RpcError, cache.CacheError):
        remote = b""
    uwsgi.set_logvar("visits", str(visits))
    start_response("200 OK", [])
    return [page, value or b"", asked[1], remote, *rpc.names()[0].encode().split()]


@uwsgidecorators.postfork
def begin() -> None:
    refresh()
