"""The functions of the engine that the modules beside this one are made of.

They are the server's own where that runs (its module `_appliance`, written in Rust), and elsewhere those of `_outside`, which
work on this process alone. Both have the same names; the types are declared there, and a type checker has to be told of each of
its parts.
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from appliance._outside import *
    from appliance._outside_cache import *
    from appliance._outside_locks import *
    from appliance._outside_metrics import *
    from appliance._outside_signals import *
    from appliance._outside_websocket import *
else:
    try:
        from _appliance import *
    except ModuleNotFoundError:
        from appliance._outside import *
