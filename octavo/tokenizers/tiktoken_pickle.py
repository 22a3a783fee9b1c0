"""Reading a pickled ``tiktoken.Encoding`` without running it.

A pickle is a program that may call anything. This is an interpreter of the few instructions
that pickling this one class produces, in protocols 0 to 5: the class itself becomes a mark,
its state a plain dictionary, and any other instruction or name is refused by name. The
standard library's `pickletools` decodes the instructions; nothing is imported or called.
"""

from __future__ import annotations

import pickletools
import warnings
from enum import Enum, auto
from typing import Any

from octavo.errors import OctavoError

FIELDS = {"name", "pat_str", "mergeable_ranks", "special_tokens"}


class _Name(Enum):
    """What such a pickle mentions: the class, and what protocols 0 to 2 need to make it and its bytes."""

    ENCODING = auto()
    RECONSTRUCT = auto()
    OBJECT = auto()
    BYTES = auto()
    ENCODE = auto()


_GLOBALS = {
    "tiktoken.core Encoding": _Name.ENCODING,
    "copyreg _reconstructor": _Name.RECONSTRUCT,
    "copy_reg _reconstructor": _Name.RECONSTRUCT,
    "builtins object": _Name.OBJECT,
    "__builtin__ object": _Name.OBJECT,
    "builtins bytes": _Name.BYTES,
    "__builtin__ bytes": _Name.BYTES,
    "_codecs encode": _Name.ENCODE,
}


class _Encoding:
    """The object under construction."""

    state: object = None


_MARK = object()


def read(data: bytes) -> dict[str, Any]:
    """The state of the pickled encoding.

    Parameters
    ----------
    data : bytes
        The pickle, of any protocol.

    Returns
    -------
    dict
        ``name``, ``pat_str``, ``mergeable_ranks`` (bytes to rank), ``special_tokens`` (text to id).

    Raises
    ------
    OctavoError
        Anything but a pickled ``tiktoken.Encoding`` that holds its own ranks.

    Examples
    --------
    >>> import pickle
    >>> from octavo.tokenizers import tiktoken_pickle
    >>> tiktoken_pickle.read(pickle.dumps(print))
    Traceback (most recent call last):
    octavo.errors.OctavoError: the pickle mentions 'builtins print'; only a pickled tiktoken.Encoding is read
    """
    try:
        state = _Machine(len(data)).run(data)
    except OctavoError:
        raise
    except (ValueError, LookupError, TypeError, OverflowError, MemoryError) as error:
        # pickletools and the handlers below raise these on damaged input: a stack or memo that
        # lacks something, a length beyond the end, digits that are none.
        raise OctavoError(
            f"the pickle is damaged or truncated ({type(error).__name__}: {error!s:.80})"
        ) from None
    return _checked(state)


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


class _Machine:
    """A stack, a memo, and what each known instruction does to them."""

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.room = size  # how many bytes _codecs.encode may still make: no more than the file has

    def run(self, data: bytes) -> object:
        """The state of the one object that the program leaves."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickletools, about backslashes in damaged names
            for instruction, argument, _ in pickletools.genops(data):
                self.step(instruction.name, argument)
        (result,) = self.stack
        if not isinstance(result, _Encoding):
            raise OctavoError(
                f"the pickle holds a {type(result).__name__}; only a pickled tiktoken.Encoding is read"
            )
        return result.state

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE":
                stack.append(None)
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1":
                stack.append(argument)
            case "UNICODE" | "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8":
                stack.append(argument)
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                stack.append(_set_items({}, self.to_mark()))
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, value])
            case "SETITEMS":
                items = self.to_mark()
                _set_items(stack[-1], items)
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.tuple_of(int(name[-1]))
            case "TUPLE":
                stack.append(tuple(self.to_mark()))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL":
                stack.append(_global(argument))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not (isinstance(module, str) and isinstance(attribute, str)):
                    raise OctavoError("the pickle is damaged: it names a global by something other than text")
                stack.append(_global(f"{module} {attribute}"))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self.called(function, arguments))
            case "BUILD":
                state = stack.pop()
                _built(stack[-1], state)
            case _:
                raise OctavoError(
                    f"the pickle has the instruction {name}; only a pickled tiktoken.Encoding is read"
                )

    def to_mark(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        stack = self.stack
        start = len(stack) - 1
        while stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise OctavoError("the pickle is damaged: an instruction misses its mark")
        items = stack[start + 1 :]
        del stack[start:]
        return items

    def tuple_of(self, n: int) -> None:
        """Make the last `n` values one."""
        if len(self.stack) < n:
            raise OctavoError("the pickle is damaged: a tuple misses its values")
        self.stack[-n:] = [tuple(self.stack[-n:])]

    def called(self, function: object, arguments: object) -> object:
        """What the three calls that such a pickle makes return."""
        match function, arguments:
            case (_Name.ENCODING, ()) | (_Name.RECONSTRUCT, (_Name.ENCODING, _Name.OBJECT, None)):
                return _Encoding()
            case _Name.BYTES, ():
                return b""
            case _Name.ENCODE, (str() as text, "latin1"):
                self.room -= len(text)
                if self.room < 0:
                    raise OctavoError("the pickle is hostile: it makes more bytes than it has")
                return text.encode("latin1")
        raise OctavoError("the pickle makes a call that no pickled tiktoken.Encoding makes")


def _global(name: str) -> _Name:
    if name not in _GLOBALS:
        raise OctavoError(f"the pickle mentions {name!r:.80}; only a pickled tiktoken.Encoding is read")
    return _GLOBALS[name]


def _set_items(table: object, items: list[Any]) -> object:
    if type(table) is not dict or len(items) % 2:
        raise OctavoError("the pickle is damaged: it sets items of something that is no table")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, bytes):
            raise OctavoError(f"the pickle has a table with a key of type {type(key).__name__}")
        table[key] = value
    return table


def _built(target: object, state: object) -> None:
    if not isinstance(target, _Encoding) or target.state is not None:
        raise OctavoError("the pickle is damaged: it gives a state to something that takes none")
    target.state = state
