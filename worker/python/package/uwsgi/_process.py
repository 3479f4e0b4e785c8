"""The calls about processes, and the attributes of the module. There is no master, no worker, no mule and no spooler here."""

import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from uwsgi._values import Data

__all__ = [
    "SPOOL_IGNORE", "SPOOL_OK", "SPOOL_RETRY", "accepting", "alarm", "applications", "buffer_size", "cores", "embedded_data",
    "extract", "farm_get_msg", "farm_msg", "has_threads", "hostname", "i_am_the_lord", "i_am_the_spooler", "in_farm", "is_a_reload", "listen_queue", "log",
    "logsize", "loop", "masterpid", "mem", "micros", "mule_get_msg", "mule_id", "mule_msg", "mypid", "numproc", "opt",
    "parsefile", "post_fork_hook", "ready", "reload", "set_warning_message", "setprocname", "started_on", "stop", "total_requests",
    "version", "version_info", "worker_id", "workers", "_guard",
]  # fmt: skip

version = b"2.0.31"
version_info = (2, 0, 31, 0, "")
numproc = 1
cores = 1
buffer_size = 65536
hostname = socket.gethostname().encode()
started_on = int(time.time())
is_a_reload = False
loop = b"appliance"
has_threads = True
applications: dict[str, Any] = {}
opt: dict[str, bytes | bool] = {}
post_fork_hook: Callable[[], object] | None = None
SPOOL_OK, SPOOL_RETRY, SPOOL_IGNORE = -2, -1, 0


def worker_id() -> int:
    """Number of this worker, from 1; 0: this is none."""
    return 0


def mypid() -> int:
    """Process id of this process."""
    return os.getpid()


def masterpid() -> int:
    """Process id of the master; 0: there is none."""
    return 0


def log(text: str, /) -> bool:
    """A line in the log; here on standard error."""
    print(text, file=sys.stderr)
    return True


def reload() -> bool:
    """Asks the master for a reload."""
    raise RuntimeError("there is no master process")


def stop() -> bool:
    """Asks the master to stop everything."""
    raise RuntimeError("there is no master process")


def total_requests() -> int:
    """Requests of all workers."""
    return 0


def mem() -> tuple[int, int]:
    """Resident and virtual memory of this process in bytes."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return resident, resident


def micros() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def workers() -> tuple[dict[str, Any], ...]:
    """One dict for each worker."""
    return ()


def listen_queue(socket: int = 0, /) -> int:
    """Requests that wait for a core."""
    if socket != 0:
        raise ValueError(f"there is no socket {socket}: the queue of requests is number 0")
    return 0


def ready() -> bool | None:
    """Whether this worker serves; None if not."""
    return None


def accepting(flag: int = 1, /) -> None:
    """Workers accept always."""
    if flag == 0:
        raise ValueError("uwsgi.accepting(0): a worker cannot stop to accept by itself")


def logsize() -> int:
    """Bytes in the log file: there is none."""
    return 0


def alarm(alarm: str, text: str, /) -> None:
    """A line in the log, as an error."""
    log(f"{alarm}: {text}")


def set_warning_message(text: str, /) -> bool:
    """A line in the log, as a warning."""
    return log(text)


def extract(path: str, /) -> bytes | None:
    """The contents of a file; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def setprocname(name: str, /) -> None:
    """Names this process; here it keeps its name."""


def embedded_data(name: str, /) -> NoReturn:
    """Data that is embedded in the server: there is none."""
    raise ValueError(f"no data named {name} is embedded in this server")


def mule_id() -> int:
    """Number of this mule; 0: this is none."""
    return 0


def i_am_the_spooler() -> None:
    """None: this is no spooler."""


def in_farm(farm: str | None = None, /) -> None:
    """None: this is no mule."""


def i_am_the_lord(legion: str, /) -> bool:
    """False: there are no legions."""
    return False


def mule_msg(*message: Any, **more: Any) -> NoReturn:
    """There is nobody to send it to."""
    raise ValueError("no mule configured: there are none here")


def mule_get_msg(*options: Any, **more: Any) -> NoReturn:
    """There is nobody to get it from."""
    raise ValueError("no mule configured: there are none here")


def farm_msg(farm: str, message: Data, /) -> NoReturn:
    """There is nobody to send it to."""
    raise ValueError(f"no farm {farm} is configured: there are none here")


def farm_get_msg() -> NoReturn:
    """There is nobody to get it from."""
    raise ValueError("you can receive farm messages only in a mule, and there are none here")


def parsefile(path: str, /) -> dict[bytes, bytes] | None:
    """What a file in the format of uWSGI's spooler says; None if it cannot be read, or is no such file."""
    data = extract(path) or b""
    size = int.from_bytes(data[1:3], "little")
    if len(data) < 4 + size or data[0] not in (0, 17):
        return None
    items, rest = [], data[4 : 4 + size]
    while rest:
        end = 2 + int.from_bytes(rest[:2], "little")
        if len(rest) < end:
            return None
        items.append(rest[2:end])
        rest = rest[end:]
    names = items[::2]
    return dict(zip(names, items[1::2], strict=True)) if all(names) and len(items) % 2 == 0 else None


def _guard(hook: Callable[[], object]) -> None:
    """Runs a hook; the server logs its exception."""
    hook()
