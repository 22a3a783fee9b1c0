"""A recorded forward as a program: compiled instructions, their buffers, and weights laid out for them."""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Any

import numpy as np

from octavo import nn
from octavo.fast import code, frame
from octavo.fast.assigning import barriers, shared, strides
from octavo.fast.packed import KINDS, LANES, LINE, SPACED, Packed, Room, address, pack
from octavo.fast.recorded import Buffer, Constant, Feed, Operation, Record, Rows, Unrecorded
from octavo.fast.team import TEAM
from octavo.nn import Array
from octavo.quant import Quantized

WORDS = 24  # numbers that an instruction has
ALONE = 2  # references to an object in a list that is being asked for them
KEPT = 1  # arrays that a pool remembers beside the one it gives
WIDE = 2**20  # numbers of a table that may be kept once more, as its rows are read


class Pool:
    """Arrays [rows, width] that are given away; one that nobody has any more is given again."""

    def __init__(self, width: int) -> None:
        self.width, self.made = width, list[tuple[Array, int]]()

    def take(self, rows: int) -> tuple[Array, int]:
        """An array that nobody else has, and its address."""
        for pair in self.made:
            if len(pair[0]) == rows and sys.getrefcount(pair[0]) == ALONE:
                return pair
        made = np.zeros((rows, self.width), np.float32)
        self.made = [*self.made[-KEPT:], (made, address(made))]
        return self.made[-1]


class Moves:
    """Numbers of a frame that change from one token to the next, as `octavo.fast.frame` lists them."""

    def __init__(self, told: Array) -> None:
        self.at, self.rows, self.kept = address(told), list[tuple[int, ...]](), list[Array]()
        self.before = [0] * (frame.MIXED - 1)  # the tokens before the first one that is read, the last first

    def add(self, slot: int, array: Array, by_step: int) -> None:
        """The address of an array, and what each step adds to it."""
        self.kept.append(array)
        self.rows.append((self.at + 8 * slot, address(array), by_step, 0, 1, 0, *(0,) * frame.MIXED))

    def add_rows(self, slot: int, table: Array, rows: Rows) -> None:
        """The address of the row of a table that ids name."""
        self.kept.append(table)
        self.rows.append(
            (self.at + 8 * slot, address(table), 0, table.strides[0], rows.modulus, 0, *times(rows))
        )

    def add_widened(self, table: Array, how: int, rows: Rows) -> None:
        """A row of a matrix in panels, which what is at `how` widens as `table` tells it."""
        self.rows.append((0, address(table), 0, 0, rows.modulus, how, *times(rows)))


def times(rows: Rows) -> tuple[int, ...]:
    """How many times each of the last tokens is in the number of a row."""
    return (*rows.times, *(0,) * (frame.MIXED - len(rows.times)))


