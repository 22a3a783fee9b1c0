"""The metadata in which a GGUF file keeps a tokenizer; `gguf` reads them again.

What llama.cpp cannot say, or would read as something else, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from octavo.errors import OctavoError
from octavo.tokenizers import engine, post_processor, pre_tokenizers, sentencepiece_json
from octavo.tokenizers.chars import END, Char
from octavo.tokenizers.interface import Tokenizer
from octavo.tokenizers.published import ByteLevelBPE
from octavo.tokenizers.sentencepiece import SentencePiece
from octavo.tokenizers.sentencepiece_json import SPACE
from octavo.tokenizers.vocabulary import PREFIX, Type, joins

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\x00"}


def to_metadata(tokenizer: Tokenizer) -> dict[str, Any]:
    r"""What a GGUF file says of a tokenizer.

    Parameters
    ----------
    tokenizer : Tokenizer
        A `chars.Char`, a `published.ByteLevelBPE` or a `sentencepiece.SentencePiece`.

    Returns
    -------
    dict
        Keys ``tokenizer.ggml.*``: texts, true or false, whole numbers and lists of them (``token_type`` is
        of 32-bit integers, ``scores`` of 32-bit floats).

    Raises
    ------
    OctavoError
        GGUF has no way to say how this tokenizer splits, merges or begins a text.

    Examples
    --------
    >>> from octavo.tokenizers import char, gguf
    >>> gguf.to_metadata(char("a\n"))["tokenizer.ggml.tokens"]
    ['\\n', 'a']
    """
    match tokenizer:
        case Char():
            found: dict[str, Any] = {"model": "rwkv", **_characters(tokenizer)}
        case ByteLevelBPE():
            found = {"model": "gpt2", **_byte_level(tokenizer), **_around(tokenizer)}
        case SentencePiece():
            found = {**_sentencepiece(tokenizer), **_around(tokenizer)}
        case _:
            raise OctavoError(f"a {type(tokenizer).__name__} cannot be written to GGUF")
    return {PREFIX + name: value for name, value in found.items()}


def _tokens(tokens: list[str], types: Sequence[Type] = ()) -> dict[str, Any]:
    return {"tokens": tokens, "token_type": [int(type) for type in types] or [int(Type.NORMAL)] * len(tokens)}


def _characters(tokenizer: Char) -> dict[str, Any]:
    tokens = [_ESCAPES.get(c, c) for c in tokenizer.alphabet]
    if not tokenizer.ends:
        return _tokens(tokens)
    types = [Type.NORMAL] * len(tokens) + [Type.CONTROL]
    return {**_tokens([*tokens, END], types), "eos_token_id": tokenizer.end_of_text}


def _around(tokenizer: ByteLevelBPE | SentencePiece) -> dict[str, Any]:
    """What is put around a text, and the id that ends one."""
    before, after = post_processor.around(tokenizer.document["post_processor"])
    if len(before) > 1 or len(after) > 1:
        raise OctavoError(
            "GGUF can say one token before a text and one after it, this tokenizer puts more there"
        )
    found: dict[str, Any] = {"add_bos_token": bool(before), "add_eos_token": bool(after)}
    if before:
        found["bos_token_id"] = before[0]
    end = after[0] if after else tokenizer.end_of_text
    return found if end is None else found | {"eos_token_id": end}


def _byte_level(tokenizer: ByteLevelBPE) -> dict[str, Any]:
    document, model = tokenizer.document, tokenizer.document["model"]
    steps = document["pre_tokenizer"]
    if any(step.get("add_prefix_space") for step in steps.get("pretokenizers", [steps])):
        raise OctavoError(
            "GGUF has no byte-level BPE that puts a space before a text, as this tokenizer does"
        )
    tokens, types = _typed(tokenizer.document, len(tokenizer))
    return {
        "pre": _split_name(tokenizer),
        **_tokens(tokens, types),
        "merges": [f"{left} {right}" for left, right in model["merges"]],
    }


def _typed(document: dict[str, Any], size: int) -> tuple[list[str], list[Type]]:
    """The tokens as the document writes them, and what kind each is."""
    vocab = document["model"]["vocab"]
    named = vocab if isinstance(vocab, dict) else {token: id for id, (token, _) in enumerate(vocab)}
    tokens, types = [""] * size, [Type.NORMAL] * size
    for token, id in named.items():
        tokens[id] = token
    for token in document["added_tokens"]:
        tokens[token["id"]] = token["content"]
        types[token["id"]] = Type.CONTROL if token["special"] else Type.USER_DEFINED
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise OctavoError(
                f"GGUF has no token that takes the spaces around it, as {token['content']!r} does"
            )
    return tokens, types


def _split_name(tokenizer: ByteLevelBPE) -> str:
    """The name of the patterns, for words taken whole or merged, as long as that makes no difference."""
    patterns = pre_tokenizers.patterns(tokenizer.document["pre_tokenizer"])
    whole = tokenizer.document["model"]["ignore_merges"]
    names = [name for name, splits in pre_tokenizers.NAMES.items() if splits.patterns == patterns]
    if not names:
        raise OctavoError("GGUF has no name for how this tokenizer splits a text into words")
    same = [name for name in names if pre_tokenizers.NAMES[name].whole == whole]
    if not same and not _reached_by_merging(tokenizer):
        raise OctavoError(
            "GGUF has no name for this split that takes words which are tokens whole, or that merges them"
        )
    return (same or names)[0]


def _reached_by_merging(tokenizer: ByteLevelBPE) -> bool:
    """Whether each token is what its own letters are merged to, so that it makes no difference."""
    document = tokenizer.document
    merging = engine.make({**document, "model": {**document["model"], "ignore_merges": False}}).model
    added = {token["id"] for token in document["added_tokens"]}
    tokens = [(token, id) for token, id in document["model"]["vocab"].items() if id not in added]
    return all([part.id for part in merging.tokenize(token)] == [id] for token, id in tokens)


def _sentencepiece(tokenizer: SentencePiece) -> dict[str, Any]:
    document, model = tokenizer.document, tokenizer.document["model"]
    tokens, types = _typed(document, len(tokenizer))
    unknown = model["unk_id"] if model["type"] == "Unigram" else model["vocab"].get(model["unk_token"])
    if unknown is not None:
        types[unknown] = Type.UNKNOWN
    for id, token in enumerate(tokens):
        if types[id] == Type.NORMAL and model["byte_fallback"] and sentencepiece_json.BYTE.fullmatch(token):
            types[id] = Type.BYTE
        if types[id] == Type.USER_DEFINED:  # found before spaces are replaced
            tokens[id] = token.replace(SPACE, " ")
    found = {**_tokens(tokens, types), "add_space_prefix": _prefix(document)}
    if unknown is not None:
        found["unknown_token_id"] = unknown
    if model["type"] == "Unigram":
        scores = [0.0 if types[id] != Type.NORMAL else score for id, (_, score) in enumerate(model["vocab"])]
        return {"model": "t5", **found, "scores": scores + [0.0] * (len(tokens) - len(scores))}
    return {"model": "llama", **found, "scores": _scores(model, types)}


def _prefix(document: dict[str, Any]) -> bool:
    """Whether a space is put before a text; "first" says so too, but for texts that begin with one."""
    normalizer, splits = document["normalizer"] or {}, document["pre_tokenizer"] or {}
    steps = normalizer.get("normalizers", [normalizer])
    if splits.get("type") == "Metaspace":
        if splits["split"]:
            raise OctavoError(
                "GGUF has no SentencePiece tokenizer that splits a text at spaces before it merges"
            )
        return bool(splits["prepend_scheme"] != "never")
    if sentencepiece_json.REPLACE_SPACES not in steps:
        raise OctavoError("GGUF has no SentencePiece tokenizer that leaves the spaces of a text as they are")
    return sentencepiece_json.PREPEND in steps


def _scores(model: dict[str, Any], types: list[Type]) -> list[float]:
    """A score for each token such that the highest is merged first, as the merges are in order."""
    vocab = model["vocab"]
    if model["ignore_merges"]:
        raise OctavoError("GGUF has no SentencePiece tokenizer that takes words which are tokens whole")
    texts = {token for token, id in vocab.items() if types[id] == Type.NORMAL}
    merges = [(left, right) for left, right in model["merges"] if texts >= {left, right, left + right}]
    ways = sum(1 for token in texts for _ in joins(token, texts))
    blocks = list(_blocks(merges))
    if not ways == len(merges) == len({*merges}) or not all(map(_one_score, blocks)):
        raise OctavoError(
            "GGUF orders merges by the tokens that they make, and knows every pair that makes one: "
            "this tokenizer's merges are others"
        )
    scores = [float(-len(blocks))] * len(types)
    for rank, block in enumerate(blocks):
        for left, right in block:
            scores[vocab[left + right]] = float(-rank)
    return scores


def _blocks(merges: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The merges in order, cut wherever no token is made both before and after."""
    last = {left + right: at for at, (left, right) in enumerate(merges)}
    block: list[tuple[str, str]] = []
    end = -1
    for at, (left, right) in enumerate(merges):
        if at > end and block:
            yield block
            block = []
        block.append((left, right))
        end = max(end, last[left + right])
    if block:
        yield block


def _one_score(block: list[tuple[str, str]]) -> bool:
    """Whether merges may share a score: they make one token, or runs of a letter that grow from the left."""
    made = {left + right for left, right in block}
    grow = sorted(block, key=lambda pair: (-len(pair[0]), -len(pair[1])))
    return len(made) == 1 or (len({*"".join(made)}) == 1 and block == grow)
