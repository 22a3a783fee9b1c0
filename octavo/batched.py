"""Many sequences decoded together, each as it would be alone.

A weight that has been fetched for one row of a batch serves them all, so a step for many sequences costs
little more than a step for one. Each row has its own prompt, options, random numbers and end, and its own
position in the cache; rows join and leave between two steps. A prompt is read by itself, all but its last
token, and its state put into a row: then every row has one token to read. What prompts begin with alike is
read once where one follows the other.

Not here: text (`octavo.completions`), and guesses (`lookup`), which are of one sequence at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from octavo import nn, prefill
from octavo.decoding import check, warn
from octavo.model import Model, with_room
from octavo.prefill import Memory, Reading
from octavo.sample import Draws, Sampling, Token
from octavo.twins import Hurry, stepper, twins_of

FIRST_ROOM = 128  # tokens to write, of each row


class Row:
    """A sequence in a batch: what is read of it, its draws, and when it ends.

    Attributes
    ----------
    ids : list of int
        What its state has read, and the one token that it reads next.
    left : int
        How many tokens may still be drawn.
    stop : frozenset of int
        Tokens that end it.
    draws : Draws
        Its sampling options and random numbers.
    """

    def __init__(self, ids: list[int], limit: int, stop: frozenset[int], draws: Draws) -> None:
        self.ids, self.left, self.stop, self.draws = ids, limit, stop, draws

    @property
    def room(self) -> int:
        """How many tokens its state is to have room for at first; nobody reads the last that is drawn."""
        return len(self.ids) + min(self.left - 1, FIRST_ROOM)


class Batch:
    """Sequences that are continued together.

    Parameters
    ----------
    model : Model
        What continues them.
    cache, slide
        As for `octavo.tokens`, of all rows.

    Examples
    --------
    >>> import octavo
    >>> model = octavo.load("bard")
    >>> batch = Batch(model)
    >>> first = batch.join([3, 1, 4], Sampling(seed=1), limit=2)
    >>> second = batch.join([1, 5], Sampling(temperature=0), limit=2)
    >>> found = [token for _ in range(2) for row, token in batch.draw() if row is second]
    >>> [t.id for t in found] == [t.id for t in octavo.tokens(model, [1, 5], temperature=0, limit=2)]
    True
    """

    def __init__(self, model: Model, *, cache: str | None = None, slide: bool = False) -> None:
        self.model, self.reading, self.memory = model, Reading(cache, slide), Memory()
        self.context = self.reading.unbounded(model)  # None once a warning was given
        self.step = self.equation = stepper(model, many=True)
        self.hurry, self.fast = Hurry(model, self.step), False
        self.fixed = nn.namespace(*model.params.values()) is not np  # JAX compiles each number of rows
        self.rows: list[Row | None] = []  # a row of the state each; None where nobody is
        self.state: Any = None  # of as many rows, if there are any
        self.joining: list[tuple[Row, Any]] = []  # with the state of each

    def __len__(self) -> int:
        """How many sequences are being continued."""
        return sum(row is not None for row in self.rows) + len(self.joining)

    def join(self, ids: Sequence[int], sampling: Sampling, *, limit: int, stop: Collection[int] = ()) -> Row:
        """Add a sequence and read its prompt; it takes part in the next `draw`.

        Parameters
        ----------
        ids, limit, stop
            As for `octavo.tokens`.
        sampling : Sampling
            Its options.

        Raises
        ------
        OctavoError
            As `octavo.tokens`; the other rows are as they were.

        Warns
        -----
        UserWarning
            Here or in `draw`, as `octavo.tokens` does; once, whichever text it is.
        """
        prompt = check(self.model, ids, limit, stop, sampling, self.reading)
        draws = Draws(sampling, prompt, self.model.vocab_size)
        row = Row(self.reading.window(self.model, prompt.tolist()), int(limit), frozenset(stop), draws)
        if self.fast:
            self._hasten(row)
        self._watch(row)
        if row.left:
            self.joining.append((row, self._read(row.ids)))
        return row

    def leave(self, row: Row) -> None:
        """End a sequence."""
        self.rows = [None if other is row else other for other in self.rows]
        self.joining = [entry for entry in self.joining if entry[0] is not row]

    def draw(self) -> list[tuple[Row, Token]]:
        """A token of every sequence, in the order in which they stand in the batch.

        A sequence whose token ends it, or is its last, has left. The one that ends it is given too.
        """
        self._slide()
        self._settle()
        if not self.rows:
            return []
        logits = self._step()
        drawn = []
        for place, row in enumerate(self.rows):
            if row is None:
                continue
            if self.hurry.begins():
                self.fast = True
                for other in filter(None, self.rows):
                    self._hasten(other)
            token = row.draws.next(logits[place])
            row.ids.append(token.id)
            row.left -= 1
            drawn.append((row, token))
            self._watch(row)
            if token.id in row.stop or not row.left:
                self.rows[place] = None
        return drawn

    def _step(self) -> nn.Array:
        """Every row reads its token -> logits [B, V]."""
        read = [row.ids[-1] if row is not None else 0 for row in self.rows]
        if None in self.rows and isinstance(self.state, nn.Cache):  # nobody's row stays where there is room
            somebody = np.array([row is not None for row in self.rows], np.int32)
            self.state = self.state._replace(position=self.state.position * somebody)
        longest = max(len(row.ids) for row in self.rows if row is not None)
        logits, self.state = self.step(np.array(read)[:, None], with_room(self.state, longest))
        return np.asarray(logits[:, -1])

    def _read(self, ids: list[int]) -> Any:
        """The state [1] after all but the last of the ids, which nobody spends."""
        begin = ids[:-1]
        if not begin:
            return self.reading.empty(self.model, 1)
        read, state = self.memory.shared(ids)
        if not read:
            state = self.reading.empty(self.model, len(begin))
        if read < len(begin):
            _, state = prefill.read(self.equation, begin, state, read)
        self.memory.keep(begin, state)
        return nn.copy_state(state)

    def _slide(self) -> None:
        """Read those texts again that have outgrown the context."""
        for place, row in enumerate(self.rows):
            if row is not None and (ids := self.reading.window(self.model, row.ids)) is not row.ids:
                row.ids, self.rows[place] = ids, None
                self.joining.append((row, self._read(ids)))

    def _settle(self) -> None:
        """Give those who have joined a row, and close the gaps that are left."""
        free = [place for place, row in enumerate(self.rows) if row is None]
        filling, self.joining = self.joining, []
        for place, (row, state) in zip(free, filling, strict=False):
            self.state = nn.write_row(with_room(self.state, len(row.ids)), place, state)
            self.rows[place] = row
        if new := filling[len(free) :]:
            states, room = [state for _, state in new], max(row.room for row, _ in new)
            self.state = nn.join_states([self.state, *states] if self.rows else states, room)
            self.rows += [row for row, _ in new]
        if not any(self.rows):
            self.rows, self.state = [], None
        elif not self.fixed:
            self._close()

    def _close(self) -> None:
        """Move the last rows to where nobody is."""
        count = len(self.rows)
        while None in self.rows:
            place = self.rows.index(None)
            last = self.rows.pop()
            if place < len(self.rows):
                self.state = nn.write_row(self.state, place, self.state, len(self.rows))
                self.rows[place] = last
        if len(self.rows) < count:
            self.state = nn.first_rows(self.state, len(self.rows))

    def _watch(self, row: Row) -> None:
        """Warn, once, of a text that outgrows the context."""
        if self.context is not None and len(row.ids) > self.context:
            warn(self.context)
            self.context = None

    def _hasten(self, row: Row) -> None:
        """Have twins compute the steps, and the draws of a row, from now on."""
        draws = row.draws
        self.step, draws.pick = twins_of(self.model, draws.sampling, self.step, draws.pick)
