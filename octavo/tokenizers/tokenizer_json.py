"""The ``tokenizer.json`` of a byte-level byte-pair encoding: making one, and reading other people's.

Reading keeps what decides which ids a text gets, written anew in one canonical form, and
refuses what it does not know by name. What only adds tokens around a text (``post_processor``,
``padding``, ``truncation``) is left out: octavo adds none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from octavo.errors import OctavoError
from octavo.tokenizers.patterns import canonical, well_formed

SUPPORTED = (
    "supported are octavo's character tokenizers and byte-level BPE (a BPE model with a ByteLevel decoder)"
)

T = TypeVar("T")

# The letters in which GPT-2 spells bytes in JSON: printable Latin-1 as itself, the rest from U+0100 on.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_LETTERS = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(0x100 + i): byte for i, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))
}
SPELLING = {byte: letter for letter, byte in _LETTERS.items()}


def make(
    tokens: Iterable[bytes], specials: Iterable[str], merges: Iterable[tuple[bytes, bytes]], pattern: str
) -> dict[str, Any]:
    """The document of tokens and specials in order of id, pairs in order of merging, and a split pattern."""
    vocab = {_spelled(token): id for id, token in enumerate(tokens)}
    return _assembled(
        added=[_added(id, content) for id, content in enumerate(specials, len(vocab))],
        normalizer=None,
        pre_tokenizer=_sequence([_split(pattern), _byte_level(use_regex=False)]),
        vocab=vocab,
        merges=[[_spelled(left), _spelled(right)] for left, right in merges],
        ignore_merges=True,
    )


def read(document: dict[str, Any]) -> tuple[tuple[bytes, ...], dict[str, Any]]:
    """The bytes of each token, and the document in canonical form; or `OctavoError`."""
    model = _read_model(document)
    added = [_read_added(token) for token in _list(document.get("added_tokens") or [], "added_tokens")]
    vocab = _read_vocab(model.get("vocab"))
    canonical_form = _assembled(
        added=sorted(added, key=lambda token: int(token["id"])),
        normalizer=_read_normalizer(document.get("normalizer")),
        pre_tokenizer=_read_pre_tokenizer(document.get("pre_tokenizer")),
        vocab=dict(sorted(vocab.items(), key=lambda item: item[1])),
        merges=[_read_merge(merge, vocab) for merge in _list(model.get("merges"), "merges")],
        ignore_merges=model.get("ignore_merges") is True,
    )
    return _read_tokens(vocab, added), canonical_form


def dense(by_id: Mapping[int, T], size: int, start: int = 0) -> list[T]:
    """The values in order of id, once the ids are known to be `start` and on, each once."""
    if any(type(id) is not int for id in by_id):
        raise OctavoError("token ids must be integers")
    missing = next((id for id in range(start, start + size) if id not in by_id), None)
    if missing is not None:
        last = start + size - 1
        raise OctavoError(
            f"the ids of {size} tokens must be {start} to {last}, each once; none has id {missing}"
        )
    return [by_id[id] for id in range(start, start + size)]


def parts(pre_tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a pre-tokenizer in canonical form."""
    steps: list[dict[str, Any]] = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return steps


def _assembled(
    *,
    added: list[dict[str, Any]],
    normalizer: dict[str, Any] | None,
    pre_tokenizer: dict[str, Any],
    vocab: dict[str, int],
    merges: list[list[str]],
    ignore_merges: bool,
) -> dict[str, Any]:
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": vocab,
        "merges": merges,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": _byte_level(use_regex=True),
        "model": model,
    }


