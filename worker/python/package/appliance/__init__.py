"""What an application can do here that it could not do elsewhere.

Waiting without blocking: sleep(seconds), wait(awaitable, timeout=None), ClientDisconnected and RequestTimeout. What a client
may know before the answer: early_hints(headers). Blocking-style calls in coroutines: on_core(function, *args). Each subsystem is a module of its own, imported when it is first asked for.
Outside of the server everything works on the process itself, so that tests, shells and `manage.py` can import it too.
"""

from appliance._awaitable import on_core
from appliance._engine import (
    ClientDisconnected,
    RequestTimeout,
    early_hints,
    sleep,
    wait,
)
from appliance._engine import version as __version__

TYPE_CHECKING = False

__all__ = ["ClientDisconnected", "RequestTimeout", "__version__", "early_hints", "on_core", "sleep", "wait"]

if TYPE_CHECKING:
    from appliance.locks import lock as lock
    from appliance.signals import cron as cron
    from appliance.signals import every as every
else:
    # What has a module of its own and is known by a name here.
    _SHORT = {"lock": "locks", "cron": "signals", "every": "signals"}

    # A type checker wants to see `import appliance.cache`, and then tells a wrong name.
    def __getattr__(name):
        """A subsystem that nobody has imported yet, such as `appliance.cache`."""
        import importlib

        if name in _SHORT:
            return getattr(importlib.import_module(f"{__name__}.{_SHORT[name]}"), name)
        path = f"{__name__}.{name}"
        try:
            if not name.startswith("_"):
                return importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name != path:
                raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
