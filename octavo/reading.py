"""How files of texts are read: plain text, JSON lines and Parquet, any of them behind gzip.

Whatever its size, a file is read in parts of about a million characters, cut where no tokenizer looks
across (`octavo.tokenizers.patterns.blocks`). Only what has no such place is held whole, and a row of
JSON lines or Parquet while it is cut.
"""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from octavo.checks import printable
from octavo.errors import OctavoError
from octavo.tokenizers.patterns import blocks

PIECE = 2**20  # bytes read at once
MARK = "\ufeff"  # that many programs of Windows write before UTF-8
ROWS = 64  # of Parquet read at once: a row may be a book


@dataclass(frozen=True)
class Source:
    """A file of texts.

    Parameters
    ----------
    path : Path
        Its suffix tells what it is: `.jsonl`, `.parquet` or, any other, plain text; and `.gz` after it.
    home : Path, optional
        The folder that what is made of it may be kept in; the user's cache if there is none.
    """

    path: Path
    home: Path | None = None

    @property
    def gzipped(self) -> bool:
        """Whether the file is compressed."""
        return self.path.suffix.lower() == ".gz"

    @property
    def suffix(self) -> str:
        """The suffix that tells the kind, in lower case."""
        return (self.path.with_suffix("") if self.gzipped else self.path).suffix.lower()

    @property
    def has_rows(self) -> bool:
        """Whether it is of a kind that is made to hold many documents."""
        return READERS.get(self.suffix, _plain) is not _plain


class Part(NamedTuple):
    """Some text of a file, whether a document ends with it, and how many bytes of the file are read."""

    text: str
    ends: bool
    read: int


def parts(source: Source, field: str) -> Iterator[Part]:
    """All the text of a file, in order; documents without text are left out."""
    import gzip  # here, so that importing octavo stays quick

    path = source.path
    try:
        with open(path, "rb") as raw:
            file = gzip.GzipFile(fileobj=raw) if source.gzipped else raw
            for document in READERS.get(source.suffix, _plain)(file, path, field):
                yield from _cut(document, raw.tell)
    except EOFError:
        raise OctavoError(f"{path} is truncated: its gzip stream ends early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise OctavoError(f"{path} is no gzip file, or damaged: {error}") from None
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror or error}") from None


def _cut(document: str | Iterable[str], tell: Callable[[], int]) -> Iterator[Part]:
    """A document, which may arrive in pieces, as parts."""
    last = None
    for block in blocks(document):
        if last is not None:
            yield Part(last, False, tell())
        last = block
    if last is not None:
        yield Part(last, True, tell())


def _plain(file: Any, path: Path, field: str) -> Iterator[Iterable[str]]:
    """The whole file is one document."""
    yield _decoded(file, path)


def _decoded(file: BinaryIO, path: Path) -> Iterator[str]:
    """A file as text, as it is: no newline is translated; the mark that says it is UTF-8 is no text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    start, data, mark = 0, b"-", MARK  # `start` is where in the file what is to be decoded begins
    while data:
        data = file.read(PIECE)
        pending = len(decoder.getstate()[0])  # the first bytes of a character that the last piece cut
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise _undecodable(path, start - pending + error.start) from None
        yield text.removeprefix(mark)
        start, mark = start + len(data), "" if text else mark


def _json_lines(file: Any, path: Path, field: str) -> Iterator[str]:
    """The field of each row; empty lines are none."""
    start = 0
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8").removeprefix(MARK if number == 1 else "")
            row = json.loads(text) if text and not text.isspace() else None
        except UnicodeDecodeError as error:
            raise _undecodable(path, start + error.start) from None
        except (ValueError, RecursionError) as error:
            raise OctavoError(f"row {number} of {path} is not a JSON object: {error}") from None
        start += len(line)
        if not text or text.isspace():
            continue
        if not isinstance(row, dict):
            raise OctavoError(f"row {number} of {path} is not a JSON object, but {type(row).__name__}")
        if field not in row:
            raise OctavoError(f"row {number} of {path} has no field {printable(field)} ({_there_are(row)})")
        yield _text(row[field], field, number, path)


def _parquet(file: Any, path: Path, field: str) -> Iterator[str]:
    """The column, row by row."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise OctavoError(f"{path}: reading Parquet needs pyarrow: pip install 'octavo[parquet]'") from None
    number = 0
    try:
        table = parquet.ParquetFile(file)
        names = table.schema_arrow.names
        if field not in names:
            raise OctavoError(f"{path} has no column {printable(field)} ({_there_are(names)})")
        for batch in table.iter_batches(ROWS, columns=[field]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield _text(value, field, number, path)
    except UnicodeDecodeError:
        raise OctavoError(f"{path} is not UTF-8 text: a row after {number} cannot be decoded") from None
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise OctavoError(f"{path} is no Parquet file, or damaged: {reason}") from None


READERS: dict[str, Callable[[Any, Path, str], Iterator[str | Iterable[str]]]] = {
    ".txt": _plain,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
"""By suffix; what has another one is plain text."""


def _text(value: object, field: str, number: int, path: Path) -> str:
    if not isinstance(value, str):
        found = "nothing" if value is None else f"{type(value).__name__}, not text"
        raise OctavoError(f"{printable(field)} in row {number} of {path} holds {found}")
    return value


def _there_are(names: Iterable[str]) -> str:
    names = list(names)
    more = ", ..." if len(names) > 8 else ""
    return f"there are {', '.join(map(printable, names[:8]))}{more}" if names else "there are none"


def _undecodable(path: Path, at: int) -> OctavoError:
    return OctavoError(f"{path} is not UTF-8 text: byte {at} cannot be decoded; convert it, with iconv say")
