"""One program that writes with a model, measured in a process of its own, as `octavo.bench` starts it.

    python -P octavo/engines.py NAME

A job comes as a line of JSON on standard input, and lines of JSON go back: when the model is open, when
its first token is there, and what was measured. A peer needs no octavo: nothing else of this package is
imported, except to measure octavo itself.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

WARM = 4  # tokens that are written before those that are timed
STREAMED, REPEATS = 2**28, 5  # bytes that `memory` reads, and how often
TOGETHER = 16  # sequences
STATUS = Path("/proc/self/status")


class Engine(NamedTuple):
    """A program with a model open."""

    version: str
    read: Callable[[list[int]], None]  # a new text, until its next token could be told
    write: Callable[[int], None]  # so many tokens more, each by a step of its own
    together: Callable[[list[list[int]], int], float] | None = None
    """Reads texts, then writes so many tokens of each, one of every text at a time -> seconds of writing."""


def octavo(job: dict[str, Any]) -> Engine:
    """`octavo.tokens`, the draw of each token included."""
    import octavo

    model = octavo.load(job["path"], threads=job["threads"])
    drawn: Iterator[Any] = iter(())

    def read(ids: list[int]) -> None:
        nonlocal drawn
        drawn = octavo.tokens(model, ids, limit=max(job["room"] - len(ids), 1), temperature=0)
        next(drawn)

    def write(count: int) -> None:
        for _ in range(count):
            next(drawn)

    def together(texts: list[list[int]], count: int) -> float:
        batched, sample = import_module("octavo.batched"), import_module("octavo.sample")
        batch = batched.Batch(model)
        for ids in texts:
            batch.join(ids, sample.Sampling(temperature=0), limit=count + WARM)
        for _ in range(WARM):
            batch.draw()
        return _seconds(lambda: [batch.draw() for _ in range(count)])

    return Engine(octavo.__version__, read, write, together)


def llama_cpp(job: dict[str, Any]) -> Engine:
    """llama-cpp-python, its evaluation alone: no token is drawn."""
    llama_cpp: Any = import_module("llama_cpp")
    counts = {"n_threads": job["threads"], "n_threads_batch": job["threads"]}
    model = llama_cpp.Llama(job["path"], n_ctx=job["room"], n_gpu_layers=0, verbose=False, **counts)

    def evaluate(ids: list[int]) -> None:
        model.eval(ids)
        llama_cpp.llama_synchronize(model.ctx)

    def read(ids: list[int]) -> None:
        model.reset()
        evaluate(ids)

    def write(count: int) -> None:
        for at in range(count):
            evaluate([job["prompt"][at % len(job["prompt"])]])

    def together(texts: list[list[int]], count: int) -> float:
        return _batched(llama_cpp, model, job, texts, count)

    return Engine(llama_cpp.__version__, read, write, together)


def _batched(library: Any, model: Any, job: dict[str, Any], texts: list[list[int]], count: int) -> float:
    """Several sequences in a context of their own, as llama.cpp's batched-bench has it."""
    settings = library.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max = len(texts) * (len(texts[0]) + count), len(texts)
    settings.n_batch = settings.n_ubatch = 512
    settings.n_threads = settings.n_threads_batch = job["threads"]
    context = library.llama_init_from_model(model.model, settings)
    batch = library.llama_batch_init(512, 0, 1)

    def decode(rows: list[tuple[int, int, int]]) -> None:
        """Tokens with their places and sequences; the logits of each are asked for."""
        batch.n_tokens = len(rows)
        for i, (token, place, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, place, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if library.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        library.llama_synchronize(context)

    for sequence, ids in enumerate(texts):
        decode([(token, place, sequence) for place, token in enumerate(ids)])
    started = time.perf_counter()
    for at in range(count):
        decode([(ids[at % len(ids)], len(ids) + at, sequence) for sequence, ids in enumerate(texts)])
    seconds = time.perf_counter() - started
    library.llama_batch_free(batch)
    library.llama_free(context)
    return seconds


def transformers(job: dict[str, Any]) -> Engine:
    """Transformers on PyTorch in float32, its forward pass alone; a GGUF file is widened."""
    torch: Any = import_module("torch")
    library: Any = import_module("transformers")
    torch.set_num_threads(job["threads"])
    path = Path(job["path"])
    where = {"gguf_file": path.name} if path.is_file() else {}
    folder = path.parent if path.is_file() else path
    options = {"dtype": torch.float32, "local_files_only": True, **where}
    model = library.AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    past: Any = None

    def step(ids: list[int]) -> None:
        nonlocal past
        with torch.inference_mode():
            found = model(torch.tensor([ids]), past_key_values=past, use_cache=True, logits_to_keep=1)
        past = found.past_key_values

    def read(ids: list[int]) -> None:
        nonlocal past
        past = None
        step(ids)

    def write(count: int) -> None:
        for at in range(count):
            step([job["prompt"][at % len(job["prompt"])]])

    return Engine(f"{library.__version__}, PyTorch {torch.__version__}", read, write)


def figures(engine: Engine, job: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What is measured of an open engine, by name: tokens a second, and bytes of memory at most."""
    engine.read(job["prompt"][: len(job["prompt"]) // 4 + 1])
    if "prompt" in job["asked"]:
        yield "prompt", len(job["prompt"]) / _seconds(lambda: engine.read(job["prompt"]))
    if "decode" in job["asked"]:
        yield "decode", _written(engine, job["short"], job["count"])
    if "long" in job["asked"]:
        yield "long", _written(engine, job["long"], job["count"])
    if "together" in job["asked"] and engine.together is not None:
        texts = [(job["prompt"][i:] + job["prompt"])[: job["shared"]] for i in range(TOGETHER)]
        yield "together", TOGETHER * job["count"] / engine.together(texts, job["count"])
    yield "peak", peak()


def _written(engine: Engine, ids: list[int], count: int) -> float:
    """Tokens a second after a text."""
    engine.read(ids)
    engine.write(WARM)
    return count / _seconds(lambda: engine.write(count))


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak() -> float:
    """The most memory that this process has had, in bytes; where the system does not tell, 0."""
    if STATUS.exists():  # of this program alone, where `getrusage` remembers what started it too
        lines = (line.split() for line in STATUS.read_text().splitlines())
        return next(1024.0 * int(line[1]) for line in lines if line[0] == "VmHWM:")
    try:
        import resource
    except ImportError:
        return 0.0
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (
        1 if sys.platform == "darwin" else 1024
    )


def memory(job: dict[str, Any]) -> float:
    """Bytes a second that NumPy reads of an array larger than caches, on so many threads at once."""
    import numpy as np

    array = np.ones(STREAMED // 4, np.float32)
    parts = np.array_split(array, job["threads"])
    times = []
    for _ in range(REPEATS):
        threads = [threading.Thread(target=np.dot, args=(part, part)) for part in parts]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        times.append(time.perf_counter() - started)
    return array.nbytes / sorted(times)[REPEATS // 2]


ENGINES = {"octavo": octavo, "llama_cpp": llama_cpp, "transformers": transformers}


def say(**told: Any) -> None:
    """One line of JSON, at once."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main(name: str, job: dict[str, Any]) -> None:
    """Do a job and tell of it."""
    warnings.simplefilter("ignore")
    if name == "memory":
        say(figures={"memory": memory(job)})
        return
    engine = ENGINES[name](job)
    say(ready=engine.version)
    engine.read(job["short"])
    say(first=True)
    say(figures=dict(figures(engine, job)))


if __name__ == "__main__":
    try:
        main(sys.argv[1], json.loads(sys.stdin.readline()))
    except Exception as error:  # whatever a peer has to say
        say(error=f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None
