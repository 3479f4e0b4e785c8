"""Every call of `uwsgi` and of the modules of `appliance`, from eight threads at once, with arguments right and wrong. What a
call gives or raises does not matter; that the worker lives on, does. `/hammer` does it, `/signatures` is for comparison."""
import asyncio
import importlib
import inspect
import threading
import time
import types

import appliance
import uwsgi

THREADS = 8
ARGUMENTS = [(), ("x",), ("x", b"y"), (b"x", "y", 1), ("x", 1), (1,), (0, 1), (None, None), ("x", 1, 1, "z"), ({}, [])]
# Those that end something, wait for ever, or write to descriptors that the arguments happen to name.
LEFT_OUT = {"reload", "stop", "close", "recv", "send", "connect", "async_connect", "signal_wait", "log", "alarm", "lock",
            "set_warning_message", "setprocname", "mule_get_msg"}  # fmt: skip
FACES = ["cache", "locks", "metrics", "rpc", "signals", "websocket"]
PLAIN = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
IN_ORDER = [
    lambda: (uwsgi.lock(), uwsgi.unlock()),
    lambda: appliance.sleep(0),
    lambda: asyncio.run(_awaits()),
    lambda: uwsgi.connect("/nonexistent", 1),
    lambda: uwsgi.recv(9999),
]


async def _awaits():
    await appliance.on_core(uwsgi.worker_id)
    return await appliance.cache.aincr("n")


def calls():
    """Functions, classes left out: (name, function) each."""
    for name in dir(uwsgi):
        function = getattr(uwsgi, name, None)
        if callable(function) and not isinstance(function, type) and name not in LEFT_OUT and not name.startswith("_"):
            yield f"uwsgi.{name}", function
    for face in FACES:
        try:
            module = importlib.import_module(f"appliance.{face}")
        except ModuleNotFoundError:
            continue
        for name in getattr(module, "__all__", ()):
            function = getattr(module, name)
            is_awaited = inspect.iscoroutinefunction(function) or name == "acall"
            if isinstance(function, PLAIN) and not is_awaited:
                yield f"{face}.{name}", function


def attempt(function, *arguments):
    try:
        function(*arguments)
    except Exception:
        return 0
    return 1


def strike(counts, seconds):
    made, deadline = 0, time.monotonic() + seconds
    while not made or time.monotonic() < deadline:
        for _, function in calls():
            made += sum(attempt(function, *arguments) for arguments in ARGUMENTS)
        made += sum(map(attempt, IN_ORDER))
    counts.append(made)


def hammer():
    counts = []
    threads = [threading.Thread(target=strike, args=(counts, 1.0)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        appliance.sleep(0.01)
    return len(counts), min(counts) > 0


def signatures():
    """{name: (arguments that are needed, those that are possible)} of each function of `uwsgi`; -1 for any number."""
    found = {}
    for name in dir(uwsgi):
        function = getattr(uwsgi, name, None)
        if not callable(function) or isinstance(function, type) or name.startswith("_"):
            continue
        kinds = [(one.kind, one.default) for one in inspect.signature(function).parameters.values()]
        is_open = any(kind is inspect.Parameter.VAR_POSITIONAL for kind, _ in kinds)
        needed = sum(default is inspect.Parameter.empty for _, default in kinds)
        found[name] = (-1, -1) if is_open else (needed, len(kinds))
    return found


def application(environ, start_response):
    body = repr({"/hammer": hammer, "/signatures": signatures, "/": uwsgi.mypid}[environ["PATH_INFO"]]()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