def _byte_level(*, use_regex: bool, add_prefix_space: bool = False) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _sequence(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": steps}


def _added(id: int, content: str, *, special: bool = True, **options: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": content, **plain, **options, "special": special}


def _spelled(token: bytes) -> str:
    return "".join(map(SPELLING.__getitem__, token))


def _unspelled(token: str) -> bytes:
    try:
        return bytes(map(_LETTERS.__getitem__, token))
    except KeyError:
        raise OctavoError(f"token {_shown(token)} is not spelled in the letters of byte-level BPE") from None


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise OctavoError(f"{name} must be a list, found {type(value).__name__}")
    return value


def _read_model(document: dict[str, Any]) -> dict[str, Any]:
    model, decoder = document.get("model"), document.get("decoder")
    if not isinstance(model, dict):
        raise OctavoError("not a tokenizer.json: it has no 'model'")
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind != "BPE" or not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        raise OctavoError(f"this is a model {_shown(kind)} with decoder {_kind(decoder)}; {SUPPORTED}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise OctavoError(f"this BPE model sets {option}; {SUPPORTED}, without it")
    return model


def _read_tokens(vocab: dict[str, int], added: list[dict[str, Any]]) -> tuple[bytes, ...]:
    """The bytes of each id: added tokens as they are written, the others spelled in letters."""
    if not vocab.keys() >= _LETTERS.keys():
        raise OctavoError("a byte-level BPE must have a token for each of the 256 bytes, some are missing")
    by_id = {id: token for token, id in vocab.items()}
    written = {token["id"]: token["content"] for token in added}
    for id, content in written.items():
        if by_id.setdefault(id, content) != content:
            raise OctavoError(f"two tokens have id {id}: {_shown(by_id[id])} and {_shown(content)}")
    spelled = dense(by_id, len(vocab.keys() | set(written.values())))
    return tuple(written[id].encode() if id in written else _unspelled(s) for id, s in enumerate(spelled))


def _read_vocab(vocab: object) -> dict[str, int]:
    if not isinstance(vocab, dict) or any(type(id) is not int for id in vocab.values()):
        raise OctavoError("the model's vocab must map tokens to integer ids")
    if len(set(vocab.values())) != len(vocab):
        raise OctavoError("the model's vocab gives the same id to two tokens")
    return vocab


def _read_added(token: object) -> dict[str, Any]:
    if not isinstance(token, dict):
        raise OctavoError(f"each added token must be an object, found {type(token).__name__}")
    id, content = token.get("id"), token.get("content")
    if type(id) is not int or not isinstance(content, str) or not content or content != well_formed(content):
        raise OctavoError(
            f"an added token must have an integer id and a content, found {_shown(id)}, {_shown(content)}"
        )
    flags = ("special", "single_word", "lstrip", "rstrip", "normalized")
    return _added(id, content, **{flag: token.get(flag) is True for flag in flags})


def _read_merge(merge: object, vocab: dict[str, int]) -> list[str]:
    """Two tokens that join to a third; Hugging Face's library panics on joins longer than any token."""
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        raise OctavoError(f"each merge must be two tokens, found {_shown(merge)}")
    for token in (*pair, "".join(pair)):
        if not token or token not in vocab:
            raise OctavoError(f"a merge makes or takes {_shown(token)}, a token that the vocab lacks")
    return pair


def _read_normalizer(normalizer: object) -> dict[str, Any] | None:
    if normalizer is None:
        return None
    kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
    if kind != "NFC":
        raise OctavoError(f"normalizer {_shown(kind)} is not supported; supported are none and NFC")
    return {"type": "NFC"}


def _read_pre_tokenizer(pre_tokenizer: object) -> dict[str, Any]:
    """One ByteLevel, or a sequence that ends in it after published splits and Digits."""
    if not isinstance(pre_tokenizer, dict):
        raise OctavoError("a byte-level BPE needs a pre_tokenizer that ends in ByteLevel, found none")
    if pre_tokenizer.get("type") != "Sequence":
        return _read_byte_level(pre_tokenizer)
    parts = _list(pre_tokenizer.get("pretokenizers"), "pretokenizers")
    if not 1 <= len(parts) <= 8:
        raise OctavoError(f"a sequence of {len(parts)} pre-tokenizers is not supported; supported are 1 to 8")
    read = [*map(_read_split, parts[:-1]), _read_byte_level(parts[-1])]
    return _sequence(read)


def _read_byte_level(part: object) -> dict[str, Any]:
    if not isinstance(part, dict) or part.get("type") != "ByteLevel":
        raise OctavoError(f"the last pre-tokenizer must be ByteLevel, found {_kind(part)}")
    return _byte_level(
        use_regex=part.get("use_regex", True) is True,
        add_prefix_space=part.get("add_prefix_space", True) is True,
    )


def _read_split(part: object) -> dict[str, Any]:
    if isinstance(part, dict) and part.get("type") == "Digits":
        return {"type": "Digits", "individual_digits": part.get("individual_digits") is True}
    if not isinstance(part, dict) or part.get("type") != "Split":
        raise OctavoError(
            f"pre-tokenizer {_kind(part)} is not supported; supported are Split, Digits, ByteLevel"
        )
    # Removing all that does not match is isolating all that does: the patterns leave nothing out.
    if (part.get("behavior"), part.get("invert", False)) not in [("Isolated", False), ("Removed", True)]:
        raise OctavoError("a Split must have behavior Isolated and invert false, found another")
    pattern = part.get("pattern")
    regex = pattern.get("Regex") if isinstance(pattern, dict) else None
    if not isinstance(regex, str):
        raise OctavoError("a Split must have a pattern of kind Regex, found another")
    return _split(canonical(regex))


def _kind(part: object) -> str:
    return _shown(part.get("type") if isinstance(part, dict) else part)


def _shown(value: object) -> str:
    """A value for a message: short, and never a whole tree."""
    if isinstance(value, dict | list):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"
