"""Which buffer each activation gets, and which instructions wait for those before them.

Activations that do not live at the same time share a buffer. An instruction waits for those before it only
where it reads what they write, or writes what they use.
"""

from __future__ import annotations

from typing import Any

from octavo.fast import frame
from octavo.fast.packed import COLUMNS
from octavo.fast.recorded import Operation, Record


def shared(record: Record) -> tuple[list[int], list[int]]:
    """Which of few buffers each activation gets -> the number for each, and the widths of the few.

    What is fed, the logits, and what a recurrent model will remember, have buffers of their own. Others share
    one if they write the same columns. A product reads whole blocks of them, so what is behind an activation
    has to be zeros, which nobody writes there but a product, and it writes NaN where its row of x has one.
    """
    widths = [-(-width // COLUMNS) * COLUMNS for width in record.widths]
    written = list(record.widths)
    for op in record.operations:
        if op.name == "linear" and op.write:  # whole panels
            written[op.write.number] = widths[op.write.number]
    ends = {buffer.number: i for i, op in enumerate(record.operations) for buffer in op.buffers}
    places, sizes = [-1] * len(widths), list[int]()
    free: dict[int, list[int]] = {}
    alone = {buffer.number for buffer, _ in record.feeds}
    alone |= {buffer.number for layer in (record.past, *record.memory) for buffer in layer}
    if record.logits:
        alone.add(record.logits.number)
    for number in sorted(alone):
        places[number] = len(sizes)
        sizes.append(widths[number])
    for i, op in enumerate(record.operations):
        for number in (buffer.number for buffer in op.buffers if places[buffer.number] < 0):
            if not free.get(written[number]):
                free[written[number]] = [len(sizes)]
                sizes.append(widths[number])
            places[number] = free[written[number]].pop()
        for number in {buffer.number for buffer in op.buffers} - alone:
            if ends[number] == i:
                free.setdefault(written[number], []).append(places[number])
    return places, sizes


def strides(record: Record, places: list[int], sizes: list[int]) -> list[int]:
    """From row to row of each buffer; of what a recurrent model remembers, all layers' stand side by side."""
    remembered = [places[buffer.number] for layer in record.memory for buffer in layer]
    past = [places[buffer.number] for buffer in record.past]
    whole = sum(sizes[place] for place in remembered)
    return [whole if place in (*past, *remembered) else size for place, size in enumerate(sizes)]


def barriers(operations: list[Operation], places: list[int]) -> list[bool]:
    """Which operations have to wait for those before them.

    Those that a thread computes of the same rows, always, do not wait for each other.
    """
    found = list[bool]()
    done = {False: (set[Any](), set[Any]()), True: (set[Any](), set[Any]())}  # by rows: read, written
    for op in operations:
        reads: set[Any] = {places[buffer.number] for buffer in op.reads}
        writes: set[Any] = {places[op.write.number]} if op.write else set()
        writes |= {("slots", op.constants["slots"])} if op.name == "append" else set()
        writes |= {"parts"} if op.name == "attention" else set()
        reads |= {("slots", op.constants[name]) for name in ("keys", "values") if op.name == "attention"}
        by_rows = op.name in frame.BY_ROWS
        others = [done[False]] if by_rows else done.values()
        waits = any(reads & written or writes & (read | written) for read, written in others)
        if waits:
            done = {False: (set(), set()), True: (set(), set())}
        done[by_rows][0].update(reads)
        done[by_rows][1].update(writes)
        found.append(waits)
    return found
