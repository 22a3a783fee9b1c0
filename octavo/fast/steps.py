"""A model's step, compiled: a program, and what stands between two of its runs.

``step(tokens, state)`` gives the logits [B, T, V] of ids [B, T], and the state after them, as `forward` does.
A Transformer's cache is written to where it is; what a recurrent model remembers goes in and comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from octavo import nn
from octavo.fast import frame
from octavo.fast.packed import Packed, address
from octavo.fast.program import Moves, Program
from octavo.fast.recorded import Record
from octavo.nn import Array


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
        with program.lock:
            self.tell(state, batch * time, time, last)
            program.frame[frame.POSITIONS] = address(positions)
            fed, recent = tokens, state.recent
            if recent:
                fed = np.concatenate([recent[0], tokens], axis=1, dtype=np.int32)
                recent = (fed[:, -self.before :], *program.remember(recent[1:], batch))
            logits = program.run(fed, positions, batch * time, first)
        state = state._replace(position=state.position + time, recent=recent)
        return logits.reshape(batch, -1, logits.shape[1]), state

    def tell(self, state: nn.Cache, rows: int, time: int, last: int) -> None:
        """What the program is told of a cache that is read up to position `last`."""
        program = self.program
        if last >= state.room:
            raise IndexError(f"a cache of {state.room} slots has no room for {last + 1} tokens")
        program.make_room(rows, state.room)
        program.share(rows, state.room)
        program.show(state)
        told = program.frame
        told[frame.TIME], told[frame.ROOM], told[frame.CHUNKS] = time, state.room, last // frame.CHUNK + 1

    def ready(self, last: int, state: nn.Cache, ids: Array) -> tuple[Moves, Callable[[int], nn.Cache]]:
        """How one row's tokens are read one after the other, and the cache after so many of them.

        The tokens that are drawn go to `ids`, and are there when somebody asks for a cache.
        """
        positions = int(state.position[0]) + np.arange(len(ids), dtype=np.int64)
        self.tell(state, 1, 1, int(positions[-1]))
        before, *inputs = state.recent or (np.zeros((1, 0), np.int32),)
        known = np.append(before, [[last]], axis=1)
        moves = self.program.moves(known, positions[None])
        moves.add(frame.POSITIONS, positions, positions.itemsize)
        if not state.recent:
            return moves, lambda read: state._replace(position=state.position + read)
        convs = [np.zeros((1 + len(ids), *array.shape[1:]), np.float32) for array in inputs]
        for i, (array, conv) in enumerate(zip(inputs, convs, strict=True)):
            conv[0] = array[0]
            moves.add(self.program.input(i), conv, conv.strides[0])
            moves.add(self.program.input(i) + 1, conv[1:], conv.strides[0])

        def after(read: int) -> nn.Cache:
            written = np.append(known, ids[: read - 1])[-self.before :]
            recent = (written.astype(before.dtype)[None], *(conv[read : read + 1] for conv in convs))
            return state._replace(position=state.position + read, recent=recent)

        return moves, after


class MemoryStep:
    """Of a recurrent model; one token of each row after the other.

    What all layers remember of a row stands side by side, and a state is made of views of it.
    """

    def __init__(self, record: Record, threads: int, packs: dict[int, Packed]) -> None:
        self.program = program = Program(record, threads, packs=packs)
        self.past = [program.slot(buffer) for buffer in record.past]
        self.next = [program.slot(buffer) for layer in record.memory for buffer in layer]
        parts = [buffer for layer in record.memory for buffer in layer]
        *starts, self.size = np.cumsum([0, *map(program.size, parts)]).tolist()
        self.starts = np.array(starts)
        self.columns = [slice(n, n + part.width) for n, part in zip(starts, parts, strict=True)]
        ends = np.cumsum([len(layer) for layer in record.memory])
        self.layers = [slice(end - len(layer), end) for end, layer in zip(ends, record.memory, strict=True)]

    def __call__(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """Ids [B, T] and what is remembered -> logits [B, T, V], and what will be."""
        program, (batch, time) = self.program, tokens.shape
        with program.lock:
            program.make_room(batch, 0)
            places = self.remembered(state, batch, 2)  # before a token and after it, in turn
            if time == 1:
                return self.step(tokens, places, 0)[:, None], self.state(places, 1)
            logits = np.empty((batch, time, program.logits.width), np.float32)
            for t in range(time):
                logits[:, t] = self.step(tokens[:, t : t + 1], places, t % 2)
            return logits, self.state(places, time % 2)

    def step(self, tokens: Array, places: Array, before: int) -> Array:
        """One token of each row, ids [B, 1]."""
        frame, stride = self.program.frame, places.strides[0]
        at = address(places) + places.itemsize * self.starts
        frame[self.past], frame[self.next] = at + stride * before, at + stride * (1 - before)
        return self.program.run(tokens, tokens, len(tokens))

    def ready(self, last: int, state: Any, ids: Array) -> tuple[Moves, Callable[[int], Any]]:
        """How one row's tokens are read one after the other, and the state after so many of them."""
        program, count = self.program, len(ids)
        program.make_room(1, 0)
        places = self.remembered(state, 1, 1 + count)
        moves = program.moves(np.array([[last]]), np.zeros((1, count), int))
        for past, next, start in zip(self.past, self.next, self.starts, strict=True):
            moves.add(past, places[0, 0, start:], places.strides[0])
            moves.add(next, places[1, 0, start:], places.strides[0])
        return moves, lambda read: self.state(places, read)

    def remembered(self, state: Any, rows: int, times: int) -> Array:
        """Room for what is remembered so many times [times, rows, all layers'], the first time as given."""
        places = np.zeros((times, rows, self.size), np.float32)
        given = [array for layer in state for array in layer]
        for columns, array in zip(self.columns, given, strict=True):
            places[0, :, columns] = array
        return places

    def state(self, places: Array, time: int) -> Any:
        """What is remembered then."""
        parts = [places[time, :, columns] for columns in self.columns]
        return tuple([tuple(parts[layer]) for layer in self.layers])
