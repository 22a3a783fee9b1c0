"""Text to ids and back: characters, byte pairs trained here, and published tokenizers.

Every tokenizer has the methods of `Tokenizer` and saves as a ``tokenizer.json`` that Hugging
Face's ``tokenizers`` opens and that encodes the same there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from octavo.errors import OctavoError
from octavo.memory import uncollected
from octavo.tokenizers import bpe, chars, fields, files, published
from octavo.tokenizers.chars import char
from octavo.tokenizers.interface import Tokenizer, token_lengths
from octavo.tokenizers.patterns import GPT2
from octavo.tokenizers.published import from_ranks

__all__ = ["GPT2", "Tokenizer", "char", "from_ranks", "open", "token_lengths", "train_bpe"]


def train_bpe(
    text: str | Iterable[str], vocab_size: int, pattern: str = GPT2, *, end_of_text: bool = False
) -> published.ByteLevelBPE:
    """Train byte-level byte-pair encoding on a text.

    Ids 0 to 255 are the bytes; each further id is the most frequent pair of neighbours at its
    time, ties going to the pair met first when the distinct words are scanned in order of
    first appearance.

    Parameters
    ----------
    text : str or iterable of str
        What to learn from, whole or in parts that are read one by one: documents, or blocks of a
        text too long for memory (`octavo.data.blocks`), which give what the whole would.
    vocab_size : int
        Number of tokens, at least 256 and at most what the text supports.
    pattern : str
        The split pattern, one of the published ones.
    end_of_text : bool
        Whether the last of the tokens is to be ``<|endoftext|>``, which stands between documents.

    Returns
    -------
    ByteLevelBPE
        Agrees with ``tiktoken.Encoding`` on the same tokens.

    Raises
    ------
    OctavoError
        An empty text, an impossible `vocab_size`, an unknown pattern.

    Examples
    --------
    >>> import octavo.tokenizers
    >>> tok = octavo.tokenizers.train_bpe("low lower lowest", 259)
    >>> [tok.token_bytes(id) for id in tok.encode("slow lower")]
    [b's', b'low', b' low', b'e', b'r']
    """
    if end_of_text and vocab_size <= 256:
        raise OctavoError(
            "vocab_size must be at least 257, one token for each byte and one that ends a document, "
            f"found {vocab_size}"
        )
    tokens = bpe.train(text, vocab_size - end_of_text, pattern)
    special = {fields.END_OF_TEXT[0]: len(tokens)} if end_of_text else None
    return from_ranks({token: id for id, token in enumerate(tokens)}, pattern, special)


@uncollected()
def open(path: str | os.PathLike[str]) -> Tokenizer:
    """Read a tokenizer from a file or a folder.

    Parameters
    ----------
    path : path
        A ``tokenizer.json``, a folder that holds one, a pickled ``tiktoken.Encoding``, or nanoGPT's
        ``meta.pkl`` (which are read without unpickling). Content tells them apart, not the name.

    Returns
    -------
    Tokenizer
        A `chars.Char`, a `published.ByteLevelBPE` or a `sentencepiece.SentencePiece`.

    Raises
    ------
    OctavoError
        Anything else; the message begins with the path.

    Examples
    --------
    >>> import tempfile, pathlib, octavo.tokenizers
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     octavo.tokenizers.char("abc").save(pathlib.Path(folder) / "tokenizer.json")
    ...     octavo.tokenizers.open(folder)
    Char(vocab_size=3, alphabet='abc')
    """
    data = files.read(path)
    try:
        return _read(data)
    except OctavoError as error:
        raise OctavoError(f"{os.fspath(path)}: {error}") from None


def _read(data: bytes) -> Tokenizer:
    if not data:
        raise OctavoError("the file is empty; expected a tokenizer.json or a pickled tiktoken.Encoding")
    # A pickle begins with its protocol or, in protocols 0 and 1, with a global, a mark or an empty table.
    if data[:1] in (b"\x80", b"c", b"(", b"}"):
        from octavo.tokenizers import tiktoken_pickle

        state = tiktoken_pickle.read(data)
        if "stoi" in state:
            return chars.Char(tiktoken_pickle.alphabet(state))
        return from_ranks(state["mergeable_ranks"], state["pat_str"], state["special_tokens"])
    document = files.parse(data)
    if chars.is_char(document):
        return chars.from_document(document)
    from octavo.tokenizers import sentencepiece, sentencepiece_json

    if sentencepiece_json.is_sentencepiece(document):
        return sentencepiece.from_document(document)
    return published.from_document(document)
