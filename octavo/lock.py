"""A lock: one run at a time writes a folder.

It is the system's, on an empty file beside the folder, ``.FOLDER.lock``: who is killed lets go of it, and the
file that is left then keeps nobody out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from octavo.errors import OctavoError


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which may not be there yet.

    Where the system locks no files, nobody is kept out.

    Raises
    ------
    OctavoError
        If another run is in it.
    """
    folder = folder.resolve()
    path = folder.parent / f".{folder.name}.lock"
    try:
        handle = _locked(path)
    except BlockingIOError:
        raise OctavoError(
            f"another run is writing {folder}; wait for it, stop it, or name a new folder"
        ) from None
    try:
        yield
    finally:
        if handle is not None:
            _let_go(path, handle)


def _locked(path: Path) -> int | None:
    """The file, open and locked; None where that is impossible, `BlockingIOError` where another has it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            _lock(handle)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            raise
        except FileNotFoundError:  # removed by who had it before
            pass
        except OSError:
            os.close(handle)
            return None
        os.close(handle)


def _let_go(path: Path, handle: int) -> None:
    if sys.platform == "win32":  # which removes no file that is open, by whomever
        os.close(handle)
    with suppress(OSError):
        path.unlink()
    if sys.platform != "win32":
        os.close(handle)


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from None
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
