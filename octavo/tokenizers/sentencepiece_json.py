"""The ``tokenizer.json`` of SentencePiece's kind, as Llama 2, Mistral, TinyLlama and Gemma have it.

A text's spaces become "▁", a "▁" may be put before it, and what the vocabulary lacks is spelled in tokens
of one byte, ``<0x0A>``. The parts that say so are read one by one, refused by name where they are not
known, and written anew in one canonical form.
"""

from __future__ import annotations

import math
import re
from typing import Any

from octavo.errors import OctavoError
from octavo.tokenizers import fields, post_processor
from octavo.tokenizers.fields import kind, listed, shown
from octavo.tokenizers.patterns import well_formed

SPACE = "▁"  # U+2581, how a space is written in tokens
BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

REPLACE_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
PREPEND = {"type": "Prepend", "prepend": SPACE}
REPLACE_BACK = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
BYTE_FALLBACK, FUSE = {"type": "ByteFallback"}, {"type": "Fuse"}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
# Gemma's; it finds no space that the normalizer has left
SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def is_sentencepiece(document: dict[str, Any]) -> bool:
    """Whether a ``tokenizer.json`` is of this kind: it turns "▁" into spaces when it decodes."""
    return REPLACE_BACK in _parts(document.get("decoder"), "decoders")


def make(model: dict[str, Any], added: list[dict[str, Any]], *, prefix: bool) -> dict[str, Any]:
    """The document of a model; with a `prefix` a space is put before a text, and after each special token."""
    return fields.assembled(
        model,
        added,
        normalizer=_one("normalizers", [PREPEND, REPLACE_SPACES] if prefix else [REPLACE_SPACES]),
        decoder=_sequence("decoders", [REPLACE_BACK, BYTE_FALLBACK, FUSE, *([STRIP] if prefix else [])]),
    )


def read(document: dict[str, Any]) -> tuple[tuple[bytes, ...], dict[str, Any]]:
    """The bytes of each token, and the document in canonical form; or `OctavoError`."""
    added = fields.read_all_added(document)
    decoder = _read_steps(document, "decoder", "decoders", _read_decoder)
    model, vocab = _read_model(document.get("model"), spells_bytes=BYTE_FALLBACK in decoder)
    tokens = fields.written(vocab, added)
    canonical_form = fields.assembled(
        model,
        added,
        normalizer=_one("normalizers", _read_steps(document, "normalizer", "normalizers", _read_normalizer)),
        pre_tokenizer=_one(
            "pretokenizers", _read_steps(document, "pre_tokenizer", "pretokenizers", _read_pre_tokenizer)
        ),
        post_processor=post_processor.read(document, tokens),
        decoder=_sequence("decoders", decoder),
    )
    order = [step["type"] for step in decoder]
    if order != [name for name in ("Replace", "ByteFallback", "Fuse", "Strip") if name in order]:
        raise OctavoError("the decoders must be Replace, ByteFallback, Fuse, Strip in that order, each once")
    if STRIP in decoder and FUSE not in decoder:
        raise OctavoError(
            "a decoder that strips spaces must Fuse the tokens before, as it strips each otherwise"
        )
    return tuple(map(_bytes_of if BYTE_FALLBACK in decoder else _spaced, tokens)), canonical_form


def _bytes_of(token: str) -> bytes:
    byte = BYTE.fullmatch(token)
    return bytes.fromhex(byte[1]) if byte else _spaced(token)


def _spaced(token: str) -> bytes:
    return token.replace(SPACE, " ").encode()


def _parts(part: object, plural: str) -> list[Any]:
    """The steps that a part is made of."""
    if isinstance(part, dict) and part.get("type") == "Sequence":
        return listed(part.get(plural), plural)
    return [] if part is None else [part]


def _read_steps(document: dict[str, Any], name: str, plural: str, read: Any) -> list[dict[str, Any]]:
    steps = _parts(document.get(name), plural)
    if len(steps) > 8:
        raise OctavoError(f"a sequence of {len(steps)} {plural} is not supported; supported are 8 at most")
    return [read(step) for step in steps]


def _sequence(plural: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "Sequence", plural: steps}


