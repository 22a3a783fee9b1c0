"""The fields that every ``tokenizer.json`` has: vocabulary, merges, added tokens. Each is read or refused.

What the parts around them mean is the business of `tokenizer_json` and `sentencepiece_json`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from operator import eq, itemgetter, methodcaller
from typing import Any, TypeAlias, TypeVar

from octavo.errors import OctavoError
from octavo.tokenizers.patterns import well_formed

T = TypeVar("T")
Merges: TypeAlias = Sequence[tuple[str, ...]]  # pairs, the first to be merged first

# As published models name the token that stands between documents.
END_OF_TEXT = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "<eos>",
)


def assembled(
    model: dict[str, Any], added: list[dict[str, Any]], **steps: dict[str, Any] | None
) -> dict[str, Any]:
    """A whole document: what a text goes through before and after the model is given by name or absent."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": steps.get("normalizer"),
        "pre_tokenizer": steps.get("pre_tokenizer"),
        "post_processor": steps.get("post_processor"),
        "decoder": steps.get("decoder"),
        "model": model,
    }


def bpe(vocab: dict[str, int], merges: Merges, **options: str | bool | None) -> dict[str, Any]:
    """The part ``model`` of byte-pair encoding."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **options,
        "vocab": vocab,
        "merges": merges,
    }


def added(id: int, content: str, *, special: bool = True, **options: bool) -> dict[str, Any]:
    """One of ``added_tokens``."""
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": content, **plain, **options, "special": special}


def read_all_added(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The added tokens in order of id."""
    tokens = [_read_added(token) for token in listed(document.get("added_tokens") or [], "added_tokens")]
    return sorted(tokens, key=lambda token: int(token["id"]))


def _read_added(token: object) -> dict[str, Any]:
    if not isinstance(token, dict):
        raise OctavoError(f"each added token must be an object, found {type(token).__name__}")
    id, content = token.get("id"), token.get("content")
    if type(id) is not int or not isinstance(content, str) or not content or content != well_formed(content):
        raise OctavoError(
            f"an added token must have an integer id and a content, found {shown(id)}, {shown(content)}"
        )
    flags = ("special", "single_word", "lstrip", "rstrip", "normalized")
    return added(id, content, **{flag: token.get(flag) is True for flag in flags})


def end_of_text(document: dict[str, Any]) -> int | None:
    """The id of the special token that stands between documents, by the names it has been given."""
    special = {token["content"]: token["id"] for token in document["added_tokens"] if token["special"]}
    return next((int(special[name]) for name in END_OF_TEXT if name in special), None)


def read_vocab(vocab: object) -> dict[str, int]:
    """A table of distinct ids by token, in order of id."""
    if not isinstance(vocab, dict) or not {*map(type, vocab.values())} <= {int}:
        raise OctavoError("the model's vocab must map tokens to integer ids")
    if _in_order(vocab.values()):
        return dict(vocab)
    if len(set(vocab.values())) != len(vocab):
        raise OctavoError("the model's vocab gives the same id to two tokens")
    return dict(sorted(vocab.items(), key=itemgetter(1)))


def read_merges(merges: object, vocab: Mapping[str, int]) -> Merges:
    """Pairs of tokens that join to a third, as pairs or as texts with a space between."""
    given = listed(merges, "merges")
    pairs = _split(given) or [_pair(merge) for merge in given]
    require_merges(pairs, vocab)
    return pairs


def _split(merges: list[Any]) -> Merges | None:
    """The pairs of well-formed merges, all at once as there are a hundred thousand; else None."""
    types = {*map(type, merges)}
    if types == {str} and {*map(methodcaller("count", " "), merges)} == {1}:
        parts = iter(" ".join(merges).split(" "))
        return [*zip(parts, parts, strict=True)]
    if types == {list} and {*map(len, merges)} == {2} and {*map(type, chain.from_iterable(merges))} == {str}:
        return [*map(tuple, merges)]
    return None


def _pair(merge: object) -> tuple[str, ...]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list | tuple) or [*map(type, parts)] != [str, str]:
        raise OctavoError(f"each merge must be two tokens, found {shown(merge)}")
    return tuple(parts)


def require_merges(merges: Merges, vocab: Mapping[str, int]) -> None:
    """Refuse pairs that are not of tokens, or do not join to one."""
    used = chain(chain.from_iterable(merges), map("".join, merges))
    if "" not in vocab and all(map(vocab.__contains__, used)):
        return
    for pair in merges:
        for token in (*pair, "".join(pair)):
            if not token or token not in vocab:
                raise OctavoError(f"a merge makes or takes {shown(token)}, a token that the vocab lacks")


def written(vocab: Mapping[str, int], added: list[dict[str, Any]]) -> list[str]:
    """Each token in order of id as it is written."""
    by_id = {id: token for token, id in vocab.items()}
    contents, ids = {token["id"]: token["content"] for token in added}, dict[str, int]()
    for id, content in contents.items():
        if (known := vocab.get(content, ids.setdefault(content, id))) != id:
            raise OctavoError(f"added token {shown(content)} has id {id} but is read as {known}")
        if by_id.setdefault(id, content) != content:
            raise OctavoError(f"two tokens have id {id}: {shown(by_id[id])} and {shown(content)}")
    return dense(by_id, len(vocab) + sum(content not in vocab for content in ids))


def dense(by_id: Mapping[int, T], size: int, start: int = 0) -> list[T]:
    """The values in order of id, once the ids are known to be `start` and on, each once."""
    if not {*map(type, by_id)} <= {int}:
        raise OctavoError("token ids must be integers")
    if start == 0 and len(by_id) == size and _in_order(by_id):
        return [*by_id.values()]
    missing = next((id for id in range(start, start + size) if id not in by_id), None)
    if missing is not None:
        last = start + size - 1
        raise OctavoError(
            f"the ids of {size} tokens must be {start} to {last}, each once; none has id {missing}"
        )
    return [by_id[id] for id in range(start, start + size)]


def _in_order(ids: Collection[int]) -> bool:
    """Whether ids are 0, 1, 2 and so on, as they are in nearly every file."""
    return all(map(eq, ids, range(len(ids))))


def listed(value: object, name: str) -> list[Any]:
    """`value`, which must be a list."""
    if not isinstance(value, list):
        raise OctavoError(f"{name} must be a list, found {type(value).__name__}")
    return value


def kind(part: object) -> str:
    """The type of a part, for a message."""
    return shown(part.get("type") if isinstance(part, dict) else part)


def shown(value: object) -> str:
    """A value for a message: short, and never a whole tree."""
    if isinstance(value, dict | list):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"
