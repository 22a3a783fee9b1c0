"""What a model learns from: texts by the names of files, folders, patterns and corpora.

How a file is read stands in `octavo.reading`, the corpora in `octavo.corpora`, and how texts of any size
become ids on the disk in `octavo.encoded`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from octavo.corpora import CORPORA, Corpus, cache_folder, corpus, corpus_file
from octavo.errors import OctavoError
from octavo.reading import READERS, Part, Source, parts

__all__ = [
    "CORPORA",
    "Corpus",
    "Source",
    "blocks",
    "cache_folder",
    "corpus",
    "documents",
    "read",
    "read_text",
    "sources",
]

KINDS = ", ".join(READERS)  # what is looked for in a folder, gzipped or not


def sources(names: Sequence[str | Path]) -> list[Source]:
    """The files that names stand for.

    Parameters
    ----------
    names : sequence of str or Path
        Each is a file; a folder, for the `.txt`, `.jsonl` and `.parquet` files (and their `.gz`) in it
        and below, sorted, without hidden ones; a corpus by name; or a pattern with ``*``, ``?``, ``[``
        and ``**``, for the files that match, sorted.

    Raises
    ------
    OctavoError
        If a name stands for nothing, or for what can be read once only.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.txt", "a.jsonl.gz", "notes.pdf"):
    ...         _ = (Path(folder) / name).write_text("")
    ...     [source.path.name for source in sources([folder, f"{folder}/n*"])]
    ['a.jsonl.gz', 'b.txt', 'notes.pdf']
    """
    found = [source for name in names for source in _named(name)]
    if pipes := [source.path for source in found if not source.path.is_file()]:
        raise OctavoError(f"{pipes[0]} is a pipe or a device: write what it gives to a file first")
    return found


def _named(name: str | Path) -> list[Source]:
    import glob  # here, so that importing octavo stays quick

    path = Path(name)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise OctavoError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None
    else:
        return _inside(path) if stat.S_ISDIR(mode) else [Source(path, path.parent)]
    if str(name) in CORPORA:
        return [Source(corpus_file(str(name)))]
    if not glob.has_magic(str(name)):
        raise OctavoError(f"there is no file {path}, and no corpus of that name ({', '.join(CORPORA)})")
    matching = [
        Path(match) for match in sorted(glob.glob(str(name), recursive=True)) if os.path.isfile(match)
    ]
    if not matching:
        raise OctavoError(f"there is no file that {name} matches")
    return [Source(match, match.parent) for match in matching]


def _inside(folder: Path) -> list[Source]:
    """The files of known kinds in a folder and below."""

    def unreadable(error: OSError) -> None:
        raise OctavoError(f"{error.filename} cannot be read: {error.strerror}")

    found = []
    for below, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = [Source(Path(below, name), folder) for name in files if not name.startswith(".")]
        found += [source for source in here if source.suffix in READERS]
    if not found:
        raise OctavoError(f"{folder} cannot be read: there is no file in it that ends in {KINDS} (or .gz)")
    return sorted(found, key=lambda source: source.path.parts)


def read(sources: Sequence[Source], field: str = "text") -> Iterator[tuple[Source, Part]]:
    """All the text of files in parts of about a million characters, each with where it is from.

    Raises
    ------
    OctavoError
        If a file cannot be read, is no UTF-8 text, or is not what its suffix says; if a row has no such
        field; if there is no text at all.
    """
    empty = True
    for source in sources:
        for part in parts(source, field):
            empty = False
            yield source, part
    if empty:
        names = [str(source.path) for source in sources]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise OctavoError(f"there is no text in {shown or 'nothing'}")


def documents(sources: Sequence[Source], field: str = "text") -> Iterator[str]:
    """The documents of files, whole: a plain text file is one, and so is each row of the others.

    Parameters
    ----------
    sources : sequence of Source
        See `sources`.
    field : str
        The field of JSON lines, or the column of Parquet, that holds the text.

    Raises
    ------
    OctavoError
        As `read` does.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.jsonl").write_text('{"text": "One."}' + chr(10) + '{"text": "Two."}')
    ...     list(documents(sources([folder])))
    ['One.', 'Two.']
    """
    document: list[str] = []
    for _, part in read(sources, field):
        document.append(part.text)
        if part.ends:
            yield "".join(document)
            document.clear()


def blocks(sources: Sequence[Source], field: str = "text") -> Iterator[str]:
    """The same texts in parts of about a million characters, cut where no tokenizer looks across.

    This is what to make a tokenizer of when the texts are larger than memory:
    ``octavo.tokenizers.char(blocks(...))``, or `train_bpe` of the first thousand of them.
    """
    for _, part in read(sources, field):
        yield part.text


def read_text(names: Sequence[str | Path], field: str = "text") -> str:
    """All the text that names stand for, document after document; see `sources` and `documents`.

    Raises
    ------
    OctavoError
        If a file is missing, cannot be read, or all of them are empty.
    """
    return "".join(blocks(sources(names), field))
