"""The vocabulary of a GGUF file: what stands under ``tokenizer.ggml.`` in its metadata, checked.

The format is described by https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. What a file leaves
out has the values that llama.cpp gives it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from octavo.errors import OctavoError
from octavo.tokenizers import fields, post_processor
from octavo.tokenizers.fields import shown

PREFIX = "tokenizer.ggml."
_LONGEST = 512  # characters; trying every way to split a token takes the square of its length


class Type(IntEnum):
    """What kind of token one is."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Defaults:
    """The ids that a kind of vocabulary has where its file names none, and what it puts around a text."""

    bos: int | None = None
    eos: int | None = None
    unknown: int | None = None
    begins: bool = False
    ends: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in order of id and their ids, types and, if any, scores; ids `before` and `after` a text."""

    tokens: list[str]
    ids: dict[str, int]
    types: list[int]
    scores: list[float]
    unknown: int | None
    before: tuple[int, ...]
    after: tuple[int, ...]

    def of(self, *types: Type) -> dict[str, int]:
        """The ids of the tokens of these types."""
        wanted = {*map(int, types)}
        return {self.tokens[id]: id for id, type in enumerate(self.types) if type in wanted}

    def added(self) -> list[dict[str, Any]]:
        """The tokens that are found in a text as they stand, or would be if they were asked for."""
        return [
            fields.added(id, token, special=self.types[id] != Type.USER_DEFINED)
            for token, id in self.of(Type.UNKNOWN, Type.CONTROL, Type.USER_DEFINED).items()
        ]

    def post_processor(self) -> dict[str, Any] | None:
        """What puts `before` and `after` around a text."""
        return post_processor.make(self.before, self.after, self.tokens)


def read(metadata: Mapping[str, Any], defaults: Defaults) -> Vocabulary:
    """The vocabulary in metadata, or `OctavoError`."""
    tokens = strings(metadata, "tokens") or []
    if not tokens:
        raise OctavoError(f"the metadata has no {PREFIX}tokens")
    if not all(tokens):
        tokens = [token or f"[EMPTY_{id}]" for id, token in enumerate(tokens)]
    ids = {token: id for id, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        (twice, _), *_ = Counter(tokens).most_common(1)
        raise OctavoError(f"{PREFIX}tokens has {shown(twice)} twice")
    types = _numbers(metadata, "token_type", len(tokens)) or [Type.NORMAL] * len(tokens)
    if odd := {*types} - {*Type}:
        raise OctavoError(f"{PREFIX}token_type must be from 0 to 6, found {shown(odd.pop())}")
    scores = _numbers(metadata, "scores", len(tokens))
    if not all(map(math.isfinite, scores)):
        raise OctavoError(f"{PREFIX}scores has a score that is no finite number")
    bos, eos, unknown = (
        _id(metadata, f"{name}_token_id", default, len(tokens))
        for name, default in (("bos", defaults.bos), ("eos", defaults.eos), ("unknown", defaults.unknown))
    )
    before = _around(metadata, "add_bos_token", defaults.begins, "bos", bos)
    after = _around(metadata, "add_eos_token", defaults.ends, "eos", eos)
    if (
        PREFIX + "token_type" not in metadata
    ):  # files before there were types: what stands for no text is no text
        types = [Type.CONTROL if id in (bos, eos, unknown) else type for id, type in enumerate(types)]
    return Vocabulary(tokens, ids, [*map(int, types)], scores, unknown, before, after)


def joins(token: str, known: Container[str]) -> Iterator[tuple[str, str]]:
    """Each way to make a token of two that are known."""
    if len(token) > _LONGEST:
        raise OctavoError(f"a token has {len(token)} characters, {_LONGEST} are the most that one may have")
    for i in range(1, len(token)):
        if token[:i] in known and token[i:] in known:
            yield token[:i], token[i:]


def strings(metadata: Mapping[str, Any], name: str) -> list[str] | None:
    """A list of texts, or None where there is none."""
    values = _list(metadata, name)
    if values is not None and not {*map(type, values)} <= {str}:
        raise OctavoError(f"{PREFIX}{name} must be a list of texts")
    return values


def flag(metadata: Mapping[str, Any], name: str, default: bool) -> bool:
    """True or false."""
    value = metadata.get(PREFIX + name, default)
    if not isinstance(value, bool):
        raise OctavoError(f"{PREFIX}{name} must be true or false, found {shown(value)}")
    return value


def _list(metadata: Mapping[str, Any], name: str) -> list[Any] | None:
    value: Any = metadata.get(PREFIX + name)
    value = value.tolist() if hasattr(value, "tolist") else value  # an array
    if value is not None and not isinstance(value, list | tuple):
        raise OctavoError(f"{PREFIX}{name} must be a list, found {type(value).__name__}")
    return None if value is None else list(value)


def _numbers(metadata: Mapping[str, Any], name: str, size: int) -> list[Any]:
    values = _list(metadata, name)
    if values is None:
        return []
    if not {*map(type, values)} <= {int, float}:
        raise OctavoError(f"{PREFIX}{name} must be a list of numbers")
    if len(values) != size:
        raise OctavoError(f"{PREFIX}{name} has {len(values)} values for {size} tokens")
    return values


def _id(metadata: Mapping[str, Any], name: str, default: int | None, size: int) -> int | None:
    if (PREFIX + name) not in metadata:
        return default if default is not None and default < size else None
    value = metadata[PREFIX + name]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < size:
        raise OctavoError(f"{PREFIX}{name} must be an id from 0 to {size - 1}, found {shown(value)}")
    return value


def _around(
    metadata: Mapping[str, Any], name: str, default: bool, which: str, id: int | None
) -> tuple[int, ...]:
    if not flag(metadata, name, default):
        return ()
    if id is None:
        raise OctavoError(
            f"a text shall have a token {which} around it, but there is no {PREFIX}{which}_token_id"
        )
    return (id,)