class Program:
    """A model's forward for so many rows at once; `octavo.fast.steps` makes it a step of the model.

    Parameters
    ----------
    record : Record
        The operations. Their weights are laid out anew here; what is written to them later does not count.
    threads : int
        How many threads run it. They do not change a bit of what it gives, nor do the other rows.
    cache : {"float32", "float16"}
        What its keys and values are kept in, where it has any.
    packs : dict, optional
        The weights of another program of the same record, laid out.

    Raises
    ------
    Unrecorded
        If there is no instruction for an operation.
    """

    def __init__(
        self, record: Record, threads: int, cache: str = "float32", packs: dict[int, Packed] | None = None
    ) -> None:
        if record.logits is None:
            raise Unrecorded("a forward without logits")
        if cache not in frame.CACHES:
            raise Unrecorded(f"a cache in {cache}")
        self.threads, self.logits, self.cache = threads, record.logits, cache
        self.feeds = [(buffer, fed) for buffer, fed in record.feeds if not isinstance(fed, Constant)]
        self.constants = [(buffer, fed) for buffer, fed in record.feeds if isinstance(fed, Constant)]
        self.kept = list[Any]()  # what instructions hold addresses of
        self.packs, self.room = dict[int, Packed]() if packs is None else packs, Room(threads)
        self.places, self.sizes = shared(record)
        self.strides = strides(record, self.places, self.sizes)
        self.prepared = 0  # most numbers of a row that is prepared for a product
        self.part = self.heads = 0  # most numbers of a part, and heads
        operations = record.operations
        self.words = np.zeros((len(operations), WORDS), np.int64)
        self.counters = np.zeros((len(operations), SPACED), np.int64)
        self.layers = sum(op.name == "append" for op in operations)  # keys and values: two a layer
        convs = (op.constants for op in operations if op.name == "causal_conv")
        self.convs = [c["weight"].shape for c in sorted(convs, key=lambda c: c["inputs"])]
        self.inputs: list[Array] = []  # what they remember, while their addresses are told
        last = max((i for i, op in enumerate(operations) if op.name in frame.OF_OTHERS), default=-1)
        for i, (op, waits) in enumerate(zip(operations, barriers(operations, self.places), strict=True)):
            name, own = self.instruction(op)
            counter = address(self.counters) + self.counters.strides[0] * i
            self.words[i, : frame.OWN] = code.address(name), waits, counter, i > last
            self.words[i, frame.OWN : frame.OWN + len(own)] = own
        self.room.fill()
        self.tables = dict[int, Array]()
        self.widened = {
            buffer.number: self.widening(buffer, self.packs[id(fed.table)])
            for buffer, fed in self.feeds
            if isinstance(fed, Rows) and fed.times == (1,) and id(fed.table) in self.packs
            if self.table(buffer, fed) is None
        }
        addresses = len(self.sizes) + self.layers + 2 * len(self.convs)
        self.frame = np.zeros(frame.BUFFERS + addresses, np.int64)
        self.rows, self.scratch = 0, np.zeros((threads, 0), np.uint8)
        self.parts: Array = np.empty(0, np.float32)
        self.done: Array = np.zeros(0, np.int64)
        self.told = TEAM.told(self.frame, self.words)
        self.pool = Pool(self.size(self.logits))
        self.own = Pool(self.size(self.logits)).take(1)
        self.slots: tuple[int, Any] = 0, None
        self.lock = threading.Lock()

    # ------------------------------------------------------------ making

    def instruction(self, op: Operation) -> tuple[str, list[int]]:
        """The name of what computes an operation, and its own arguments."""
        c, name = op.constants, op.name
        where = [n for buffer in op.buffers for n in self.place(buffer)]
        if name == "linear":
            packed = self.packed(c["weight"])
            panels, blocks = packed.panels.shape
            row = packed.kind.group + packed.kind.offsets  # of each block: its columns, and their sum
            self.prepared = max(self.prepared, blocks * row)
            bias = 0 if c["bias"] is None else self.keep(np.pad(c["bias"], (0, -len(c["bias"]) % LANES)))
            own = [address(packed.panels), panels, blocks, bias]
            return frame.multiply(KINDS.index(packed.kind)), [*where, *own]
        if name == "append":
            return frame.append(self.cache), [*where, len(self.sizes) + c["slots"], c["width"]]
        if name == "attention":
            columns = next(n for n in frame.AT_ONCE if c["width"] % n == 0)
            self.part, self.heads = max(self.part, c["width"] + 2), max(self.heads, c["heads"])
            slots = [len(self.sizes) + c["keys"], len(self.sizes) + c["values"]]
            own = [*slots, c["heads"], c["groups"], c["width"], c["window"], self.keep(c["scale"])]
            return frame.attention(self.cache, columns), [*where, *own]
        if name == "causal_conv":
            taps, width = c["weight"].shape
            inputs = self.input(c["inputs"]) - frame.BUFFERS
            return name, [*where, width, self.keep(c["weight"]), taps - 1, inputs]
        if name in (*frame.SINGLES, *frame.PAIRS):
            return name, [*where, op.reads[0].width, self.keep(c["cap"]) if "cap" in c else 0]
        if name in ("rms_norm", "layer_norm"):
            own = [0 if n is None else self.keep(n) for n in (c["eps"], c["gain"], c.get("bias"))]
            return name, [*where, c["width"], op.reads[0].width // c["width"], *own]
        if name == "rotate":
            return name, [*where, c["width"], c["heads"]]
        raise Unrecorded(name)

    def place(self, buffer: Buffer) -> tuple[int, int, int]:
        """Number, offset and stride."""
        place = self.places[buffer.number]
        return place, buffer.offset, self.strides[place]

    def keep(self, numbers: Any) -> int:
        """The address of numbers in float32 that stay where they are."""
        self.kept.append(np.atleast_1d(np.array(numbers, np.float32)))
        return address(self.kept[-1])

    def packed(self, weight: Array) -> Packed:
        """A weight laid out, once for all who use it."""
        if id(weight) not in self.packs:
            self.kept.append(weight)  # so that no other has its id
            self.packs[id(weight)] = pack(weight, code.halves(), self.room)
        return self.packs[id(weight)]

    # ------------------------------------------------------------ running

    def run(self, tokens: Array, where: Array, rows: int, first: int = 0) -> Array:
        """Run it for ids and their positions [B, T]; logits of the rows from `first` on."""
        for buffer, compute in self.feeds:
            self.feed(buffer, compute(tokens, where), rows)
        return self.go(rows, first)

    def feed(self, buffer: Buffer, fed: Array, rows: int) -> None:
        """Write what is given [.., width] into the rows of a buffer."""
        part = self.buffers[self.places[buffer.number]][:rows, : buffer.width]
        part[...] = fed if fed.ndim == 1 else fed.reshape(part.shape)

    def go(self, rows: int, first: int = 0) -> Array:
        """Run it with what its buffers hold."""
        (given, at), numbers = self.pool.take(rows - first), self.frame
        numbers[frame.ROWS], numbers[frame.FIRST] = rows, first
        numbers[self.slot(self.logits)] = at - 4 * given.shape[1] * first
        TEAM.run(self.told, self.threads)
        return given[:, : self.logits.width]

    def alone(self) -> int:
        """Have it run for one row, and give its logits where they always are -> that address."""
        (_, at), told = self.own, self.frame
        told[frame.ROWS], told[frame.FIRST], told[self.slot(self.logits)] = 1, 0, at
        return at

    def moves(self, tokens: Array, positions: Array) -> Moves:
        """How one token after the other is fed, at positions [1, T]: the last of `tokens`, and what is drawn.

        The others [1, before + 1] are those that are remembered. Where a table has to be read here, because
        it is too large and no matrix of a product, T is 1.
        """
        made = Moves(self.frame)
        earlier = tokens[0, -2 : -frame.MIXED - 1 : -1].tolist()
        made.before[: len(earlier)] = earlier
        for buffer, compute in self.feeds:
            table = self.table(buffer, compute)
            if isinstance(compute, Rows) and table is not None:
                made.add_rows(self.slot(buffer), table, compute)
                continue
            if isinstance(compute, Rows) and buffer.number in self.widened:
                told, room, how = self.widened[buffer.number]
                self.frame[self.slot(buffer)] = address(room)
                made.add_widened(told, how, compute)
                continue
            fed = compute(tokens, positions)
            rows = np.zeros((positions.size, self.size(buffer)), np.float32)
            rows[:, : buffer.width] = fed if fed.ndim == 1 else fed.reshape(positions.size, -1)
            made.add(self.slot(buffer), rows, rows.strides[0])
        return made

    def widening(self, buffer: Buffer, packed: Packed) -> tuple[Array, Array, int]:
        """Of a table that is laid out, being a product's too: what is told, where a row goes, and how."""
        blocks = packed.panels.shape[1]
        room = np.zeros(max(blocks * packed.kind.group, self.size(buffer)), np.float32)
        told = np.array([address(packed.panels), blocks, address(room)])
        return told, room, code.address(frame.widen(KINDS.index(packed.kind)))

    def table(self, buffer: Buffer, compute: Feed) -> Array | None:
        """A table whose rows ids name, filled up as the buffer's; None where that is too large."""
        if not isinstance(compute, Rows) or len(compute.times) > frame.MIXED:
            return None
        if buffer.number not in self.tables:
            table, size = compute.table, self.size(buffer)
            if isinstance(table, Quantized) or size > buffer.width:
                if len(table) * size > WIDE:
                    return None
                table = np.pad(np.asarray(table), ((0, 0), (0, size - buffer.width)))
            self.tables[buffer.number] = table
        return self.tables[buffer.number]

    def ahead(self) -> bool:
        """Whether all that is fed to several tokens is known before they are."""
        return all(
            not isinstance(compute, Rows)
            or buffer.number in self.widened
            or self.table(buffer, compute) is not None
            for buffer, compute in self.feeds
        )

    def size(self, buffer: Buffer) -> int:
        """The width of a buffer with what it is filled up by."""
        return self.sizes[self.places[buffer.number]]

    def slot(self, buffer: Buffer) -> int:
        """Where in the frame the address of a buffer is."""
        return frame.BUFFERS + self.places[buffer.number]

    def make_room(self, rows: int, room: int) -> None:
        """Buffers for so many rows, and scratch for each thread: all rows prepared, or the scores of one."""
        if rows > self.rows:
            self.rows = rows
            own = self.places[self.logits.number]
            self.buffers = [
                np.zeros((0 if i == own else rows, n), np.float32) for i, n in enumerate(self.sizes)
            ]
            self.addresses = [address(buffer) for buffer in self.buffers]
            self.point()
            for buffer, constant in self.constants:
                self.feed(buffer, constant.row, rows)
        parts = -(-room // frame.CHUNK) * self.part  # of a head
        need = 4 * max(self.rows * self.prepared, self.heads * (frame.CHUNK + parts)) + LINE
        if self.scratch.shape[1] < need:
            self.scratch = np.zeros((self.threads, need), np.uint8)
            self.frame[frame.THREADS] = self.threads
            self.frame[frame.SCRATCH], self.frame[frame.SCRATCH_SIZE] = address(self.scratch), need

    def point(self) -> None:
        """Have the frame say where the buffers are."""
        self.frame[frame.BUFFERS : frame.BUFFERS + len(self.sizes)] = self.addresses

    def share(self, rows: int, room: int) -> None:
        """Room for the parts of attention that threads share, unless there are rows enough for all."""
        chunks = -(-room // frame.CHUNK)
        apart = chunks > 1 and rows < frame.PIECES * self.threads
        need = rows * self.heads, rows * self.heads * chunks * self.part
        if apart and (self.done.size < need[0] or self.parts.size < need[1]):
            self.parts, self.done = np.empty(need[1], np.float32), np.zeros(need[0], np.int64)
            self.frame[frame.DONE] = address(self.done)
        self.frame[frame.PARTS] = address(self.parts) if apart else 0

    def show(self, state: nn.Cache) -> None:
        """Tell the instructions where the cache is, unless they know."""
        known, alive = self.slots
        if known == id(state.keys) and alive() is state.keys[0]:
            return
        pairs = zip(state.keys, state.values, strict=True)
        slots = [part for pair in pairs for part in pair]
        if not all(part.dtype == self.cache and part.flags.c_contiguous for part in slots):
            raise ValueError(f"a cache is contiguous arrays of {self.cache}")
        start = frame.BUFFERS + len(self.sizes)
        self.frame[start : start + self.layers] = [address(part) for part in slots]
        self.slots = id(state.keys), weakref.ref(state.keys[0])

    def input(self, conv: int) -> int:
        """Where in the frame the address is of what a convolution remembers; where it writes is the next."""
        return frame.BUFFERS + len(self.sizes) + self.layers + 2 * conv

    def remember(self, inputs: tuple[Array, ...], batch: int) -> tuple[Array, ...]:
        """Tell convolutions what they remember, [B, taps - 1, D] each -> where they will write the next."""
        self.inputs = [np.ascontiguousarray(array, np.float32) for array in inputs]
        made = tuple(np.empty((batch, taps - 1, width), np.float32) for taps, width in self.convs)
        pairs = zip(self.inputs, made, strict=True)
        self.frame[self.input(0) :] = [address(array) for pair in pairs for array in pair]
        return made
