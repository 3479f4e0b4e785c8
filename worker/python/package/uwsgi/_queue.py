"""The queue of this process: as many slots as a short test needs."""

import threading

from uwsgi._values import Data, as_bytes

__all__ = ["queue_get", "queue_last", "queue_pop", "queue_pull", "queue_pull_slot", "queue_push", "queue_set", "queue_slot"]

SLOTS, SLOT_SIZE = 100, 8192

_mutex = threading.Lock()
_slots: list[bytes | None] = [None] * SLOTS
_first = _count = 0


def _take(slot: int) -> bytes | None:
    message, _slots[slot] = _slots[slot], None
    return message


def queue_push(message: Data, /) -> bool | None:
    """Adds a message; None: it is empty, or too long for a slot."""
    global _first, _count
    data = as_bytes(message)
    if not 1 <= len(data) <= SLOT_SIZE:
        return None
    with _mutex:
        if _count == SLOTS:
            _first, _count = (_first + 1) % SLOTS, _count - 1
        _slots[(_first + _count) % SLOTS] = data
        _count += 1
    return True


def queue_pop() -> bytes | None:
    """Takes the newest message."""
    global _count
    with _mutex:
        if not _count:
            return None
        _count -= 1
        return _take((_first + _count) % SLOTS)


def queue_pull() -> bytes | None:
    """Takes the oldest message."""
    global _first, _count
    with _mutex:
        if not _count:
            return None
        slot, _first, _count = _first, (_first + 1) % SLOTS, _count - 1
        return _take(slot)


def queue_get(index: int, /) -> bytes | None:
    """What stands in a slot."""
    return _slots[index] if 0 <= index < SLOTS else None


def queue_set(index: int, message: Data, /) -> bool | None:
    """Writes a slot; None: there is no such slot, or the message is empty or too long."""
    data = as_bytes(message)
    if not 0 <= index < SLOTS or not 1 <= len(data) <= SLOT_SIZE:
        return None
    _slots[index] = data
    return True


def queue_last(num: int = 0, /) -> bytes | None | list[bytes | None]:
    """The newest message, or a list of so many, the newest first. They stay where they are."""
    with _mutex:
        wanted = range(1, min(max(num, 1), SLOTS) + 1)
        messages = [_slots[(_first + _count - age) % SLOTS] if age <= _count else None for age in wanted]
    return messages if num > 0 else messages[0]


def queue_slot() -> int:
    """The slot that the next push writes."""
    return (_first + _count) % SLOTS


def queue_pull_slot() -> int:
    """The slot that the next pull takes."""
    return _first
