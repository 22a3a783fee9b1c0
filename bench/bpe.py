"""Byte pairs side by side: training against Hugging Face's trainer, encoding against tiktoken.

    python bench/bpe.py --text PATH/tinyshakespeare.txt --vocab-size 1024 --repeat 5

Runs alternate, so that both sides meet the same weather, and medians are compared. Hugging
Face's trainer gets the same text in one string, the same pattern and all 256 bytes; a text
fed line by line keeps its library's cores busy, but splits blank lines differently.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import tiktoken
from rich.console import Console
from rich.table import Table
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from octavo.tokenizers import GPT2, train_bpe


def peer_trained(lines: list[str], vocab_size: int) -> Tokenizer:
    """What Hugging Face's trainer makes of a text."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GPT2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=0,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tok.train_from_iterator(lines, trainer)
    return tok


def alternating(repeat: int, *sides: Callable[[], object]) -> list[float]:
    """The median seconds of each side, run in turn."""
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(repeat):
        for side, times in zip(sides, seconds, strict=True):
            began = time.perf_counter()
            side()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in seconds]


def main() -> None:
    """Print one row per comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, help="a UTF-8 text file")
    parser.add_argument("--vocab-size", type=int, nargs="+", default=[1024, 8192])
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    text = options.text.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)

    table = Table(
        "work",
        "octavo, s",
        "peer, s",
        "octavo / peer",
        title=f"{options.text.name}, {len(text):,} characters",
    )

    def row(work: str, ours: float, theirs: float) -> None:
        table.add_row(work, f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.2f}")

    for size in options.vocab_size:
        ours, whole, by_line = alternating(
            options.repeat,
            lambda size=size: train_bpe(text, size),
            lambda size=size: peer_trained([text], size),
            lambda size=size: peer_trained(lines, size),
        )
        row(f"train {size}, tokenizers", ours, whole)
        row(f"train {size}, tokenizers by line", ours, by_line)

    tok = train_bpe(text, options.vocab_size[0])
    peer = tiktoken.Encoding(
        "peer",
        pat_str=GPT2,
        mergeable_ranks={token: id for id, token in enumerate(tok.tokens)},
        special_tokens={},
    )
    ids = tok.encode(text)
    assert ids == peer.encode_ordinary(text)
    row(
        "encode, tiktoken",
        *alternating(options.repeat, lambda: tok.encode(text), lambda: peer.encode_ordinary(text)),
    )
    row("decode, tiktoken", *alternating(options.repeat, lambda: tok.decode(ids), lambda: peer.decode(ids)))
    long = text * max(1, 10_000_000 // len(text))
    row(
        f"encode {len(long) / 1e6:.0f} million characters, tiktoken",
        *alternating(1, lambda: tok.encode(long), lambda: peer.encode_ordinary(long)),
    )
    Console().print(table)


if __name__ == "__main__":
    main()
