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
        If another run is in it, or it is not there and cannot be made.
    """
    whole = folder.resolve()
    path = whole.parent / f".{whole.name}.lock"
    try:
        handle = _locked(path)
    except BlockingIOError:
        advice = "wait for it, stop it, or name a new folder"
        raise OctavoError(f"another run is writing {folder}; {advice}") from None
    except OSError as error:
        if whole.parent.is_dir() and not whole.is_dir():  # beside one that is there nothing has to be written
            raise OctavoError(f"cannot write {folder}: {error.strerror}") from None
        handle = None
    try:
        yield
    finally:
        if handle is not None:
            _let_go(path, handle)


def _locked(path: Path) -> int | None:
    """The file, open and locked, or None where nothing can be; `BlockingIOError` where another has it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
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
