"""Arrays that are mapped from a file: their memory is given back once they have been read.

It is there as long as the file is, and comes again for who reads on; meanwhile it is nobody's.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from octavo.nn import Array


def mapping(array: Array) -> mmap.mmap | None:
    """What an array is mapped by that is a file's and can be read again."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    again = isinstance(base, mmap.mmap) and not array.flags.writeable and hasattr(base, "madvise")
    return base if again else None


def let_go(array: Array) -> None:
    """Give back the memory of an array, where it is mapped."""
    base = mapping(array)
    if base is None:
        return
    start = array.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    first, end = -(-start // mmap.PAGESIZE), (start + array.nbytes) // mmap.PAGESIZE
    if end > first:
        base.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (end - first) * mmap.PAGESIZE)


def let_go_file(array: Array) -> None:
    """Give back the memory of all of the file that an array is mapped from."""
    base = mapping(array)
    if base is not None:
        base.madvise(mmap.MADV_DONTNEED)
