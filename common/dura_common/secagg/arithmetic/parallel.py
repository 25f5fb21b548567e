"""Long vectors in parts, one for each core: numpy and the ciphers let other threads run while they work."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

MAX_THREADS = 4


def in_parts(work: Callable[[int, int], None], size: int, unit: int, least: int, threads: int | None = None) -> None:
    """Call ``work(begin, end)`` for parts that together are ``range(size)``, at the same time.

    Args:
        work: must give the same result however its range is cut.
        size: length of the whole range.
        unit: parts begin at multiples of this.
        least: smallest size of a part: for less work, starting a thread is not worth while.
        threads: largest number of parts; by default the machine's cores, at most :data:`MAX_THREADS`.
    """
    cores = min(MAX_THREADS, len(os.sched_getaffinity(0))) if threads is None else threads
    parts = max(1, min(cores, size // least))
    units = -(-size // unit)
    cuts = [unit * (part * units // parts) for part in range(parts)] + [size]
    if parts == 1:
        work(0, size)
        return
    with ThreadPoolExecutor(parts - 1) as pool:
        others = [pool.submit(work, cuts[part], cuts[part + 1]) for part in range(1, parts)]
        work(0, cuts[1])
    for done in others:
        done.result()
