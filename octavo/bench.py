"""The verb `bench`: how fast a model reads and writes here, beside the programs that are installed.

Every figure comes from a fresh process. A round starts each program once, one after the other; so what the
machine does meanwhile meets all of them, and medians of the rounds can be compared. `octavo.engines` is what
runs in those processes.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import octavo
from octavo import storage
from octavo.checks import cores, is_whole, require_threads
from octavo.engines import WARM
from octavo.errors import OctavoError
from octavo.formats import folder, gguf, shards
from octavo.model import Model
from octavo.processes import run
from octavo.quant import Quantized
from octavo.traffic import weights_read

PROMPT, SHORT, LONG = 512, 8, 2000  # tokens that are read
COUNT, RECURRENT = 64, 2000  # tokens that are written, by a Transformer and by a recurrent model
SHORTEST, MOST_ROUNDS = 16, 100
ASKED = ("prompt", "decode", "long")

Progress = Callable[[int, int, str], None]
"""Called with a round, how many there are, and what is measured in it next."""


@dataclass
class Measured:
    """What was measured of one program, a figure for each round.

    Attributes
    ----------
    name, version : str
        The program.
    figures : dict of lists
        `prompt`, `decode`, `long` and `together` in tokens a second, `load` and `first` in seconds from the
        start of the process, `peak` in bytes.
    error : str
        Why there are none, where there are none.
    """

    name: str
    version: str = ""
    figures: dict[str, list[float]] = field(default_factory=dict)
    error: str = ""

    def median(self, figure: str) -> float | None:
        """The median of the rounds, None for what was not measured."""
        found = self.figures.get(figure)
        return statistics.median(found) if found else None


@dataclass
class Report:
    """What was measured, of what, and how.

    Attributes
    ----------
    model, model_type, weights : str
        The file or folder, its architecture, and the formats of its matrices, the commonest first.
    parameters, file_bytes, bytes_per_token : int
        Counts: of numbers, of bytes in the files of the weights, and of bytes of weights that one step reads.
    threads, rounds : int
        How it was measured.
    prompt_tokens, decode_tokens, long_tokens : int
        How many tokens were read and written; 0 where the model cannot read so far.
    memory : list of float
        Bytes a second that NumPy reads of a large array on as many threads, a number for each round.
    programs : list of Measured
        Octavo first.
    """

    model: str
    model_type: str
    weights: str
    parameters: int
    file_bytes: int
    bytes_per_token: int
    threads: int
    rounds: int
    prompt_tokens: int
    decode_tokens: int
    long_tokens: int
    memory: list[float]
    programs: list[Measured]


def measure(
    model: str | Path,
    *,
    threads: int | None = None,
    rounds: int = 3,
    asked: Sequence[str] = ASKED,
    pythons: Mapping[str, str] | None = None,
    progress: Progress = lambda round, rounds, name: None,
) -> Report:
    """Measure a model in octavo and in the programs that are installed and open the same file.

    Parameters
    ----------
    model : str or Path
        As `octavo.load` takes it.
    threads : int, optional
        Of every program; by default as many as there are processors.
    rounds : int
        How often everything is measured.
    asked : sequence of {"prompt", "decode", "long", "together"}
        What is measured beside load, first token and memory.
    pythons : mapping, optional
        The Python that has a program, by its name (`llama_cpp`, `transformers`); by default this one has
        those that are installed.
    progress : callable, optional
        Is told what is measured next.

    Returns
    -------
    Report
        A figure of every round; `Measured.median` says what to compare.

    Raises
    ------
    OctavoError
        If the model cannot be opened or octavo fails on it; a peer that fails says so in its `error`.

    Examples
    --------
    >>> report = measure("christie-rnn", rounds=1, asked=[], pythons={})
    >>> report.programs[0].name, sorted(report.programs[0].figures)
    ('octavo', ['first', 'load', 'peak'])
    """
    if not is_whole(rounds) or not 1 <= rounds <= MOST_ROUNDS:
        raise OctavoError(f"rounds are from 1 to {MOST_ROUNDS}, not {rounds!r}")
    require_threads(threads)
    path = storage.locate(model)
    opened, threads = octavo.load(path), threads or cores()
    job = job_for(opened, path, threads, asked)
    having = installed() if pythons is None else dict(pythons)
    having = {name: python for name, python in having.items() if opens(name, path, opened)}
    programs = {name: Measured(name) for name in ("octavo", *having)}
    memory: list[float] = []
    for round in range(rounds):
        progress(round + 1, rounds, "memory")
        memory.append(run("memory", sys.executable, job)["memory"])
        for name, program in programs.items():
            if not program.error:
                progress(round + 1, rounds, name)
                _add(program, having.get(name, sys.executable), job)
    return Report(
        str(model),
        opened.model_type,
        formats(opened),
        sum(int(p.size) for p in opened.params.values()),
        size_of(path),
        weights_read(opened),
        threads,
        rounds,
        len(job["prompt"]),
        job["count"],
        len(job["long"]),
        memory,
        list(programs.values()),
    )


def job_for(model: Model, path: Path, threads: int, asked: Sequence[str]) -> dict[str, Any]:
    """What the programs are to do; all of them read the same ids, which are drawn at random."""
    context = model.context or PROMPT + RECURRENT
    if context < SHORTEST:
        raise OctavoError(f"a context of {context} tokens is too short to measure; {SHORTEST} are enough")
    short = max(min(SHORT, context // 4), 1)
    count = RECURRENT if model.context is None else max(min(COUNT, context - short - WARM - 1), 1)
    reach = LONG + WARM + count + 1
    far = "long" in asked and model.context is not None and reach <= context
    ids = np.random.default_rng(0).integers(model.vocab_size, size=LONG).tolist()
    return {
        "path": str(path.absolute()),
        "threads": threads,
        "asked": [figure for figure in asked if figure != "long" or far],
        "prompt": ids[: min(PROMPT, context)],
        "short": ids[:short],
        "long": ids if far else [],
        "shared": min(SHORT * 4, max(context // 4, 1)),
        "count": count,
        "room": reach if far else min(context, PROMPT + WARM + count + 1),
    }


def installed() -> dict[str, str]:
    """The peers that this Python has."""
    needed = {"llama_cpp": ("llama_cpp",), "transformers": ("transformers", "torch")}
    return {
        name: sys.executable
        for name, modules in needed.items()
        if all(importlib.util.find_spec(module) is not None for module in modules)
    }


def opens(name: str, path: Path, model: Model) -> bool:
    """Whether a peer reads such a file."""
    if path.is_file():
        return gguf.recognise(path)
    blocks = any(isinstance(p, Quantized) for p in model.params.values())
    published = hasattr(model.architecture, "PUBLISHED") and (path / folder.CONFIG).is_file()
    return name == "transformers" and published and not blocks


def formats(model: Model) -> str:
    """What the matrices are held in, the most numbers first."""
    found: Counter[str] = Counter()
    for p in model.params.values():
        if p.ndim == 2:
            found[p.format.name if isinstance(p, Quantized) else str(p.dtype)] += int(p.size)
    return ", ".join(name for name, _ in found.most_common())


def size_of(path: Path) -> int:
    """The bytes of a file, or of the weights in a folder: its tokenizer and its log are not counted."""
    files = [path] if path.is_file() else [path / name for name in shards.files(path)]
    return sum(file.stat().st_size for file in files)


def _add(program: Measured, python: str, job: dict[str, Any]) -> None:
    """One more round of a program."""
    try:
        found = run(program.name, python, job)
    except OctavoError as error:
        if program.name == "octavo":
            raise
        program.error = str(error)
        return
    program.version = found.pop("version")
    for figure, value in found.items():
        program.figures.setdefault(figure, []).append(value)
