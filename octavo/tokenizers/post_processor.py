"""What a published tokenizer puts around a text: the ``post_processor`` of its ``tokenizer.json``.

`octavo` adds nothing to a text that it encodes; who writes on from the beginning of a text asks for
`Tokenizer.begins_with` and puts those ids before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from octavo.errors import OctavoError
from octavo.tokenizers.fields import kind, listed, shown

Ids = tuple[int, ...]


def read(document: dict[str, Any], tokens: Sequence[str]) -> dict[str, Any] | None:
    """The post-processor of a document in canonical form, or `OctavoError`; `tokens` are in order of id."""
    part = document.get("post_processor")
    return None if part is None else _read(part, tokens)


def around(part: dict[str, Any] | None) -> tuple[Ids, Ids]:
    """The ids before a text and those after it."""
    if part is None or part["type"] == "ByteLevel":
        return (), ()
    if part["type"] == "Sequence":  # of which one at most is a template
        return next((found for inner in part["processors"] if any(found := around(inner))), ((), ()))
    before: list[int] = []
    after: list[int] = []
    side = before
    for piece in part["single"]:
        if "Sequence" in piece:
            side = after
        else:
            side += part["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
    return tuple(before), tuple(after)


def make(before: Ids, after: Ids, tokens: Sequence[str]) -> dict[str, Any] | None:
    """The post-processor that puts these ids around a text; `tokens` are in order of id."""
    if not before and not after:
        return None

    def specials(ids: Ids, type_id: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": tokens[id], "type_id": type_id}} for id in ids]

    def sequence(name: str, type_id: int) -> list[dict[str, Any]]:
        text = [{"Sequence": {"id": name, "type_id": type_id}}]
        return [*specials(before, type_id), *text, *specials(after, type_id)]

    named = {tokens[id]: {"id": tokens[id], "ids": [id], "tokens": [tokens[id]]} for id in (*before, *after)}
    return _template(sequence("A", 0), [*sequence("A", 0), *sequence("B", 1)], named)


def _template(single: list[Any], pair: list[Any], specials: dict[str, Any]) -> dict[str, Any]:
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials}


def _read(part: object, tokens: Sequence[str], depth: int = 0) -> dict[str, Any]:
    match part:
        case {"type": "ByteLevel", **options}:  # trims offsets, which nobody asks for here
            flags = ("add_prefix_space", "trim_offsets", "use_regex")
            return {"type": "ByteLevel", **{flag: options.get(flag, True) is True for flag in flags}}
        case {"type": "Sequence", "processors": [*inner]} if depth == 0 and len(inner) <= 8:
            read = [_read(one, tokens, depth + 1) for one in inner]
            if [one["type"] for one in read].count("TemplateProcessing") > 1:
                raise OctavoError("a post_processor must have one TemplateProcessing at most, found more")
            return {"type": "Sequence", "processors": read}
        case {"type": "TemplateProcessing", "single": single, "pair": pair, **rest}:
            specials = _read_specials(rest.get("special_tokens") or {}, tokens)
            return _read_template(single, pair, specials)
    raise OctavoError(
        f"post_processor {kind(part)} is not supported; supported are ByteLevel, TemplateProcessing "
        "and a Sequence of them"
    )


def _read_template(single: object, pair: object, specials: dict[str, Any]) -> dict[str, Any]:
    of_one = [_read_piece(piece, specials, "A") for piece in listed(single, "single")]
    of_two = [_read_piece(piece, specials, "AB") for piece in listed(pair, "pair")]
    if [name for piece in of_one if (name := _sequence(piece))] != ["A"]:
        raise OctavoError("a template must have its text, Sequence A, once in 'single'")
    if sorted(name for piece in of_two if (name := _sequence(piece))) != ["A", "B"]:
        raise OctavoError("a template must have both texts, Sequence A and B, once in 'pair'")
    return _template(of_one, of_two, specials)


def _read_specials(table: object, tokens: Sequence[str]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise OctavoError(f"special_tokens of a template must be an object, found {type(table).__name__}")
    return {name: _read_special(name, special, tokens) for name, special in table.items()}


def _sequence(piece: dict[str, Any]) -> str | None:
    name: str | None = piece.get("Sequence", {}).get("id")
    return name


def _read_special(name: str, special: object, tokens: Sequence[str]) -> dict[str, Any]:
    match special:
        case {"ids": [*ids], "tokens": [*named]} if (
            0 < len(ids) == len(named) <= 8
            and all(type(id) is int and 0 <= id < len(tokens) for id in ids)
            and [tokens[id] for id in ids] == named
        ):
            return {"id": name, "ids": ids, "tokens": named}
    raise OctavoError(f"special token {shown(name)} of the template is none of the {len(tokens)} tokens")


def _read_piece(piece: object, specials: dict[str, Any], sequences: str) -> dict[str, Any]:
    match piece:
        case {"SpecialToken": {"id": str() as name, "type_id": int() as type_id}} if name in specials:
            found = "SpecialToken"
        case {"Sequence": {"id": str() as name, "type_id": int() as type_id}} if name in [*sequences]:
            found = "Sequence"
        case _:
            raise OctavoError("a template must be made of Sequence A (and B) and of its special_tokens")
    if not 0 <= type_id < 2**32 or isinstance(type_id, bool):
        raise OctavoError(f"a template must have type ids from 0 on, found {shown(type_id)}")
    return {found: {"id": name, "type_id": type_id}}
