"""Encoding in other processes: jobs of texts go in, ids come out, in the same order for any number of them.

The processes are our own, on two pipes each, rather than `multiprocessing`'s: that imports the caller's
main module again, and a script that trains a model without a guard would train it once per process. The
tokenizer reaches them as its `tokenizer.json`; nothing is pickled.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from octavo.errors import OctavoError
from octavo.reading import Source
from octavo.tokenizers.interface import id_dtype

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

# First of all SIGINT is ignored: Ctrl-C reaches every process of a terminal, and the parent ends these. If
# the parent is killed, its end of the pipes closes, and these end without a word.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
if hasattr(signal, "SIGPIPE"):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sys.path[:] = sys.argv[2:]
from octavo.workers import serve
serve(sys.argv[1])
"""
ANSWER = Struct("<?Q")  # whether ids follow, or else the message of an error, and how many bytes of it
Worker: TypeAlias = "subprocess.Popen[bytes]"


@dataclass
class Job:
    """Texts to encode, which of them begin and which end a document, and where they are from."""

    texts: list[str] = field(default_factory=list)
    begins: list[bool] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    read: int = 0  # bytes of the last source, up to the last text

    def add(self, text: str, begins: bool, ends: bool, source: Source, read: int) -> None:
        """One more text."""
        self.texts.append(text)
        self.begins.append(begins)
        self.ends.append(ends)
        self.sources.append(source)
        self.read = read


def work(
    tokenizer: Tokenizer, texts: list[str], begins: list[bool], ends: list[bool], known: dict[str, bytes]
) -> bytes:
    """The ids of texts, each document between what begins and what ends one, if there are such tokens.

    Where one token does both it stands once between two documents.
    """
    ending = {tokenizer.end_of_text} - {None, *tokenizer.begins_with}
    before, after = (
        np.array([*ids], id_dtype(len(tokenizer))).tobytes() for ids in (tokenizer.begins_with, ending)
    )
    encoded = (ids.tobytes() for ids in tokenizer.encode_many(texts, known))
    return b"".join(
        before * first + ids + after * last for ids, first, last in zip(encoded, begins, ends, strict=True)
    )


def alone(tokenizer: Tokenizer, jobs: Iterable[Job]) -> Generator[tuple[Job, bytes], None, None]:
    """Each job with its ids, made in this process."""
    known: dict[str, bytes] = {}
    for job in jobs:
        try:
            ids = work(tokenizer, job.texts, job.begins, job.ends, known)
        except OctavoError as error:
            raise _located(error, tokenizer, job) from None
        yield job, ids


def in_parallel(
    tokenizer: Tokenizer, saved: Path, jobs: Iterable[Job], processes: int
) -> Generator[tuple[Job, bytes], None, None]:
    """Each job with its ids, made by processes that read the tokenizer from the file `saved`."""
    jobs = iter(jobs)
    first = list(islice(jobs, processes))
    if len(first) < 2:  # not worth a process
        yield from alone(tokenizer, first)
        return
    idle: SimpleQueue[Worker] = SimpleQueue()

    def ask(job: Job) -> bytes:
        worker = idle.get()
        try:
            return _asked(worker, job)
        finally:
            idle.put(worker)

    def answered(job: Job, ids: Future[bytes]) -> tuple[Job, bytes]:
        try:
            return job, ids.result()
        except OctavoError as error:
            raise _located(error, tokenizer, job) from None

    with _started(saved, len(first)) as workers, ThreadPoolExecutor(len(first)) as threads:
        for worker in workers:
            idle.put(worker)
        pending: deque[tuple[Job, Future[bytes]]] = deque()
        try:
            for job in chain(first, jobs):
                pending.append((job, threads.submit(ask, job)))
                if len(pending) > 2 * processes:  # enough to keep all busy; no more is read before
                    yield answered(*pending.popleft())
            for oldest in pending:
                yield answered(*oldest)
        finally:  # else the threads of who stops early would wait for answers
            for worker in workers:
                worker.kill()


@contextmanager
def _started(saved: Path, processes: int) -> Iterator[list[Worker]]:
    """Processes that end with the block."""
    command = [sys.executable, "-c", PROGRAM, str(saved), *sys.path]
    workers: list[Worker] = []
    try:
        while len(workers) < processes:
            workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        yield workers
    except OSError as error:
        raise OctavoError(f"no process to encode in can be started: {error.strerror}") from None
    finally:
        for worker in workers:
            worker.kill()
            with suppress(BrokenPipeError), worker:  # which closes its pipes
                pass


def _asked(worker: Worker, job: Job) -> bytes:
    """What one process answers."""
    line = json.dumps(
        [job.texts, job.begins, job.ends], ensure_ascii=False
    )  # without a newline: JSON escapes them
    try:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(line.encode("utf-8", "surrogatepass") + b"\n")
        worker.stdin.flush()
        encoded, length = ANSWER.unpack(worker.stdout.read(ANSWER.size))
        answer = worker.stdout.read(length)
    except (OSError, StructError):
        answer, length = b"", -1
    if len(answer) != length:
        raise OctavoError(f"a process that encodes ended by itself ({worker.wait()}): is the memory spent?")
    if not encoded:
        raise OctavoError(answer.decode())
    return answer


def _located(error: OctavoError, tokenizer: Tokenizer, job: Job) -> OctavoError:
    """The error of the one text that cannot be encoded, with the name of its file."""
    for text, source in zip(job.texts, job.sources, strict=True):
        try:
            tokenizer.encode_many([text])
        except OctavoError as reason:
            return OctavoError(f"{source.path}: {reason}")
    return error


def serve(saved: str) -> None:
    """What such a process does: read jobs, a line of JSON each, until there are no more."""
    from octavo import tokenizers

    tokenizer = tokenizers.open(saved)
    known: dict[str, bytes] = {}
    for line in sys.stdin.buffer:
        if not line.endswith(b"\n"):  # who asked ended in the middle of it
            return
        texts, begins, ends = json.loads(line.decode("utf-8", "surrogatepass"))
        try:
            encoded, answer = True, work(tokenizer, texts, begins, ends, known)
        except OctavoError as error:
            encoded, answer = False, str(error).encode()
        sys.stdout.buffer.write(ANSWER.pack(encoded, len(answer)) + answer)
        sys.stdout.buffer.flush()
