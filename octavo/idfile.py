"""Files of ids: a header that vouches for what follows, and ids that are mapped into memory and not read.

The header is a line of JSON, padded to a page, with a digest of the ids and of itself; a file that does
not agree with it is none. A file is written under another name and renamed when it is whole. What a
killed writer leaves is recognised by the lock that died with it, and removed by the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from octavo.errors import OctavoError
from octavo.lock import take
from octavo.nn import Array

FORMAT = 2  # of the file, and of what an encoding is: another number makes every file anew
HEADER = 4096  # bytes before the ids: a page, so that they are aligned
PIECE = 2**20  # bytes read at once
SEALED = ("dtype", "documents", "bytes")  # what the header tells of the ids


@dataclass(frozen=True)
class Encoded:
    """Text as ids.

    Attributes
    ----------
    ids : array [N]
        Unsigned integers of 16 bits, or of 32 for a vocabulary of more than 65,536; not to be written
        to. Mapped from `path`, if there is one.
    documents : int
        How many documents that is.
    bytes : int
        How many bytes of text, in UTF-8.
    sha256 : str
        A digest of all this: the same for the same ids, whether or not they are kept in a file.
    path : Path or None
        The file of the ids.
    """

    ids: Array
    documents: int
    bytes: int
    sha256: str
    path: Path | None = None

    def __len__(self) -> int:
        """The number of ids."""
        return len(self.ids)


class Writer:
    """Writes ids into a file, and last the header before them."""

    def __init__(self, file: IO[bytes], dtype: np.dtype[Any], key: str = "") -> None:
        self.file, self.key = file, key
        self.told: dict[str, Any] = {"dtype": dtype.str, "documents": 0, "bytes": 0}
        self.digest = hashlib.sha256()
        file.write(bytes(HEADER))

    def add(self, ids: bytes, documents: int, size: int) -> None:
        """More ids, of so many ends of documents and bytes of text."""
        self.file.write(ids)
        self.digest.update(ids)
        self.told["documents"] += documents
        self.told["bytes"] += size

    def close(self) -> None:
        """Nothing more will be added."""
        self.told["sha256"] = sealed(self.digest, self.told)
        self.file.seek(0)
        header = json.dumps({**self.told, "format": FORMAT, "key": self.key})
        self.file.write(header.encode().ljust(HEADER - 1) + b"\n")
        self.file.flush()


def sealed(digest: Any, told: dict[str, Any]) -> str:
    """The digest of the ids and of what is told of them."""
    digest.update(json.dumps([told[name] for name in SEALED]).encode())
    return str(digest.hexdigest())


def in_memory(written: BytesIO) -> Encoded:
    """What has been written into memory."""
    content = written.getvalue()
    told = json.loads(content[:HEADER])
    return Encoded(np.frombuffer(content, told["dtype"], offset=HEADER), *_facts(told))


def mapped(path: Path) -> Encoded:
    """What has been written into a file."""
    with open(path, "rb") as file:
        told = json.loads(file.read(HEADER))
    return Encoded(np.memmap(path, told["dtype"], "r", HEADER), *_facts(told), path)


def _facts(told: dict[str, Any]) -> tuple[int, int, str]:
    return told["documents"], told["bytes"], told["sha256"]


def kept(path: Path, key: str, report: Callable[[float], None]) -> Encoded | None:
    """What a file holds that was written whole under a key and is still as it was written; else None."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            told = json.loads(file.read(HEADER))
            for piece in pieces(file):
                digest.update(piece)
                report(file.tell() / size)
        if (told["format"], told["key"], told["sha256"]) == (FORMAT, key, sealed(digest, told)):
            return mapped(path)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return None


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """What is left of a file."""
    while piece := file.read(PIECE):
        yield piece


@contextmanager
def new_file(folders: Sequence[Path], name: str) -> Iterator[tuple[IO[bytes], Path]]:
    """A file to write to in the first folder that allows it, and the path that it then is moved to.

    It is moved when the block ends, and removed when it fails.
    """
    file = _begun(folders, name)
    partial = Path(file.name)
    path = partial.with_name(name)
    try:
        with file:
            yield file, path
            os.replace(partial, path)  # before the lock ends with the file
    except OSError as error:
        raise OctavoError(f"cannot write {path}: {error.strerror}; name another folder") from None
    finally:
        with suppress(OSError):
            partial.unlink()


def _begun(folders: Sequence[Path], name: str) -> IO[bytes]:
    """A new locked file in one of the folders."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            while True:
                file = open(folder / f"{name}.{secrets.token_hex(4)}.partial", "xb")  # noqa: SIM115
                with suppress(BlockingIOError):  # a sweep came between: on to another
                    take(file)
                    if os.path.exists(file.name):
                        return file
                file.close()
        except OSError as error:
            reason = error.strerror
    raise OctavoError(f"the ids cannot be kept in {folders[-1]}: {reason}; name another folder")


def _sweep(folder: Path) -> None:
    """Remove what killed writers have left."""
    for partial in folder.glob("*.partial"):
        with suppress(OSError), open(partial, "r+b") as file:
            if take(file):
                partial.unlink()
