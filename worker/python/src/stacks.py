"""Where every greenlet, asyncio task and thread of this process is. Runs on a thread of its own, with the interpreter's lock."""
import asyncio
import gc
import sys
import threading
import traceback

try:
    from greenlet import greenlet
except ImportError:
    greenlet = None


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
    for one in gc.get_objects():
        # The hub and the greenlet that runs have no frame of their own: they are on a thread's stack.
        if isinstance(one, greenlet) and not one.dead and one.gr_frame is not None and one.parent is not None:
            yield dict(what="greenlet", marks=_family(one), state=_place(one.gr_frame), stack=_text(one.gr_frame))


def _tasks():
    # A loop made before the fork is frozen, and what is frozen is not among these objects; but its tasks know it.
    loops, tasks = set(), set()
    for one in gc.get_objects():
        if isinstance(one, asyncio.AbstractEventLoop):
            loops.add(one)
        elif isinstance(one, asyncio.Task):
            loops.add(one.get_loop())
    for loop in loops:
        tasks |= asyncio.all_tasks(loop)
    for task in tasks:
        waits_for = getattr(task, "_fut_waiter", None)
        yield dict(what=f"task {task.get_name()}", marks=[],
                   state="ready to run" if waits_for is None else f"waits for {waits_for!r}",
                   stack="\n".join(_line(frame) for frame in task.get_stack()))


def _line(frame):
    return "".join(traceback.format_list(traceback.extract_stack(frame, limit=1))).rstrip()


def _threads():
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    frames = sys._current_frames()
    if main not in frames:
        # The loop is no Python code, so its thread has a frame only while it runs some.
        yield dict(what="thread of the loop", marks=[main], state="runs no Python code", stack="")
    for ident, frame in frames.items():
        if ident == threading.get_ident():
            continue
        what = "thread of the loop" if ident == main else f"thread {names.get(ident, ident)}"
        yield dict(what=what, marks=[ident], state=f"is in {frame.f_code.co_name}", stack=_text(frame))


def collect():
    return [*_threads(), *_greenlets(), *_tasks()]
