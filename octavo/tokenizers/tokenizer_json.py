"""The ``tokenizer.json`` of a byte-level byte-pair encoding: making one, and reading other people's.

Reading keeps what decides which ids a text gets, written anew in one canonical form, and
refuses what it does not know by name. What a text is cut or filled up to (``truncation``, ``padding``)
is left out; what is put around it (`post_processor`) is kept for whoever reads the file after us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from octavo.errors import OctavoError
from octavo.tokenizers import fields, post_processor
from octavo.tokenizers.fields import kind, listed, shown
from octavo.tokenizers.patterns import STEPS, canonical

SUPPORTED = (
    "supported are octavo's character tokenizers, byte-level BPE (a BPE model with a ByteLevel decoder) and "
    "SentencePiece's kind (BPE or Unigram with a decoder that replaces '▁')"
)

# The letters in which GPT-2 spells bytes in JSON: printable Latin-1 as itself, the rest from U+0100 on.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_LETTERS = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(0x100 + i): byte for i, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))
}
# By code: what a letter spells, -1 for none; the last is none, like all above.
_BYTES = np.array([_LETTERS.get(chr(code), -1) for code in range(0x180)], np.int16)
SPELLING = {byte: letter for letter, byte in _LETTERS.items()}


def make(
    tokens: Iterable[bytes], specials: Iterable[str], merges: Iterable[tuple[bytes, bytes]], pattern: str
) -> dict[str, Any]:
    """The document of tokens and specials in order of id, pairs in order of merging, and a split pattern."""
    vocab = {spelled(token): id for id, token in enumerate(tokens)}
    return assembled(
        vocab,
        [(spelled(left), spelled(right)) for left, right in merges],
        [fields.added(id, content) for id, content in enumerate(specials, len(vocab))],
        pre_tokenizer=sequence([split(pattern), byte_level(use_regex=False)]),
        ignore_merges=True,
    )


def read(document: dict[str, Any]) -> tuple[tuple[bytes, ...], dict[str, Any]]:
    """The bytes of each token, and the document in canonical form; or `OctavoError`."""
    model = _read_model(document)
    added = fields.read_all_added(document)
    vocab = fields.read_vocab(model.get("vocab"))
    require_ascii(vocab)
    tokens = fields.written(vocab, added)
    canonical_form = assembled(
        vocab,
        fields.read_merges(model.get("merges"), vocab),
        added,
        normalizer=_read_normalizer(document.get("normalizer")),
        pre_tokenizer=_read_pre_tokenizer(document.get("pre_tokenizer")),
        post_processor=post_processor.read(document, tokens),
        ignore_merges=model.get("ignore_merges") is True,
        unk_token=_read_unknown(model, vocab),
    )
    return token_bytes(tokens, added), canonical_form


def require_ascii(vocab: Mapping[str, int]) -> None:
    """Refuse a vocabulary that cannot spell plain texts."""
    if not vocab.keys() >= {*map(SPELLING.__getitem__, range(0x20, 0x7F))}:
        raise OctavoError("a byte-level BPE must have a token for each printable character of ASCII")


def token_bytes(tokens: Sequence[str], added: list[dict[str, Any]]) -> tuple[bytes, ...]:
    """The bytes of each token, in order of id; those that were added stand as they are written."""
    as_written = {token["id"]: token["content"] for token in added}
    spelled_out = [*tokens]
    for id in as_written:
        spelled_out[id] = ""
    found = unspelled(spelled_out)
    for id, content in as_written.items():
        found[id] = content.encode()
    return tuple(found)


def parts(pre_tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a pre-tokenizer in canonical form."""
    steps: list[dict[str, Any]] = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return steps


def assembled(
    vocab: dict[str, int],
    merges: fields.Merges,
    added: list[dict[str, Any]],
    *,
    ignore_merges: bool,
    unk_token: str | None = None,
    **steps: dict[str, Any] | None,
) -> dict[str, Any]:
    """The document of its parts, `steps` being those that a text goes through."""
    model = fields.bpe(vocab, merges, ignore_merges=ignore_merges, unk_token=unk_token)
    return fields.assembled(model, added, decoder=byte_level(use_regex=True), **steps)


def byte_level(*, use_regex: bool, add_prefix_space: bool = False) -> dict[str, Any]:
    """The step that spells bytes in letters, splitting first by GPT-2's pattern if asked."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def split(pattern: str) -> dict[str, Any]:
    """The step that splits by a pattern."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Steps one after the other."""
    return {"type": "Sequence", "pretokenizers": steps}


