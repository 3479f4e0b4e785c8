"""CPU time of process trees, from /proc. Used by measure.py, beside.py and idle.py; never starts or ends a process.

utime and stime of /proc/PID/stat cover all threads of a process, ended ones too. The kernel derives them from its exact
run time, so that their sum is right to one tick (10 ms); how it divides into user and system is an estimate.
"""
import os
from dataclasses import dataclass

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """CPU seconds of some processes, and which processes these were."""

    pids: frozenset
    user: float
    system: float


def stat_fields(pid):
    """The fields of /proc/PID/stat from the third (state) on; None if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            # The second field is the name in parentheses, which may hold spaces and parentheses itself.
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(roots):
    """{pid: stat fields} of the processes `roots` and all that descend from them."""
    processes = {int(name): stat_fields(name) for name in os.listdir("/proc") if name.isdigit()}
    members = {pid: processes[pid] for pid in roots if processes.get(pid)}
    grown = True
    while grown:
        new = {pid: fields for pid, fields in processes.items() if fields and pid not in members and int(fields[1]) in members}
        members |= new
        grown = bool(new)
    return members


def usage(roots):
    """What the trees below `roots` have used since they began."""
    members = tree(roots)
    user = sum(int(fields[11]) for fields in members.values()) * TICK_SECONDS
    system = sum(int(fields[12]) for fields in members.values()) * TICK_SECONDS
    return Usage(frozenset(members), user, system)
