"""Training byte-level byte-pair encoding (Sennrich et al. 2016, on bytes as in GPT-2).

Text is split into words by a pattern, words into bytes. Again and again the pair of adjacent
tokens that occurs most often becomes a token of its own, until the vocabulary is full. Ties
go to the pair met first in the text, as in tiktoken's educational trainer. No bytes become a
token twice: between two places that no merge has crossed, merging has gone the same way
wherever the same bytes stand, so one string never splits into two different pairs.

`train_spec` says it as the textbook does and counts everything anew for each merge. `train`
does the same work incrementally and is what everyone calls; a property test holds them
equal. Encoding is not done here (see `published`).
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain, pairwise, repeat

import numpy as np

from octavo.errors import OctavoError
from octavo.tokenizers.patterns import GPT2, ascii_twin, blocks, canonical, chunks, well_formed

Pair = tuple[int, int]
BYTES = [bytes([i]) for i in range(256)]
_AT_ONCE = 1 << 20  # distinct chunks that are counted before they are split; bounds their memory
_EDGE, _GONE = -1, -2  # symbols that are no tokens: between two words, and merged into the left neighbour


def count_words(text: str | Iterable[str], pattern: str = GPT2) -> dict[str, int]:
    """How often each word of `text` occurs, in order of first appearance.

    Chunks are counted first and each distinct one is split once: on English text that is a
    quarter of the work of splitting it all. Of a text in parts each is split by itself.

    Examples
    --------
    >>> from octavo.tokenizers.bpe import count_words
    >>> count_words("to be, or not to be")
    {'to': 1, ' be': 2, ',': 1, ' or': 1, ' not': 1, ' to': 1}
    """
    times: Counter[str] = Counter()
    words: dict[str, int] = {}
    for part in (text,) if isinstance(text, str) else text:
        for block in blocks(well_formed(part)):
            times.update(chunks(block))
            if len(times) > _AT_ONCE:
                _split(times, pattern, words)
                times.clear()
    _split(times, pattern, words)
    return words


def _split(times: Counter[str], pattern: str, words: dict[str, int]) -> None:
    """Count the words in chunks that occur so many times."""
    import regex  # here, so that importing octavo.tokenizers stays quick

    ascii, any_text = ascii_twin(pattern).findall, regex.compile(pattern).findall
    for chunk, n in times.items():
        for word in ascii(chunk) if chunk.isascii() else any_text(chunk):
            words[word] = words.get(word, 0) + n


def train_spec(text: str, vocab_size: int, pattern: str = GPT2) -> list[bytes]:
    """The tokens in order of id, by the textbook: the specification of `train`, too slow for use.

    Examples
    --------
    >>> from octavo.tokenizers.bpe import train_spec
    >>> train_spec("low lower lowest", 259)[256:]
    [b'lo', b'low', b' low']
    """
    words = {tuple(bytes([b]) for b in word.encode()): n for word, n in count_words(text, pattern).items()}
    tokens = list(BYTES)
    while len(tokens) < vocab_size:
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for word, n in words.items():
            for pair in pairwise(word):
                counts[pair] += n
        if not counts:
            raise _exhausted(len(tokens), vocab_size)
        best = max(counts, key=counts.__getitem__)  # the first of the largest
        tokens.append(best[0] + best[1])
        words = {_merged(word, best): n for word, n in words.items()}
    return tokens


def _merged(word: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    """`word` with each occurrence of `pair`, from left to right, made one token."""
    out: list[bytes] = []
    i = 0
    while i < len(word):
        step = 2 if word[i : i + 2] == pair else 1
        out.append(b"".join(word[i : i + step]))
        i += step
    return tuple(out)


def train(text: str | Iterable[str], vocab_size: int, pattern: str = GPT2) -> list[bytes]:
    """The tokens in order of id: 256 single bytes, then one for each merge.

    Parameters
    ----------
    text : str or iterable of str
        What to learn from, whole or in parts that are read one by one (documents, or blocks of them:
        see `octavo.tokenizers.patterns.blocks`); lone surrogates count as U+FFFD.
    vocab_size : int
        Number of tokens, at least 256.
    pattern : str
        One of the published split patterns.

    Returns
    -------
    list of bytes
        `vocab_size` distinct tokens.

    Raises
    ------
    OctavoError
        An empty text, a `vocab_size` below 256 or above what the text supports, an unknown pattern.

    Examples
    --------
    >>> from octavo.tokenizers.bpe import train
    >>> train("low lower lowest", 259)[256:]
    [b'lo', b'low', b' low']
    """
    if vocab_size < 256:
        raise OctavoError(f"vocab_size must be at least 256, one token for each byte, found {vocab_size}")
    counts = count_words(text, canonical(pattern))
    if not counts:
        raise OctavoError("expected a text to train byte pairs on, found an empty one")
    words = _Words(counts)
    tokens = list(BYTES)
    while len(tokens) < vocab_size:
        pair = words.most_frequent()
        if pair is None:
            raise _exhausted(len(tokens), vocab_size)
        words.merge(pair, len(tokens))
        tokens.append(tokens[pair[0]] + tokens[pair[1]])
    return tokens


def _exhausted(found: int, vocab_size: int) -> OctavoError:
    return OctavoError(
        f"this text supports {found} tokens, {vocab_size} were asked for: "
        f"ask for vocab_size={found} at most or give more text"
    )


class _Words:
    """All distinct words as one linked list of symbols, with an index of where each pair stands.

    A position is that of a symbol's first byte, so that positions order symbols as a scan of
    the words from the first to the last meets them. The index may list places where the
    pair no longer stands, and the queue may promise counts that are too high or places too
    far left: both can only get worse as merges go on, so they are corrected when a pair
    comes to the front, and not before.
    """

    def __init__(self, words: dict[str, int]) -> None:
        encoded = [word.encode() for word in words]
        spans = [len(word) + 1 for word in encoded]
        symbols = np.frombuffer(b"\0".join([b"", *encoded, b""]), np.uint8).astype(np.int64)
        symbols[np.cumsum([0, *spans])] = _EDGE
        self.symbol = symbols.tolist()
        self.next = array("q", range(1, len(symbols) + 1))
        self.previous = array("q", range(-1, len(symbols) - 1))
        # The word count at each position: a shared int each, so one pointer and no object.
        self.count = [0, *chain.from_iterable(map(repeat, words.values(), spans))]
        self.places: dict[Pair, list[int]] = {}
        self.queue: list[tuple[int, int, Pair]] = []
        self._index_all(symbols)

    def _index_all(self, symbols: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """Index the pairs of single bytes, sorted by pair, then place."""
        at = np.flatnonzero((symbols[:-1] >= 0) & (symbols[1:] >= 0))
        keys = (symbols[at] << 8 | symbols[at + 1]).astype(np.uint16)
        order = keys.argsort(kind="stable")
        keys, at = keys[order], at[order]
        starts = np.flatnonzero(np.diff(keys)) + 1
        for places in np.split(at, starts) if at.size else ():
            pair = (self.symbol[places[0]], self.symbol[places[0] + 1])
            self._enqueue(pair, places.tolist())

    def _enqueue(self, pair: Pair, places: list[int]) -> None:
        self.places[pair] = places
        heapq.heappush(self.queue, self._rank(pair, places))

    def _rank(self, pair: Pair, places: list[int]) -> tuple[int, int, Pair]:
        """What the queue sorts by: the most frequent first, then the leftmost."""
        return -sum(map(self.count.__getitem__, places)), places[0], pair

    def most_frequent(self) -> Pair | None:
        """The pair to merge next, or None when every word is one token."""
        symbol, following = self.symbol, self.next
        while self.queue:
            promised = heapq.heappop(self.queue)
            pair = left, right = promised[2]
            places = [
                i for i in self.places.pop(pair, ()) if symbol[i] == left and symbol[following[i]] == right
            ]
            if not places:
                continue
            actual = self._rank(pair, places)
            self.places[pair] = places
            if actual == promised:
                return pair
            heapq.heappush(self.queue, actual)
        return None

    def merge(self, pair: Pair, token: int) -> None:
        """Make `pair` one symbol wherever it stands, from left to right."""
        symbol, following, previous = self.symbol, self.next, self.previous
        left, right = pair
        found: defaultdict[Pair, list[int]] = defaultdict(list)
        for here in self.places.pop(pair):
            there = following[here]
            if symbol[here] != left or symbol[there] != right:
                continue  # the second "aa" of "aaa": its first letter is spent
            symbol[here], symbol[there] = token, _GONE
            before, after = previous[here], following[there]
            following[here], previous[after] = after, here
            if (neighbour := symbol[before]) >= 0:
                found[neighbour, token].append(before)
            if (neighbour := symbol[after]) >= 0:
                found[token, neighbour].append(here)
        for new, places in found.items():
            self._enqueue(new, places)
