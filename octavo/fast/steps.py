"""A model's step, compiled: a program, and what stands between two of its runs.

``step(tokens, state)`` gives the logits [B, T, V] of ids [B, T], and the state after them, as `forward` does.
A Transformer's cache is written to where it is; what a recurrent model remembers goes in and comes out.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from octavo import nn
from octavo.fast import frame
from octavo.fast.packed import COLUMNS, Packed, address
from octavo.fast.program import Program
from octavo.fast.recorded import Buffer, Feed, Record, Rows
from octavo.nn import Array

KEPT = 3  # memories beside the newest


class CacheStep:
    """Of a Transformer, whose state is a cache in float32 or float16; its rows are those of all tokens."""

    def __init__(self, record: Record, threads: int, cache: str, packs: dict[int, Packed]) -> None:
        self.program, self.before = Program(record, threads, cache, packs), record.before

    def __call__(self, tokens: Array, state: nn.Cache) -> tuple[Array, nn.Cache]:
        """Ids [B, T] and a cache with room for them -> logits [B, T, V], and the cache."""
        return self.run(tokens, state, 0)

    def last(self, tokens: Array, state: nn.Cache) -> tuple[Array, nn.Cache]:
        """As a call, with the logits of the last tokens alone, [B, 1, V]: of one row that is less work."""
        batch, time = tokens.shape
        if batch > 1:
            logits, state = self(tokens, state)
            return logits[:, -1:], state
        return self.run(tokens, state, time - 1)

    def run(self, tokens: Array, state: nn.Cache, first: int) -> tuple[Array, nn.Cache]:
        """Logits are those from row `first` of all rows on."""
        program, (batch, time) = self.program, tokens.shape
        positions = np.ascontiguousarray(state.position[:, None] + np.arange(time), np.int64)
        last = int(positions.max())
        if last >= state.room:
            raise IndexError(f"a cache of {state.room} slots has no room for {last + 1} tokens")
        with program.lock:
            program.make_room(batch * time, state.room)
            program.share(batch * time, state.room)
            program.show(state)
            told = program.frame
            told[frame.TIME], told[frame.ROOM] = time, state.room
            told[frame.POSITIONS], told[frame.CHUNKS] = address(positions), last // frame.CHUNK + 1
            fed, recent = tokens, state.recent
            if recent:
                fed = np.concatenate([recent[0], tokens], axis=1, dtype=np.int32)
                inputs = program.remember(recent[1:], batch)
                recent = (fed[:, -self.before :], *inputs)
            logits = program.run(fed, positions, batch * time, first)
        state = state._replace(position=state.position + time, recent=recent)
        return logits.reshape(batch, -1, logits.shape[1]), state


class Memory:
    """A place for what a recurrent model remembers of some rows."""

    def __init__(self, widths: list[list[tuple[int, int]]], rows: int) -> None:
        self.arrays = [np.zeros((rows, stride), np.float32) for layer in widths for _, stride in layer]
        self.rows, self.at = rows, [address(array) for array in self.arrays]
        arrays = iter(self.arrays)
        self.state = tuple(tuple(next(arrays)[:, :width] for width, _ in layer) for layer in widths)
        self.parts: list[Any] = [
            *self.arrays,  # which a view of a part refers to, not the part
            self.state,
            *filter(None, self.state),
            *(part for layer in self.state for part in layer),
        ]
        self.alone = list(map(sys.getrefcount, self.parts))

    def free(self) -> bool:
        """Whether nobody else has any of it."""
        return list(map(sys.getrefcount, self.parts)) == self.alone

    def fill(self, state: Any) -> None:
        """Remember what somebody else did."""
        for layer, given in zip(self.state, state, strict=True):
            for part, array in zip(layer, given, strict=True):
                part[...] = array


class MemoryStep:
    """Of a recurrent model; one token of each row after the other.

    A state that it gave is used where it is; of others it makes a copy.
    """

    def __init__(self, record: Record, threads: int, packs: dict[int, Packed]) -> None:
        self.program = program = Program(record, threads, packs=packs)
        self.past = [program.slot(buffer) for buffer in record.past]
        self.next = [program.slot(buffer) for layer in record.memory for buffer in layer]
        self.widths = [[(b.width, program.size(b)) for b in layer] for layer in record.memory]
        self.feeds = [(buffer, compute, self.table(buffer, compute)) for buffer, compute in record.feeds]
        self.memories = list[Memory]()
        self.rows = 0

    def __call__(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """Ids [B, T] and what is remembered -> logits [B, T, V], and what will be."""
        batch, time = tokens.shape
        with self.program.lock:
            if time == 1:
                return self.step(tokens, state)
            logits = np.empty((batch, time, self.program.logits.width), np.float32)
            for t in range(time):
                now, state = self.step(tokens[:, t : t + 1], state)
                logits[:, t] = now[:, 0]
            return logits, state

    def step(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """One token of each row, ids [B, 1]."""
        program, numbers, batch = self.program, self.program.frame, len(tokens)
        if batch > self.rows:
            program.make_room(batch, 0)
            self.rows = batch
        before = next((memory for memory in self.memories if memory.state is state), None)
        if before is None:
            before = self.memory(batch)
            before.fill(state)
        after = self.memory(batch, before)
        for slot, at in zip(self.past, before.at, strict=True):
            numbers[slot] = at
        for slot, at in zip(self.next, after.at, strict=True):
            numbers[slot] = at
        self.feed(tokens)
        return program.go(batch)[:, None], after.state

    def memory(self, rows: int, other: Memory | None = None) -> Memory:
        """A free place, which is not the other one."""
        for memory in self.memories:
            if memory.rows == rows and memory is not other and memory.free():
                return memory
        made = Memory(self.widths, rows)
        self.memories = [made, *self.memories[:KEPT]]
        return made

    def table(self, buffer: Buffer, compute: Feed) -> int:
        """The address of the table whose rows are fed as they stand there, or 0."""
        if isinstance(compute, Rows) and buffer.width % COLUMNS == 0 and compute.table.dtype == np.float32:
            self.program.kept.append(compute.table)
            return address(compute.table)
        return 0

    def feed(self, tokens: Array) -> None:
        """Give the program what ids [B, 1] alone say."""
        program = self.program
        for buffer, compute, table in self.feeds:
            if table and len(tokens) == 1:
                program.frame[program.slot(buffer)] = table + 4 * buffer.width * int(tokens[0, 0])
                continue
            if table:
                program.frame[program.slot(buffer)] = address(program.buffers[program.places[buffer.number]])
            program.feed(buffer, compute(tokens, tokens), len(tokens))
