"""How much memory this process takes, as the system tells it (Linux; elsewhere less is known)."""

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from physcomp.threads import release_memory

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # see proc_pid_status(5)
PEAK_AGAIN = "5"  # what sets the peak to what is taken now

Found = TypeVar("Found")


def taken_now() -> int:
    """Bytes that the process takes in memory; where the system does not tell, the most that it took so far."""
    found = _of("VmRSS")
    if found is not None:
        return found
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def peak_of(work: Callable[[], Found]) -> tuple[Found, int | None]:
    """The result of work, and the most bytes that the process took for it; None where the system does not tell.

    The peak that the system notes of the process starts anew.
    """
    release_memory()
    before = _of("VmRSS")
    try:
        CLEAR.write_text(PEAK_AGAIN)
    except OSError:
        return work(), None
    found = work()
    peak = _of("VmHWM")
    return found, None if before is None or peak is None else max(0, peak - before)


def _of(name: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
