"""The types of numbers in compiled functions, and what LLVM calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir


class Whole(NamedTuple):
    """Whole numbers of so many bits."""

    bits: int
    signed: bool = True


class Fraction(NamedTuple):
    """Numbers with a point, of 32 or 64 bits."""

    bits: int


class Pointer(NamedTuple):
    """The address of such numbers, one behind the other."""

    to: Any


BOOL, OCTET, SHORT, WORD = (Whole(bits, signed=False) for bits in (1, 8, 16, 32))
INT, LONG, SINGLE, DOUBLE = Whole(32), Whole(64), Fraction(32), Fraction(64)


def llvm_type(type_: Any) -> Any:
    """What LLVM calls a type."""
    if isinstance(type_, Pointer):
        return llvm_type(type_.to).as_pointer()
    if isinstance(type_, Fraction):
        return ir.FloatType() if type_ == SINGLE else ir.DoubleType()
    return ir.IntType(type_.bits)


class Emitted(NamedTuple):
    """A function of machine instructions, which `write` writes at a builder's place.

    The first arguments, so many as are `known`, it is told as numbers of Python.
    """

    write: Callable[..., Any]
    gives: Any
    takes: tuple[Any, ...]
    known: int


def emitted(gives: Any, *takes: Any, known: int = 0) -> Callable[[Callable[..., Any]], Any]:
    """A function of machine instructions, by the types of what it gives and takes."""
    return lambda write: Emitted(write, gives, takes, known)
