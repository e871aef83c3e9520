"""How much memory something takes at its height."""

import tracemalloc
from collections.abc import Callable


def peak_bytes(work: Callable[[], object], times: int = 3) -> int:
    """Do something some times, and return the least of the peaks: what other threads allocate meanwhile is none of its.

    Args:
        work: What is done.
        times: How often.
    """
    peaks = []
    for _ in range(times):
        tracemalloc.start()
        try:
            work()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return min(peaks)
