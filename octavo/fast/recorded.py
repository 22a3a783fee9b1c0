"""A record: what a model computes for a row, as a list of operations on numbered buffers.

What depends on ids and positions alone (embeddings, angles) is kept as a feed, which NumPy computes: a
function, the rows of a table, or numbers that are always the same. `octavo.fast.recording` makes records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from octavo import nn
from octavo.fast.frame import WRAP
from octavo.nn import Array


class Unrecorded(Exception):  # noqa: N818 (no mistake: the equations take over)
    """The forward does something that there is no instruction for."""


class Buffer(NamedTuple):
    """Where an activation is: a number, and of a row of it the first column and how many."""

    number: int
    offset: int
    width: int


class Operation(NamedTuple):
    """An operation of `octavo.nn`, what it reads and writes, and what else it needs."""

    name: str
    reads: tuple[Buffer, ...]
    write: Buffer | None
    constants: dict[str, Any]

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """What it reads, then what it writes."""
        return (*self.reads, self.write) if self.write else self.reads


Feed = Callable[[Array, Array], Array]
"""Ids [B, before + T], with those remembered, and positions [B, T] -> an activation [B, T, ...]."""


@dataclass(frozen=True)
class Constant:
    """A feed: numbers that neither ids nor positions change."""

    row: Array

    def __call__(self, tokens: Array, positions: Array) -> Array:
        """[B, before + T], [B, T] -> [width], for all of them."""
        return self.row


@dataclass(frozen=True)
class Rows:
    """A feed: the rows of a table that ids name. No other depends on ids.

    A row's number is a sum of the id, the one before, and so on, so many times each, in 32 bits, and what is
    left of it when it is divided by `modulus`.
    """

    table: Array
    times: tuple[int, ...] = (1,)
    modulus: int = WRAP

    def __call__(self, tokens: Array, positions: Array) -> Array:
        """[B, before + T], [B, T] -> [B, T, width]."""
        end, time = tokens.shape[1], positions.shape[1]
        if (self.times, self.modulus) == ((1,), WRAP):
            return nn.embed(tokens[:, end - time :], self.table)
        rows = np.zeros(positions.shape, np.int64)
        for back, times in enumerate(self.times):
            rows += times * tokens[:, end - time - back : end - back].astype(np.int64)
        return nn.embed(rows % WRAP % self.modulus, self.table)


@dataclass
class Record:
    """The operations of a forward, in order."""

    operations: list[Operation] = field(default_factory=list)
    feeds: list[tuple[Buffer, Feed]] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)  # of each buffer
    logits: Buffer | None = None
    before: int = 0  # ids that a cache remembers
    past: list[Buffer] = field(default_factory=list)  # what a recurrent model remembers
    memory: list[list[Buffer]] = field(default_factory=list)  # and what it will, by layer

    def buffer(self, width: int) -> Buffer:
        """A new buffer."""
        self.widths.append(width)
        return Buffer(len(self.widths) - 1, 0, width)

    def finish(self, logits: Buffer) -> None:
        """Say what the forward gives; feeds that nobody read go."""
        self.logits = logits
        read = {buffer.number for op in self.operations for buffer in op.reads}
        self.feeds = [(buffer, compute) for buffer, compute in self.feeds if buffer.number in read]
