"""Memory: kept between two steps of training, and not searched for garbage where there is none."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of mallopt(3), in malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8
PAD = 64 * 2**20  # bytes that are asked for at a time
NEVER = -1  # too much is free for it to be kept


def keep_memory() -> None:
    """Have the C library keep what is freed for the next step, where it would give it back.

    A step frees and takes tens of megabytes, or gigabytes, which glibc returns to the kernel and gets back
    page by page, zeroed: a fifth of the time of a small model, a third of that of a large one. It holds for
    the process, and for threads that begin later: call it before JAX has a device. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, NEVER), (ARENA_MAX, 1), (TOP_PAD, PAD)):
            mallopt(option, value)


@contextmanager
def uncollected() -> Iterator[None]:
    """Have Python look for no garbage meanwhile, where much is made and all of it is kept.

    It would look whenever there are so many more objects, and the tokens and merges of a vocabulary are a
    hundred thousand.
    """
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looks:
            gc.enable()
