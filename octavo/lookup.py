"""Guesses of what comes next, from what the text already contains (Saxena 2023, prompt lookup decoding).

What followed the last few tokens when they were last there may follow again. A model reads several tokens in
one pass for little more than one, so guesses are read along with the token before them, and each token is
drawn as ever: from the logits of its place, with its own random number. The first one that is not what was
guessed ends the pass. So the text is the same, token for token, with guesses and without.
"""

from __future__ import annotations

from dataclasses import dataclass

NGRAMS = (3, 2)  # tokens that must have been there before; the longer ones say more
FIRST, MOST = 4, 16  # guesses in a pass: at first, and when all of them were right time and again


@dataclass
class Lookup:
    r"""How many tokens were guessed and how many of them drawn; given to `tokens`, it counts.

    Examples
    --------
    >>> import octavo
    >>> model, counted = octavo.load("bard"), Lookup()
    >>> text = octavo.generate(model, "Who is there?\nWho is", limit=40, temperature=0, lookup=counted)
    >>> text == octavo.generate(model, "Who is there?\nWho is", limit=40, temperature=0)
    True
    >>> counted.guessed >= counted.accepted > 0
    True
    """

    guessed: int = 0
    accepted: int = 0


class Guesses:
    """What may follow a text, which is told as it grows.

    Examples
    --------
    >>> guesses = Guesses([1, 2, 3, 4, 5, 1, 2, 3], Lookup())
    >>> guesses.next(2)
    [4, 5]
    """

    def __init__(self, ids: list[int], counted: Lookup) -> None:
        self.ids: list[int] = []
        self.counted, self.most = counted, FIRST
        self.after: dict[tuple[int, ...], int] = {}  # n-gram -> where what followed it last begins
        for id in ids:
            self.add(id)

    def add(self, id: int) -> None:
        """The next token of the text."""
        for n in NGRAMS:
            if len(self.ids) >= n:
                self.after[tuple(self.ids[-n:])] = len(self.ids)
        self.ids.append(id)

    def next(self, limit: int) -> list[int]:
        """What followed the end of the text where it was last there, and again where that is the end.

        No more than `limit`, and nothing if the end was not there before.
        """
        found = (self.after.get(tuple(self.ids[-n:])) for n in NGRAMS)
        at = next((at for at in found if at is not None), None)
        if at is None:
            return []
        period = len(self.ids) - at
        return [self.ids[at + i % period] for i in range(min(limit, self.most))]

    def learn(self, guessed: list[int], drawn: list[int]) -> int:
        """Take in what a pass has drawn, and count; how many of its guesses were right.

        If all were, the next pass guesses more, and otherwise about as many as were right.
        """
        right = sum(a == b for a, b in zip(guessed, drawn, strict=False))
        self.counted.guessed += len(guessed)
        self.counted.accepted += right
        if guessed:
            self.most = min(2 * self.most, MOST) if right == len(guessed) else right + 2
        for id in drawn:
            self.add(id)
        return right
