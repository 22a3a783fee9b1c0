"""Locks: one command at a time writes a file, and one run a folder.

They are the system's, which lets go of what a killed process had. That of a folder is on an empty file beside
it, ``.FOLDER.lock``; one that is left by who was killed keeps nobody out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from octavo.errors import OctavoError


def take(file: IO[Any] | int) -> bool:
    """Lock an open file until it is closed, or its process ends; `BlockingIOError` if another has done so.

    False where there are no such locks: on Windows, and on some network file systems.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        return False
    return True


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which may not be there yet.

    Raises
    ------
    OctavoError
        If another run is in it, or it is not there and cannot be made.
    """
    whole = folder.resolve()
    path = whole.parent / f".{whole.name}.lock"
    handle = None
    try:
        handle = _opened(path)
    except BlockingIOError:
        advice = "wait for it, stop it, or name a new folder"
        raise OctavoError(f"another run is writing {folder}; {advice}") from None
    except OSError as error:
        if whole.parent.is_dir() and not whole.is_dir():  # beside one that is there nothing has to be written
            raise OctavoError(f"cannot write {folder}: {error.strerror}") from None
    try:
        yield
    finally:
        if handle is not None:
            with suppress(OSError):  # Windows removes no file that is open
                path.unlink()
            os.close(handle)


def _opened(path: Path) -> int:
    """The file, open and ours as far as there are locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not take(handle) or os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:  # removed by who had it before
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