def spelled(token: bytes) -> str:
    """Bytes in the letters of the vocabulary."""
    return "".join(map(SPELLING.__getitem__, token))


def unspelled(tokens: Sequence[str]) -> list[bytes]:
    """The bytes that each token spells in letters, of which each is a byte."""
    text = "".join(tokens).encode("utf-16-le", "surrogatepass")  # what takes two units is no letter
    found = _BYTES[np.minimum(np.frombuffer(text, "<u2"), len(_BYTES) - 1)]
    if (found < 0).any():
        odd = next(token for token in tokens if not _LETTERS.keys() >= {*token})
        raise OctavoError(f"token {shown(odd)} is not spelled in the letters of byte-level BPE")
    joined, ends = found.astype(np.uint8).tobytes(), [*accumulate(map(len, tokens))]
    return [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _read_model(document: dict[str, Any]) -> dict[str, Any]:
    model, decoder = document.get("model"), document.get("decoder")
    if not isinstance(model, dict):
        raise OctavoError("not a tokenizer.json: it has no 'model'")
    model_type = model.get("type", "BPE" if "merges" in model else None)
    if model_type != "BPE" or not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        raise OctavoError(f"this is a model {shown(model_type)} with decoder {kind(decoder)}; {SUPPORTED}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise OctavoError(f"this BPE model sets {option}; {SUPPORTED}, without it")
    return model


def lacks_bytes(vocab: Iterable[str]) -> bool:
    """Whether texts may have bytes without a token, as the rarest have none in SmolLM2: they are left out."""
    return not _LETTERS.keys() <= {*vocab}


def _read_unknown(model: dict[str, Any], vocab: dict[str, int]) -> str | None:
    """The token that stands for such bytes in place of nothing; it says nothing where there are none."""
    unknown = model.get("unk_token")
    if unknown is None or not lacks_bytes(vocab):
        return None
    if not isinstance(unknown, str) or unknown not in vocab or model.get("fuse_unk"):
        raise OctavoError(f"the unk_token {shown(unknown)} is not in the vocab, or it is fused (fuse_unk)")
    return unknown


def _read_normalizer(normalizer: object) -> dict[str, Any] | None:
    if normalizer is None:
        return None
    if not isinstance(normalizer, dict) or normalizer.get("type") != "NFC":
        raise OctavoError(f"normalizer {kind(normalizer)} is not supported; supported are none and NFC")
    return {"type": "NFC"}


def _read_pre_tokenizer(pre_tokenizer: object) -> dict[str, Any]:
    """One ByteLevel, or a sequence that ends in it after published splits and Digits."""
    if not isinstance(pre_tokenizer, dict):
        raise OctavoError("a byte-level BPE needs a pre_tokenizer that ends in ByteLevel, found none")
    if pre_tokenizer.get("type") != "Sequence":
        return _read_byte_level(pre_tokenizer)
    parts = listed(pre_tokenizer.get("pretokenizers"), "pretokenizers")
    if not 1 <= len(parts) <= 8:
        raise OctavoError(f"a sequence of {len(parts)} pre-tokenizers is not supported; supported are 1 to 8")
    read = [*map(_read_split, parts[:-1]), _read_byte_level(parts[-1])]
    return sequence(read)


def _read_byte_level(part: object) -> dict[str, Any]:
    if not isinstance(part, dict) or part.get("type") != "ByteLevel":
        raise OctavoError(f"the last pre-tokenizer must be ByteLevel, found {kind(part)}")
    return byte_level(
        use_regex=part.get("use_regex", True) is True,
        add_prefix_space=part.get("add_prefix_space", True) is True,
    )


def _read_split(part: object) -> dict[str, Any]:
    if isinstance(part, dict) and part.get("type") == "Digits":
        return {"type": "Digits", "individual_digits": part.get("individual_digits") is True}
    if not isinstance(part, dict) or part.get("type") != "Split":
        raise OctavoError(
            f"pre-tokenizer {kind(part)} is not supported; supported are Split, Digits, ByteLevel"
        )
    pattern = part.get("pattern")
    regex = pattern.get("Regex") if isinstance(pattern, dict) else None
    if not isinstance(regex, str):
        raise OctavoError("a Split must have a pattern of kind Regex, found another")
    behavior = (part.get("behavior"), part.get("invert", False))
    if regex in STEPS and behavior == ("Isolated", False):
        return split(regex)
    # Removing all that does not match is isolating all that does: these patterns leave nothing out.
    if behavior not in [("Isolated", False), ("Removed", True)]:
        raise OctavoError("a Split must have behavior Isolated and invert false, found another")
    return split(canonical(regex))
