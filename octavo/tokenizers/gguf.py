"""The tokenizer in the metadata of a GGUF file, and the metadata of a tokenizer.

GGUF files keep a vocabulary in llama.cpp's own way: ``gpt2`` is byte-level BPE, with a name for the
patterns that split a text; ``llama`` is SentencePiece's BPE, with scores in place of merges; ``t5`` is its
unigram model; ``rwkv`` takes the longest token that fits, which is all that a tokenizer of characters
needs. Each becomes a ``tokenizer.json``, so that a model read from a GGUF file is saved like any other.

Two things are not as in llama.cpp. Control tokens, unknown ones and single bytes are not merged from a text
that spells their names, as in SentencePiece itself. And where ``X Y Z`` could be merged on both sides into
the same token, the longer left part decides and not the place, as in `transformers`: a list of merges
cannot say the other. In a unigram model a text that spells the name of a control token is that token where
the vocabulary lacks a character of it (T5 has no "<"), as in Hugging Face's library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from octavo.errors import OctavoError
from octavo.tokenizers import (
    fields,
    pre_tokenizers,
    published,
    tokenizer_json,
    vocabulary,
)
from octavo.tokenizers.chars import END, Char
from octavo.tokenizers.fields import shown
from octavo.tokenizers.gguf_write import to_metadata
from octavo.tokenizers.interface import Tokenizer
from octavo.tokenizers.patterns import well_formed
from octavo.tokenizers.vocabulary import PREFIX, Defaults, Type, Vocabulary

if TYPE_CHECKING:
    from octavo.tokenizers import sentencepiece

__all__ = ["from_metadata", "to_metadata"]

_ESCAPED = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def from_metadata(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a GGUF file describes.

    Parameters
    ----------
    metadata : mapping
        The file's metadata by key; only ``tokenizer.ggml.*`` is read. Lists may be arrays, and texts that
        are not UTF-8 may hold surrogate escapes.

    Returns
    -------
    Tokenizer
        A `published.ByteLevelBPE`, a `sentencepiece.SentencePiece` or a `chars.Char`.

    Raises
    ------
    OctavoError
        A kind of vocabulary or a split that is not known, lists that do not fit together, ids and scores
        that are none.

    Examples
    --------
    >>> from octavo.tokenizers import char, gguf
    >>> gguf.from_metadata(gguf.to_metadata(char("to be")))
    Char(vocab_size=5, alphabet=' beot')
    """
    model = metadata.get(PREFIX + "model")
    match model if isinstance(model, str) else None:  # an array is equal to nothing, nor unequal
        case "gpt2":
            return _byte_level(metadata)
        case "llama":
            return _sentencepiece(metadata)
        case "t5":
            return _unigram(metadata)
        case "rwkv":
            return _characters(vocabulary.strings(metadata, "tokens") or [])
    raise OctavoError(
        f"{PREFIX}model is {shown(model)}; supported are gpt2, llama, t5, and rwkv for characters"
    )


def _byte_level(metadata: Mapping[str, Any]) -> published.ByteLevelBPE:
    splits = pre_tokenizers.named(metadata.get(PREFIX + "pre", "default"))
    read = vocabulary.read(metadata, Defaults(begins=splits.begins))
    merges = vocabulary.strings(metadata, "merges")
    if merges is None:
        raise OctavoError(f"the metadata has no {PREFIX}merges, which byte pairs need")
    added = fields.read_all_added({"added_tokens": read.added()})
    tokenizer_json.require_ascii(read.ids)
    document = tokenizer_json.assembled(
        read.ids,
        fields.read_merges(merges, read.ids),
        added,
        pre_tokenizer=pre_tokenizers.steps(splits.patterns),
        post_processor=read.post_processor(),
        ignore_merges=splits.whole,
    )
    return published.ByteLevelBPE(tokenizer_json.token_bytes(read.tokens, added), document)


def _sentencepiece(metadata: Mapping[str, Any]) -> sentencepiece.SentencePiece:
    read = vocabulary.read(metadata, Defaults(bos=1, eos=2, unknown=0, begins=True))
    _refuse_surrogates(read)
    model = fields.bpe(
        read.ids,
        list(_merges(read)),
        unk_token=None if read.unknown is None else read.tokens[read.unknown],
        fuse_unk=True,
        byte_fallback=_spells_bytes(read),
    )
    return _made(read, model, prefix=vocabulary.flag(metadata, "add_space_prefix", True))


