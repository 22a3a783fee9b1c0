"""Pickles that are read without running them.

A pickle is a program that may call anything. This interprets the instructions that write plain data:
numbers, text, bytes, lists, tuples and tables. A reader says besides which names may be mentioned, what
calls of them give (of its own making: nothing is imported), and what stands for things kept elsewhere;
any other instruction or name is refused. The standard library's `pickletools` decodes the instructions.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from octavo.errors import OctavoError

_MARK = object()
_PLAIN = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"}
_PLAIN |= {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_PLAIN |= {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LARGEST_KEY = 2**60  # of whole numbers: larger ones can be made to meet in one place of a table

# What protocols 0 to 2 need to make bytes.
_BYTES = {"builtins bytes", "__builtin__ bytes"}
_ENCODE = "_codecs encode"


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle mentions: its module and its name."""

    path: str


class Made:
    """An object under construction: what it is of, and the state it was given."""

    def __init__(self, of: str) -> None:
        self.of, self.state = of, None


@dataclass(frozen=True)
class Grammar:
    """What a kind of pickle may hold besides plain data.

    Attributes
    ----------
    what : str
        Its name in messages: "a pickled tiktoken.Encoding".
    names : mapping of str to str
        The names it may mention ("module name"), and what each is here; those that mean the same
        may share one.
    call : function
        Takes what a name is here and a tuple of arguments; returns what the call gives, or
        NotImplemented where no such pickle makes it.
    refer : function or None
        Takes the key of something kept outside the pickle; returns it.
    """

    what: str
    names: Mapping[str, str] = field(default_factory=dict)
    call: Callable[[str, tuple[Any, ...]], Any] = lambda name, arguments: NotImplemented
    refer: Callable[[Any], Any] | None = None


PLAIN = Grammar("plain data", MappingProxyType({}))


def read(data: bytes, grammar: Grammar) -> Any:
    """The value that a pickle holds.

    Parameters
    ----------
    data : bytes
        The pickle, of any protocol.
    grammar : Grammar
        What it may hold besides plain data.

    Returns
    -------
    Any
        Its plain data, with what the grammar makes of names and references.

    Raises
    ------
    OctavoError
        If the pickle is damaged, or holds anything else.

    Examples
    --------
    >>> import pickle
    >>> read(pickle.dumps({"a": [1, 2.5, None]}), PLAIN)
    {'a': [1, 2.5, None]}
    >>> read(pickle.dumps(print), PLAIN)
    Traceback (most recent call last):
    octavo.errors.OctavoError: the pickle mentions 'builtins print'; only plain data is read
    """
    try:
        return _Machine(grammar, len(data)).run(data)
    except OctavoError:
        raise
    except (ValueError, LookupError, TypeError, OverflowError, MemoryError) as error:
        # pickletools and the handlers below raise these on damaged input: a stack or memo that
        # lacks something, a length beyond the end, digits that are none.
        raise OctavoError(
            f"the pickle is damaged or truncated ({type(error).__name__}: {error!s:.80})"
        ) from None


class _Machine:
    """A stack, a memo, and what each known instruction does to them."""

    def __init__(self, grammar: Grammar, size: int) -> None:
        self.grammar = grammar
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.room = size  # how many bytes _codecs.encode may still make: no more than the file has

    def run(self, data: bytes) -> Any:
        """The one value that the program leaves."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickletools, about backslashes in damaged names
            for instruction, argument, _ in pickletools.genops(data):
                self.step(instruction.name, argument)
        (result,) = self.stack
        return result

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        stack = self.stack
        if name in _PLAIN:
            stack.append(argument)
            return
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
            return
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"DICT": {}, "LIST": [], "TUPLE": ()}[name[6:]])
            case "DICT":
                stack.append(_set_items({}, self.to_mark()))
            case "LIST":
                stack.append(self.to_mark())
            case "TUPLE":
                stack.append(tuple(self.to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.tuple_of(int(name[-1]))
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, value])
            case "SETITEMS":
                items = self.to_mark()
                _set_items(stack[-1], items)
            case "APPEND":
                value = stack.pop()
                _extend(stack[-1], [value])
            case "APPENDS":
                items = self.to_mark()
                _extend(stack[-1], items)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL":
                stack.append(self.named(argument))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not (isinstance(module, str) and isinstance(attribute, str)):
                    raise OctavoError("the pickle is damaged: it names a global by something other than text")
                stack.append(self.named(f"{module} {attribute}"))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self.called(function, arguments))
            case "BUILD":
                state = stack.pop()
                _built(stack[-1], state)
            case "BINPERSID" if self.grammar.refer is not None:
                stack.append(self.grammar.refer(stack.pop()))
            case _:
                raise OctavoError(f"the pickle has the instruction {name}; only {self.grammar.what} is read")

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

    def named(self, path: str) -> Name:
        """A name, if such a pickle may mention it."""
        if path in self.grammar.names:
            return Name(self.grammar.names[path])
        if self.grammar.names and (path in _BYTES or path == _ENCODE):
            return Name(path)
        raise OctavoError(f"the pickle mentions {path!r:.80}; only {self.grammar.what} is read")

    def called(self, function: object, arguments: object) -> Any:
        """What a call gives."""
        if isinstance(function, Name) and type(arguments) is tuple:
            if function.path in _BYTES and arguments == ():
                return b""
            if function.path == _ENCODE:
                return self.encoded(*arguments)
            result = self.grammar.call(function.path, arguments)
            if result is not NotImplemented:
                return result
        raise OctavoError(f"the pickle makes a call that {self.grammar.what} does not make")

    def encoded(self, text: str, encoding: str) -> bytes:
        """Bytes as protocols 0 to 2 write them: the letters of Latin-1."""
        if type(text) is not str or encoding != "latin1":
            raise OctavoError(f"the pickle makes a call that {self.grammar.what} does not make")
        self.room -= len(text)
        if self.room < 0:
            raise OctavoError("the pickle is hostile: it makes more bytes than it has")
        return text.encode("latin1")


def _set_items(table: object, items: list[Any]) -> object:
    if not isinstance(table, dict) or len(items) % 2:
        raise OctavoError("the pickle is damaged: it sets items of something that is no table")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, bytes) and not (type(key) is int and abs(key) < LARGEST_KEY):
            raise OctavoError(f"the pickle has a table with a key of type {type(key).__name__}")
        table[key] = value
    return table


def _extend(values: object, items: list[Any]) -> None:
    if type(values) is not list:
        raise OctavoError("the pickle is damaged: it adds to something that is no list")
    values += items


def _built(target: object, state: object) -> None:
    if isinstance(target, dict):  # an OrderedDict brings attributes of its own, which nobody needs
        return
    if not isinstance(target, Made) or target.state is not None:
        raise OctavoError("the pickle is damaged: it gives a state to something that takes none")
    target.state = state  # type: ignore[assignment]
