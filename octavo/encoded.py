"""Texts of any size as ids: encoded once, by all processors, into a file that is mapped and not read.

The file (see `octavo.idfile`) is found again by a digest of what it was made of: the content of the
sources, the tokenizer as it is saved, and the field. Content is read again to be sure, every time: a
second per gigabyte or so, where encoding takes minutes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from octavo import data, idfile, workers
from octavo.checks import cores
from octavo.corpora import user_cache
from octavo.errors import OctavoError
from octavo.idfile import Encoded
from octavo.reading import Part, Source
from octavo.tokenizers.chars import Char
from octavo.tokenizers.interface import id_dtype
from octavo.workers import Job

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

FOLDER = ".octavo"
SMALL = 2**23  # characters; what takes a second to encode is kept in memory and not on the disk
BATCH = 2**20  # characters that a process is given at once, about

State: TypeAlias = tuple[int, int, int]  # of a file: its size, and what else changes with its content
Progress: TypeAlias = Callable[[str, float], None]
"""Is told what is being done ("reading", "checking" or "encoding"), and which share of it is."""


def encode(
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    *,
    field: str = "text",
    processes: int | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Encoded:
    """All the text of files as ids, document after document.

    Before each document stands what the tokenizer's model expects there (`begins_with`), and after it the
    token that ends one, if the tokenizer has them; one that does both stands there once. The ids are those
    of each document encoded whole, for any number of processes.

    Parameters
    ----------
    sources : sequence of Source
        See `octavo.data.sources`.
    tokenizer : Tokenizer
        What encodes.
    field : str
        The field of JSON lines, or the column of Parquet, that holds the text.
    processes : int, optional
        How many encode, at most; by default one per processor. Characters need no more than this one,
        as they are looked up sooner than sent.
    cache : str or Path, optional
        The folder to keep the ids in. By default texts of up to 8 million characters are kept in memory
        alone, and others in a folder `.octavo` beside the first source, or in ``~/.cache/octavo/encoded``
        where that cannot be written to and for corpora by name. Either may be removed at any time.
    progress : callable, optional
        Called with what is being done (first "reading", to tell whether the ids are there already, then
        "checking" them or "encoding") and which share of it is, from 0 to 1.

    Returns
    -------
    Encoded

    Raises
    ------
    OctavoError
        If a file cannot be read or changes meanwhile, if there is no text, if the tokenizer does not know
        a character, or if there is no room for the ids.

    Examples
    --------
    >>> from octavo import data, tokenizers
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.txt").write_text("to be or not to be")
    ...     encoded = encode(data.sources([folder]), tokenizers.char("to be or not to be"))
    >>> encoded.ids[:5], encoded.documents, encoded.bytes
    (array([6, 4, 0, 1, 2], dtype=uint16), 1, 18)
    """
    report = progress or (lambda what, share: None)
    count = cores() if processes is None else processes
    if count < 1:
        raise OctavoError(f"processes is how many processes encode, at least 1, not {count}")
    before = _states(sources)
    dtype = id_dtype(len(tokenizer))
    small = _all_if_small(sources, field) if cache is None else None
    if small is not None:
        memory = BytesIO()
        _write(idfile.Writer(memory, dtype), workers.alone(tokenizer, _jobs(small, tokenizer.local)))
        return idfile.in_memory(memory)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "tokenizer.json"
        tokenizer.save(saved)
        key = _key(sources, saved, field, report)
        places = [Path(cache)] if cache is not None else _places(sources[0])
        for place in places:
            found = idfile.kept(place / f"{key}.ids", key, lambda share: report("checking", share))
            if found is not None:
                return found
        jobs = _jobs(data.read(sources, field), tokenizer.local)
        made = workers.alone(tokenizer, jobs)
        if count > 1 and not isinstance(tokenizer, Char):
            made = workers.in_parallel(tokenizer, saved, jobs, count)
        with closing(made), idfile.new_file(places, f"{key}.ids") as (file, path):
            _write(idfile.Writer(file, dtype, key), _reported(made, sources, before, report))
            if _states(sources) != before:
                raise OctavoError("a file changed while it was encoded: begin again when it is whole")
    return idfile.mapped(path)


def _states(sources: Sequence[Source]) -> list[State]:
    """What tells whether a file has changed meanwhile."""
    found = []
    for source in sources:
        try:
            state = source.path.stat()
        except OSError as error:
            raise OctavoError(f"{source.path} cannot be read: {error.strerror}") from None
        found.append((state.st_size, state.st_mtime_ns, state.st_ino))
    return found


def _all_if_small(sources: Sequence[Source], field: str) -> list[tuple[Source, Part]] | None:
    """All the text, or None if it is more than is kept in memory."""
    found, length = [], 0
    for source, part in data.read(sources, field):
        found.append((source, part))
        length += len(part.text)
        if length > SMALL:
            return None
    return found


def _places(first: Source) -> list[Path]:
    """Where ids may be kept, the best first."""
    beside = [first.home / FOLDER] if first.home is not None else []
    return [*beside, user_cache() / "encoded"]


def _key(sources: Sequence[Source], saved: Path, field: str, report: Progress) -> str:
    """The name of an encoding: a digest of all that it depends on."""
    made_of: list[Any] = [idfile.FORMAT, field, hashlib.sha256(saved.read_bytes()).hexdigest()]
    total, done = sum(source.path.stat().st_size for source in sources), 0
    for source in sources:
        digest = hashlib.sha256()
        try:
            with open(source.path, "rb") as file:
                for piece in idfile.pieces(file):
                    digest.update(piece)
                    done += len(piece)
                    report("reading", min(done / total, 1.0) if total else 1.0)
        except OSError as error:
            raise OctavoError(f"{source.path} cannot be read: {error.strerror}") from None
        made_of.append([source.suffix, source.gzipped, digest.hexdigest()])
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def _jobs(parts: Iterable[tuple[Source, Part]], local: bool) -> Iterator[Job]:
    """Texts in batches: parts of documents, or whole ones for a tokenizer that must not see parts."""
    job, length, held, begins = Job(), 0, list[str](), True
    for source, part in parts:
        held.append(part.text)
        if not (local or part.ends):
            continue
        job.add("".join(held), begins, part.ends, source, part.read)
        length += len(job.texts[-1])
        begins = part.ends
        held.clear()
        if length >= BATCH:
            yield job
            job, length = Job(), 0
    if job.texts:
        yield job


def _reported(
    made: Iterable[tuple[Job, bytes]], sources: Sequence[Source], states: Sequence[State], report: Progress
) -> Iterator[tuple[Job, bytes]]:
    """What is made, telling how much of the sources has been read for it."""
    ends = list(accumulate((size for size, _, _ in states), initial=0))
    begins = dict(zip(map(id, sources), ends, strict=False))
    for job, ids in made:
        report("encoding", (begins[id(job.sources[-1])] + job.read) / ends[-1])
        yield job, ids


def _write(writer: idfile.Writer, made: Iterable[tuple[Job, bytes]]) -> None:
    for job, ids in made:
        writer.add(ids, sum(job.ends), sum(len(text.encode("utf-8", "surrogatepass")) for text in job.texts))
    writer.close()
