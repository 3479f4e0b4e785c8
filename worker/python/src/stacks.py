"""Where every greenlet, asyncio task and thread of this process is. Runs on a thread of its own, with the interpreter's lock.

The loop's thread goes on meanwhile, so whatever is looked at may be another moment's when it is looked at again.
"""
import asyncio
import sys
import threading
import traceback

try:
    from greenlet import greenlet
except ImportError:
    greenlet = None

# Whoever makes this module says the worker's event loop, and how to find all objects of a class.
loop_of_worker = objects_of = None


def _text(frame):
    return "".join(traceback.format_stack(frame)).rstrip()


def _place(frame):
    return f"waits in {frame.f_code.co_name}, line {frame.f_lineno} of {frame.f_code.co_filename}"


def _family(one):
    """What a request may be known by: a greenlet, or one of its parents."""
    family = []
    while one is not None:
        family.append(id(one))
        one = one.parent
    return family


def _greenlets():
    if greenlet is None:
        return
    for one in objects_of(greenlet):
        # The hub and the greenlet that runs have no frame of their own: they are on a thread's stack.
        frame = one.gr_frame
        if frame is not None and one.parent is not None:
            yield dict(what="greenlet", marks=_family(one), state=_place(frame), stack=_text(frame))


def _tasks():
    tasks = set()
    # The worker's is older than the fork, and the collector shows nothing of what was frozen before that.
    for loop in [loop_of_worker, *objects_of(asyncio.AbstractEventLoop)]:
        tasks |= asyncio.all_tasks(loop)
    for task in tasks - {loop_of_worker.main}:
        waits_for = getattr(task, "_fut_waiter", None)
        yield dict(what=f"task {task.get_name()}", marks=[id(task)],
                   state="ready to run" if waits_for is None else f"waits for {waits_for!r}",
                   stack=chain(task.get_coro()))


def chain(awaited):
    """The frames of a coroutine and of what it awaits, the innermost last, as in a traceback."""
    lines = []
    while awaited is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                lines.append(_line(frame))
                break
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "\n".join(lines)


def _line(frame):
    return "".join(traceback.format_list(traceback.extract_stack(frame, limit=1))).rstrip()


def _threads():
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    frames = sys._current_frames()
    if main not in frames:
        yield dict(what="thread of the loop", marks=[], state="waits for events, or runs no Python code", stack="")
    for ident, frame in frames.items():
        if ident == threading.get_ident():
            continue
        what = "thread of the loop" if ident == main else f"thread {names.get(ident, ident)}"
        yield dict(what=what, marks=[ident], state=f"is in {frame.f_code.co_name}", stack=_text(frame))


def collect():
    return [*_threads(), *_greenlets(), *_tasks()]
