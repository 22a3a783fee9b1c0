"""Encoding in other processes: the same ids, the same errors, and nothing left behind."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from octavo import OctavoError, tokenizers, workers
from octavo.reading import Source
from octavo.workers import Job, alone, in_parallel

from .conftest import begun

RANKS = {bytes([i]): i for i in range(256)} | {b"to": 256, b" be": 257, "é".encode(): 258}
BEGIN, END = 260, 259
BPE = begun(tokenizers.from_ranks(RANKS, special_tokens={"<|endoftext|>": END, "<s>": BEGIN}), BEGIN)
SOURCE = Source(Path("a.txt"))
TEXTS = ["to be", " or not to be\n", "", "é\ud800\u2028 <|endoftext|>", "中文 to be é" * 1000]


def jobs(texts: list[str], each: int = 2) -> Iterator[Job]:
    """Texts, `each` at once; every other one ends a document."""
    for start in range(0, len(texts), each):
        job = Job()
        for number, text in enumerate(texts[start : start + each], start):
            job.add(text, number % 2 == 0, number % 2 == 1, SOURCE, number)
        yield job


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    BPE.save(tmp_path / "tokenizer.json")
    return tmp_path / "tokenizer.json"


def expected(texts: list[str]) -> list[int]:
    begun = ([BEGIN] * (i % 2 == 0) + BPE.encode(text) for i, text in enumerate(texts))
    return [id for i, ids in enumerate(begun) for id in ids + [END] * (i % 2)]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_any_number_of_processes_makes_the_same(processes: int, saved: Path) -> None:
    texts = [f"{text} {n}" for n in range(8) for text in TEXTS]
    made = in_parallel(BPE, saved, jobs(texts), processes) if processes > 1 else alone(BPE, jobs(texts))
    found = list(made)
    assert [job.read for job, _ in found] == list(range(1, len(texts), 2))
    assert np.frombuffer(b"".join(ids for _, ids in found), "<u2").tolist() == expected(texts)


def test_no_more_is_read_than_keeps_all_busy(saved: Path) -> None:
    read = 0

    def counted() -> Iterator[Job]:
        nonlocal read
        for job in jobs(["to be"] * 100, each=1):
            read += 1
            yield job

    made = in_parallel(BPE, saved, counted(), 2)
    for done, _ in enumerate(made, 1):
        assert read <= done + 4
    assert read == 100


@pytest.mark.parametrize("processes", [1, 2])
def test_what_cannot_be_encoded_is_said_with_its_file(processes: int, tmp_path: Path) -> None:
    tok = tokenizers.char("ab")
    tok.save(tmp_path / "t.json")
    job = Job()
    for text, name in (("ab", "good.txt"), ("az", "bad.txt"), ("y", "worse.txt")):
        job.add(text, True, True, Source(Path(name)), 0)
    made = in_parallel(tok, tmp_path / "t.json", [job] * 9, 2) if processes > 1 else alone(tok, [job])
    with pytest.raises(OctavoError, match=r"^bad\.txt: unknown character 'z' \(U\+007A\): it is not among"):
        next(made)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[workers.Worker]:
    """The processes that a test starts."""
    found: list[workers.Worker] = []
    popen = subprocess.Popen

    def start(*args: object, **options: object) -> workers.Worker:
        found.append(popen(*args, **options))  # type: ignore[call-overload]
        return found[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return found


def test_who_stops_early_leaves_no_process(saved: Path, started: list[workers.Worker]) -> None:
    made = in_parallel(BPE, saved, jobs(TEXTS * 10), 2)
    next(made)
    assert [worker.poll() for worker in started] == [None, None]
    made.close()
    assert None not in [worker.poll() for worker in started]


def test_an_error_of_the_reader_passes_and_leaves_no_process(
    saved: Path, started: list[workers.Worker]
) -> None:
    def broken() -> Iterator[Job]:
        yield from jobs(TEXTS)
        raise OctavoError("a.txt is damaged")

    with pytest.raises(OctavoError, match=r"^a\.txt is damaged"):
        list(in_parallel(BPE, saved, broken(), 2))
    assert None not in [worker.poll() for worker in started]


def test_a_process_that_ends_by_itself_is_an_error(saved: Path, started: list[workers.Worker]) -> None:
    made = in_parallel(BPE, saved, jobs(TEXTS * 10), 2)
    next(made)
    for worker in started:
        worker.kill()
    with pytest.raises(OctavoError, match=r"ended by itself \(-9\): is the memory spent"):
        list(made)


def test_an_interrupt_is_the_business_of_who_started_them(saved: Path) -> None:
    with workers._started(saved, 1) as (worker,):
        job = next(jobs(TEXTS))
        first = workers._asked(worker, job)
        worker.send_signal(signal.SIGINT)  # as Ctrl-C does to every process of a terminal
        assert workers._asked(worker, job) == first


def test_they_end_with_who_started_them(tmp_path: Path) -> None:
    code = """if True:
        from itertools import repeat
        from pathlib import Path
        from octavo import tokenizers
        from octavo.workers import Job, in_parallel
        tokenizer = tokenizers.train_bpe("to be", 256)
        tokenizer.save("tokenizer.json")
        job = Job(["to be or not to be " * 20_000], [True], [True], [None])
        for _ in in_parallel(tokenizer, Path("tokenizer.json"), repeat(job), 2):
            print("made", flush=True)
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, **pipes) as process:  # type: ignore
        assert process.stdout is not None
        assert process.stdout.readline() == b"made\n"
        process.kill()
        assert process.communicate(timeout=60)[1] == b""  # which ends when all have closed their end


@pytest.mark.parametrize("line", [b'[["to be"], [true], [true]]\n', b'[["to b'])
def test_who_has_nobody_to_answer_ends_without_a_word(
    line: bytes, saved: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with workers._started(saved, 1) as (worker,):
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdout.close()
        worker.stdin.write(line)
        worker.stdin.close()
        assert worker.wait(60) in (-signal.SIGPIPE, 0)
    assert capfd.readouterr().err == ""


def test_no_process_can_be_started(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OctavoError, match="no process to encode in can be started: No such file"):
        list(in_parallel(BPE, saved, jobs(TEXTS), 2))


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be\n" * 20)
    (tmp_path / "script.py").write_text(
        "print('once')\n"
        "from octavo import data, encoded, tokenizers\n"
        "encoded.BATCH = 50\n"
        "tokenizer = tokenizers.train_bpe('to be or not to be', 257)\n"
        "found = encoded.encode(data.sources(['text.txt']), tokenizer, processes=2, cache='cache')\n"
        "print(len(found) == len(tokenizer.encode(open('text.txt').read())))\n"
    )
    ended = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("once\nTrue\n", "")


def test_a_single_job_starts_no_process(saved: Path, started: list[workers.Worker]) -> None:
    ((_, ids),) = in_parallel(BPE, saved, jobs(TEXTS[:2]), 2)
    assert np.frombuffer(ids, "<u2").tolist() == expected(TEXTS[:2])
    assert list(in_parallel(BPE, saved, iter(()), 2)) == started == []
