"""Reading a pickled ``tiktoken.Encoding``, or nanoGPT's table of characters, without running it.

The pickle is interpreted by `octavo.formats.pickles`: the class itself becomes a mark, its state a plain
dictionary, and any other name is refused.
"""

from __future__ import annotations

from typing import Any

from octavo.errors import OctavoError
from octavo.formats import pickles

FIELDS = {"name", "pat_str", "mergeable_ranks", "special_tokens"}


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    """What the two calls that make an encoding return."""
    if (name, arguments) == ("encoding", ()) or (
        name == "reconstructor" and arguments == (pickles.Name("encoding"), pickles.Name("object"), None)
    ):
        return pickles.Made("encoding")
    return NotImplemented


GRAMMAR = pickles.Grammar(
    "a pickled tiktoken.Encoding",
    {
        "tiktoken.core Encoding": "encoding",
        "copyreg _reconstructor": "reconstructor",
        "copy_reg _reconstructor": "reconstructor",
        "builtins object": "object",
        "__builtin__ object": "object",
    },
    _made,
)


def read(data: bytes) -> dict[str, Any]:
    """The state of the pickled encoding.

    Parameters
    ----------
    data : bytes
        The pickle, of any protocol.

    Returns
    -------
    dict
        ``name``, ``pat_str``, ``mergeable_ranks`` (bytes to rank), ``special_tokens`` (text to id); or
        nanoGPT's ``stoi`` and ``itos`` (text to id, and back).

    Raises
    ------
    OctavoError
        Anything but a pickled ``tiktoken.Encoding`` that holds its own ranks, or nanoGPT's table.

    Examples
    --------
    >>> import pickle
    >>> from octavo.tokenizers import tiktoken_pickle
    >>> tiktoken_pickle.read(pickle.dumps(print))
    Traceback (most recent call last):
    octavo.errors.OctavoError: the pickle mentions 'builtins print'; only a pickled tiktoken.Encoding is read
    """
    found = pickles.read(data, GRAMMAR)
    if isinstance(found, dict) and {"stoi", "itos"} <= found.keys():
        return found
    if not isinstance(found, pickles.Made):
        raise OctavoError(
            f"the pickle holds a {type(found).__name__}; only a pickled tiktoken.Encoding is read"
        )
    return _checked(found.state)


def alphabet(table: dict[str, Any]) -> str:
    """The characters of nanoGPT's ``meta.pkl`` in the order of their ids.

    Examples
    --------
    >>> alphabet({"stoi": {"a": 0, "b": 1}, "itos": {0: "a", 1: "b"}})
    'ab'
    """
    characters, ids = table["itos"], table["stoi"]
    if not isinstance(characters, dict) or not isinstance(ids, dict) or len(characters) != len(ids):
        raise OctavoError("stoi and itos must be tables of the same characters")
    letters = [str(characters.get(id)) for id in range(len(characters))]
    if any(len(letter) != 1 or ids.get(letter) != id for id, letter in enumerate(letters)):
        raise OctavoError("stoi and itos must give the ids 0, 1, 2 ... to single characters, and agree")
    return "".join(letters)


def _checked(state: object) -> dict[str, Any]:
    if isinstance(state, str):
        raise OctavoError(
            f"this pickle only refers to tiktoken's built-in encoding {state!r:.40} and holds no ranks; "
            "save the encoding as tokenizer.json instead"
        )
    if not isinstance(state, dict) or state.keys() != FIELDS:
        raise OctavoError(
            f"a pickled tiktoken.Encoding must hold {', '.join(sorted(FIELDS))}, found another state"
        )
    if type(state["pat_str"]) is not str:
        raise OctavoError("the encoding's pat_str must be text")
    for name, kind in (("mergeable_ranks", bytes), ("special_tokens", str)):
        table = state[name]
        if type(table) is not dict or any(
            type(k) is not kind or type(v) is not int for k, v in table.items()
        ):
            raise OctavoError(f"the encoding's {name} must map {kind.__name__} to integers")
    return state