def _unigram(metadata: Mapping[str, Any]) -> sentencepiece.SentencePiece:
    for name in ("precompiled_charsmap", "remove_extra_whitespaces"):
        value = metadata.get(PREFIX + name)
        if value is not None and (not hasattr(value, "__len__") or len(value)) and value is not False:
            raise OctavoError(f"{PREFIX}{name} is not supported: it changes a text before it is encoded")
    read = vocabulary.read(metadata, Defaults(eos=1, unknown=2, ends=True))
    _refuse_surrogates(read)
    texts = read.of(Type.UNDEFINED, Type.NORMAL, Type.USER_DEFINED, Type.UNUSED).values()
    lowest = min((_score(read, id) for id in texts), default=0.0)
    # A name written in a text must cost more than its letters do, wherever they are known.
    never = min(lowest, -1.0) * 2 * max(map(len, read.tokens))
    scores = [never] * len(read.tokens)
    for id in texts:
        scores[id] = 0.0 if read.types[id] == Type.USER_DEFINED else _score(read, id)
    model = {
        "type": "Unigram",
        "unk_id": read.unknown,
        "vocab": list(zip(read.tokens, scores, strict=True)),
        "byte_fallback": _spells_bytes(read),
    }
    return _made(read, model, prefix=vocabulary.flag(metadata, "add_space_prefix", False))


def _made(read: Vocabulary, model: dict[str, Any], *, prefix: bool) -> sentencepiece.SentencePiece:
    from octavo.tokenizers import sentencepiece, sentencepiece_json

    document = sentencepiece_json.make(model, read.added(), prefix=prefix)
    return sentencepiece.from_document(document | {"post_processor": read.post_processor()})


def _refuse_surrogates(read: Vocabulary) -> None:
    if odd := [token for token in read.tokens if token != well_formed(token)]:
        raise OctavoError(f"{PREFIX}tokens has {shown(odd[0])}, which is not valid UTF-8")


def _spells_bytes(read: Vocabulary) -> bool:
    """Whether every byte has a token of its own, so that nothing is unknown."""
    return {f"<0x{byte:02X}>" for byte in range(256)} <= {*read.tokens}


def _score(read: Vocabulary, id: int) -> float:
    if not read.scores:
        raise OctavoError(f"the metadata has no {PREFIX}scores, by which SentencePiece chooses tokens")
    return float(read.scores[id])


def _merges(read: Vocabulary) -> Iterator[tuple[str, str]]:
    """Each way to join two tokens into a third, the highest score of the third first."""
    known = read.of(Type.UNDEFINED, Type.NORMAL, Type.USER_DEFINED, Type.UNUSED)
    found = []
    scored: dict[float, str] = {}
    for token, id in known.items():
        pairs = list(vocabulary.joins(token, known))
        if not pairs:
            continue
        score = _score(read, id)
        found += [(-score, -len(left), -len(right), left, right) for left, right in pairs]
        same = scored.setdefault(score, token) if read.types[id] == Type.NORMAL else token
        if (
            len({*same, *token}) > 1 and same != token
        ):  # Llama's runs of spaces grow from the left in any case
            raise OctavoError(
                f"tokens {shown(scored[score])} and {shown(token)} have the same score: which is merged "
                "first cannot be told"
            )
    found.sort(key=lambda join: join[:3])
    return ((left, right) for *_, left, right in found)


def _characters(tokens: list[str]) -> Char:
    ends = tokens[-1:] == [END]
    tokens = tokens[:-1] if ends else tokens
    spelled = [_ESCAPED.sub(_unescaped, token.encode("utf-8", "surrogateescape")) for token in tokens]
    try:
        characters = [token.decode() for token in spelled]
    except UnicodeDecodeError:
        characters = [""]
    if not all(len(character) == 1 for character in characters):
        raise OctavoError("this vocabulary of RWKV's kind has tokens that are no single characters")
    return Char("".join(characters), ends)


def _unescaped(found: re.Match[bytes]) -> bytes:
    body = found[1]
    return bytes.fromhex(body[1:].decode()) if len(body) == 3 else _ESCAPES.get(body, body)
