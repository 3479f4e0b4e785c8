"""Procedures: functions that other workers, other appliances and uWSGI servers may call.

    from appliance import rpc

    @rpc.procedure
    def greet(name: bytes) -> str:
        return f"hello {name.decode()}"

    rpc.call("greet", "you")                            # in this worker
    rpc.call("greet", "you", node="worker:2")           # in another one
    rpc.call("greet", "you", node="10.0.0.2:3031")      # in another server, also: node="/run/other.sock"
    await rpc.acall("greet", "you", node="10.0.0.2:3031")

Arguments arrive as bytes, whatever they were; a procedure gives bytes or text. One that is registered while the application
is imported is there in every worker, one that is registered later only in that worker. Others can call them where `[rpc]`
listens.
"""

from collections.abc import Callable
from typing import TypeVar, overload

from appliance._awaitable import awaitable
from appliance._engine import RpcError, register_rpc, rpc_call, rpc_list

__all__ = ["RpcError", "acall", "call", "names", "procedure"]

F = TypeVar("F", bound=Callable[..., bytes | str])


@overload
def procedure(function: F, /) -> F: ...
@overload
def procedure(function: str | None = None, /) -> Callable[[F], F]: ...
def procedure(function: F | str | None = None, /) -> F | Callable[[F], F]:
    """Registers a function under its own name, `@procedure`, or under another, `@procedure("name")`."""

    def register(function: F) -> F:
        register_rpc(name or function.__name__, function)
        return function

    name = function if isinstance(function, str) else None
    return register(function) if callable(function) else register


def call(name: str, *args: bytes | str, node: str | None = None) -> bytes:
    """Calls a procedure and gives its result. What it raises is raised, if it is this worker's own; `RpcError` says why there
    is no result otherwise. Only whoever calls waits, and not longer than `timeouts.remote`."""
    return rpc_call(node or "", name, args)


acall = awaitable(call)


def names() -> list[str]:
    """The names of this worker's procedures."""
    return [name.decode() for name in rpc_list()]
