"""The conversation of ASGI's lifespan with one application, in one worker.

The loop does not serve while it starts and ends, so it is run here. In between the application's coroutine waits in its
receive(), as a task of the loop that serves.
"""
import asyncio
import traceback

import _appliance

EVENTS = {"startup": ("lifespan.startup.complete", "lifespan.startup.failed"),
          "shutdown": ("lifespan.shutdown.complete", "lifespan.shutdown.failed")}


class Lifespan:
    def __init__(self, app, loop):
        self.state = {}
        self._app, self._loop = app, loop
        self._events, self._about, self._said, self._task = asyncio.Queue(), None, None, None

    async def _run(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        await self._app(scope, self._events.get, self._send)

    async def _send(self, message):
        if self._about == "startup" and self._said.done() and message["type"] in EVENTS["shutdown"]:
            # It ends before it was told to: what it raises says why.
            return
        if self._said.done() or message["type"] not in EVENTS[self._about]:
            raise RuntimeError(f"send(): nobody has asked for the message {message['type']!r}")
        self._said.set_result(message)

    async def _ask(self, about):
        """What the application says to an event; None if it came to its end without a word."""
        self._about, self._said = about, self._loop.create_future()
        self._events.put_nowait({"type": f"lifespan.{about}"})
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="lifespan")
        await asyncio.wait([self._task, self._said], return_when=asyncio.FIRST_COMPLETED)
        return self._said.result() if self._said.done() else None

    def _reason(self, message):
        return message.get("message") or self._raised() or "it did not say why"

    def _raised(self):
        """How the application's coroutine ended, if that was by an exception."""
        if not self._task.done() or self._task.cancelled() or self._task.exception() is None:
            return ""
        return "".join(traceback.format_exception(self._task.exception())).rstrip()

    def start(self):
        """Why the worker must not serve, and why there is no lifespan; None where that is not so."""
        message = self._loop.run_until_complete(self._ask("startup"))
        if message is None:
            raised = self._raised()
            return None, raised.rsplit("\n", 1)[-1] or "it returned at once"
        if message["type"] == "lifespan.startup.complete":
            self._task.add_done_callback(self._on_end)
            return None, None
        # The application may raise what it has just reported.
        self._loop.run_until_complete(asyncio.wait([self._task], timeout=1))
        return self._reason(message), None

    def _on_end(self, _task):
        reason = self._raised()
        if self._about == "startup" and reason:
            _appliance.log_lifespan_end(reason)

    def end(self):
        """Why the application did not end in order; None if it did."""
        if self._task.done():
            return None
        message = self._loop.run_until_complete(self._ask("shutdown"))
        if message is None:
            return self._raised() or None
        return None if message["type"] == "lifespan.shutdown.complete" else self._reason(message)
