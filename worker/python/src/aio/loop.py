"""The asyncio event loop of a worker: asyncio's own SelectorEventLoop on the engine's reactor.

The engine drives it: nobody calls run_forever() here. Transports, TLS, subprocesses, executors and signal handlers are
asyncio's. Made in the template before the application is imported, so that a loop obtained at import time is this one;
adopt() then moves it into a worker after the fork.
"""
import asyncio
import concurrent.futures
import contextvars
import inspect
import selectors
import sys
import threading
from asyncio import base_events, events

import _appliance

# What still runs when a worker ends has so many seconds to come to its end: a supervisor waits for the worker.
PATIENCE = 3


class ReactorSelector(selectors._BaseSelectorImpl):
    """Keeps the books of descriptors; waits in the template with a selector of its own, in a worker with the reactor."""

    def __init__(self):
        super().__init__()
        self._template = selectors.DefaultSelector()

    def adopt(self):
        """Moves every descriptor over to the reactor of this process."""
        template, self._template = self._template, None
        for key in list(self._fd_to_key.values()):
            _appliance.watch(key.fd, key.events)
        # Its epoll instance is shared with the template: closing our descriptor is all that may be done to it.
        template.close()

    def register(self, fileobj, events, data=None):
        key = super().register(fileobj, events, data)
        try:
            if self._template is not None:
                self._template.register(key.fd, events, data)
            else:
                _appliance.watch(key.fd, events)
        except BaseException:
            super().unregister(fileobj)
            raise
        return key

    def unregister(self, fileobj):
        key = super().unregister(fileobj)
        if self._template is not None:
            self._template.unregister(key.fd)
        else:
            _appliance.unwatch(key.fd)
        return key

    def modify(self, fileobj, events, data=None):
        key = self._fd_to_key[self._fileobj_lookup(fileobj)]
        if events != key.events:
            if self._template is not None:
                self._template.modify(key.fd, events, data)
            else:
                _appliance.change(key.fd, events)
        key = key._replace(events=events, data=data)
        self._fd_to_key[key.fd] = key
        return key

    def select(self, timeout=None):
        """Used by asyncio's own _run_once(): in the template, and in @postfork hooks that run the loop themselves."""
        if self._template is not None:
            ready = [(key.fd, mask) for key, mask in self._template.select(timeout)]
        else:
            ready = _appliance.select(timeout)
        keys = self._fd_to_key
        return [(keys[fd], mask & keys[fd].events) for fd, mask in ready if fd in keys]

    def close(self):
        if self._template is not None:
            self._template.close()
        super().close()


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, driven by the engine once it serves."""

    def __init__(self):
        super().__init__(ReactorSelector())
        self._serves = False
        #: A task of ours.
        self.main = None

    def adopt(self):
        """After the fork: nothing of the template's kernel state may be shared any more."""
        self._selector.unregister(self._ssock)
        self._internal_fds -= 1
        self._ssock.close()
        self._csock.close()
        # Threads do not survive a fork: an executor that was used at import time would never run anything again.
        self._default_executor = None
        self._selector.adopt()
        self._make_self_pipe()
        asyncio.set_event_loop(self)

    def serve(self):
        """From here on this loop counts as running on this thread, as run_forever() would have it."""
        self._serves = True
        self._thread_id = threading.get_ident()
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
        self._begin_main()

    def _begin_main(self):
        # AnyIO looks for the task that run_until_complete() was given, and keeps its threads (for views of Starlette's and
        # FastAPI's that are no coroutines) as long as that. Without one each call would have a thread of its own. A task
        # factory of the application's has no part in it.
        if self._serves:
            self.main = _Main(self._be_main(), loop=self, name="appliance")
            self.main.add_done_callback(base_events._run_until_complete_cb)

    async def _be_main(self):
        await self.create_future()

    def rest(self):
        """The last request has ended: the loop may be run again, for what is to be done at the end."""
        self._serves = False
        self._thread_id = None
        events._set_running_loop(None)

    def wind_up(self):
        """Ends what the application has left running, as asyncio.run() would: tasks are cancelled, asynchronous generators
        closed, and the threads of the executor finish what they have. The names of tasks that go on all the same."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        if tasks:
            self.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE))
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                self.call_exception_handler({"message": "exception in a task that was cancelled at the end of the worker",
                                             "exception": task.exception(), "task": task})
        self.run_until_complete(asyncio.wait([self.create_task(self.shutdown_asyncgens())], timeout=PATIENCE))
        if self._default_executor is not None:
            # In a thread of its own, since the wait for one that blocks has to end.
            ending = threading.Thread(target=self._default_executor.shutdown, daemon=True)
            ending.start()
            ending.join(PATIENCE)
        return [task.get_name() for task in tasks if not task.done()]

    async def _make_subprocess_transport(self, *args, **kwargs):
        """asyncio asks the policy who watches over children. One for other loops may have nobody, as uvloop's, which an
        application has installed for uvicorn."""
        if hasattr(asyncio, "ThreadedChildWatcher"):
            policy = asyncio.get_event_loop_policy()
            found = getattr(policy.get_child_watcher, "__func__", None)
            if found is asyncio.AbstractEventLoopPolicy.get_child_watcher:
                watcher = asyncio.ThreadedChildWatcher()
                policy.get_child_watcher = lambda: watcher
        return await super()._make_subprocess_transport(*args, **kwargs)

    def submit(self, awaitable):
        """A concurrent future for anything that can be awaited; for other threads than the loop's."""
        if isinstance(awaitable, concurrent.futures.Future):
            return awaitable
        if not inspect.isawaitable(awaitable):
            raise TypeError(f"a coroutine or a future is needed, not {type(awaitable).__name__}")
        return _Submitted(asyncio.run_coroutine_threadsafe(_result_of(awaitable), self))

    def stop(self):
        """Ends run_until_complete() at import time and in @postfork hooks; later there is nothing to end."""
        if not self._serves:
            return super().stop()
        raise RuntimeError("this loop serves requests and is not the application's to stop; "
                           "to end the worker use uwsgi.reload() or stop the appliance")


class _Main(asyncio.Task):
    """Runs as long as the loop. An application that cancels all tasks may wait for their end: then another one begins."""

    def cancel(self, msg=None):
        # Its end must not end whatever the loop runs then. It may come before the first step.
        if self.remove_done_callback(base_events._run_until_complete_cb):
            loop = self.get_loop()
            loop.call_soon(loop._begin_main, context=contextvars.Context())
        return super().cancel(msg)


async def _result_of(awaitable):
    return await awaitable


class _Submitted:
    """A concurrent future that raises what `await` would raise when the awaitable was cancelled."""

    def __init__(self, future):
        self._future = future
        self.done, self.cancel = future.done, future.cancel
        self.add_done_callback = future.add_done_callback

    def result(self):
        try:
            return self._future.result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError from None


def make():
    """The loop of this process, made current for the thread that will serve."""
    loop = Loop()
    asyncio.set_event_loop(loop)
    return loop