def _one(plural: str, steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    return _sequence(plural, steps) if len(steps) > 1 else next(iter(steps), None)


def _read_normalizer(step: object) -> dict[str, Any]:
    for known in (PREPEND, REPLACE_SPACES):
        if step == known:
            return known
    raise OctavoError(
        f"normalizer {kind(step)} is not supported as it stands; supported are Prepend of '▁' and Replace "
        "of ' ' by '▁'"
    )


def _read_pre_tokenizer(step: object) -> dict[str, Any]:
    if isinstance(step, dict) and {**SPLIT, **step} == SPLIT and step.get("pattern") == SPLIT["pattern"]:
        return SPLIT
    match step:
        case {"type": "Metaspace", "replacement": "▁", **options}:
            spelled_out = "always" if options.get("add_prefix_space", True) is True else "never"
            scheme, split = options.get("prepend_scheme", spelled_out), options.get("split", True)
            if scheme in ("always", "first", "never") and isinstance(split, bool):
                return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}
    raise OctavoError(
        f"pre-tokenizer {kind(step)} is not supported as it stands; supported are Metaspace with '▁' and a "
        "Split at ' ' that is MergedWithPrevious"
    )


def _read_decoder(step: object) -> dict[str, Any]:
    for known in (REPLACE_BACK, BYTE_FALLBACK, FUSE, STRIP):
        if step == known:
            return known
    raise OctavoError(
        f"decoder {kind(step)} is not supported as it stands; supported are Replace of '▁' by ' ', "
        "ByteFallback, Fuse, and Strip of one ' ' from the left"
    )


def _read_model(model: object, *, spells_bytes: bool) -> tuple[dict[str, Any], dict[str, int]]:
    if not isinstance(model, dict):
        raise OctavoError("not a tokenizer.json: it has no 'model'")
    if (name := model.get("type", "BPE" if "merges" in model else None)) not in ("BPE", "Unigram"):
        raise OctavoError(f"model {shown(name)} is not supported; supported are BPE and Unigram")
    model, vocab = _read_bpe(model) if name == "BPE" else _read_unigram(model)
    if any(token != well_formed(token) for token in vocab):
        raise OctavoError("the model's vocab holds a token that is not valid Unicode")
    if model["byte_fallback"] and not spells_bytes:
        raise OctavoError("this model spells bytes (byte_fallback), but no decoder reads them (ByteFallback)")
    return model, vocab


def _read_bpe(model: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise OctavoError(f"this BPE model sets {option}; supported is BPE without it")
    vocab, unknown = fields.read_vocab(model.get("vocab")), model.get("unk_token")
    if unknown is not None and (not isinstance(unknown, str) or unknown not in vocab):
        raise OctavoError(f"the unk_token {shown(unknown)} is not in the model's vocab")
    spells = model.get("byte_fallback") is True
    if unknown is None and not (spells and vocab.keys() >= {*_BYTES}):  # the library would drop them
        raise OctavoError(
            "characters that the vocab lacks need an unk_token, or byte_fallback with all 256 bytes"
        )
    read = fields.bpe(
        vocab,
        fields.read_merges(model.get("merges"), vocab),
        unk_token=unknown,
        fuse_unk=model.get("fuse_unk") is True,
        byte_fallback=spells,
        ignore_merges=model.get("ignore_merges") is True,
    )
    return read, vocab


def _read_unigram(model: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    pieces, unknown = listed(model.get("vocab"), "the vocab of a Unigram model"), model.get("unk_id")
    for piece in pieces:
        match piece:
            case [str(), int() | float() as score] if not isinstance(score, bool) and math.isfinite(score):
                continue
        raise OctavoError("the vocab of a Unigram model must be pairs of a token and its finite score")
    vocab = {token: id for id, (token, _) in enumerate(pieces)}
    if len(vocab) != len(pieces) or "" in vocab:
        raise OctavoError("the vocab of a Unigram model has a token twice, or an empty one")
    if type(unknown) is not int or not 0 <= unknown < len(pieces):
        raise OctavoError(f"the unk_id of a Unigram model must be one of its ids, found {shown(unknown)}")
    scored = [(token, float(score)) for token, score in pieces]
    return {
        "type": "Unigram",
        "unk_id": unknown,
        "vocab": scored,
        "byte_fallback": model.get("byte_fallback") is True,
    }, vocab
