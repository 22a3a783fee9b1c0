"""A record: what a model computes for a row, as a list of operations on numbered buffers.

What depends on ids and positions alone (embeddings, angles) is kept as a feed: a function that NumPy
computes. `octavo.fast.recording` makes records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from octavo import nn
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
class Rows:
    """A feed: the rows of a table that the ids name. Where none is remembered, no other depends on ids."""

    table: Array

    def __call__(self, tokens: Array, positions: Array) -> Array:
        """[B, T] -> [B, T, width]."""
        return nn.embed(tokens, self.table)


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
