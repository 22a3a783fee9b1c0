"""Numbers in compiled functions: which type each has, and LLVM's code of what is done with them.

What is known when a function is compiled stays Python's number until it meets one that is not. Then whole
numbers have 64 bits, a fraction that is written out is a float64, and a float32 keeps its type beside its
like alone.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from octavo.fast.types import BOOL, DOUBLE, LONG, SINGLE, Fraction, Pointer, llvm_type

CALCULATED = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mult": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "LShift": operator.lshift,
    "RShift": operator.rshift,
    "BitAnd": operator.and_,
    "BitOr": operator.or_,
}
COMPARED = {
    "Eq": ("==", operator.eq),
    "NotEq": ("!=", operator.ne),
    "Lt": ("<", operator.lt),
    "LtE": ("<=", operator.le),
    "Gt": (">", operator.gt),
    "GtE": (">=", operator.ge),
}
WRAPS = ("nsw",)  # numbers here are counts and addresses: none is ever too large


class Number(NamedTuple):
    """What the machine will know: a number, or a pointer."""

    type: Any
    value: Any


def known(value: Any) -> bool:
    """Whether a value is a number that is known now."""
    return isinstance(value, (int, float, np.generic))


def numbered(value: Any) -> Number:
    """A number for the machine, of what may be known."""
    if isinstance(value, Number):
        return value
    if isinstance(value, (bool, np.bool_)):
        return Number(BOOL, ir.Constant(ir.IntType(1), int(value)))
    if isinstance(value, (int, np.integer)):
        return Number(LONG, ir.Constant(ir.IntType(64), int(value)))
    if isinstance(value, (float, np.float32)):  # np.float64 is a float
        type_ = SINGLE if isinstance(value, np.float32) else DOUBLE
        return Number(type_, ir.Constant(llvm_type(type_), float(value)))
    raise TypeError(f"{value!r} is no number")


def cast(b: Any, value: Any, to: Any) -> Number:
    """A number in another type."""
    number = numbered(value)
    if number.type == to:
        return number
    if isinstance(to, Pointer) or isinstance(number.type, Pointer):
        raise TypeError(f"{number.type} is no {to}")
    if to == BOOL:
        return truth(b, number)
    if isinstance(number.type, Fraction):
        if isinstance(to, Fraction):
            change = b.fpext if to == DOUBLE else b.fptrunc
        else:
            change = b.fptosi if to.signed else b.fptoui
    elif isinstance(to, Fraction):
        change = b.sitofp if number.type.signed else b.uitofp
    elif number.type.bits == to.bits:
        return Number(to, number.value)
    elif number.type.bits > to.bits:
        change = b.trunc
    else:
        change = b.sext if number.type.signed else b.zext
    return Number(to, change(number.value, llvm_type(to)))


def truth(b: Any, value: Any) -> Number:
    """Whether a number is not zero."""
    number = numbered(value)
    if number.type == BOOL:
        return number
    zero = ir.Constant(llvm_type(number.type), 0)
    if isinstance(number.type, Fraction):
        return Number(BOOL, b.fcmp_unordered("!=", number.value, zero))
    return Number(BOOL, b.icmp_signed("!=", number.value, zero))


def common(*numbers: Number) -> Any:
    """The type in which numbers are added and compared."""
    found = {number.type for number in numbers}
    if found == {SINGLE}:
        return SINGLE
    return DOUBLE if found & {SINGLE, DOUBLE} else LONG


def foldable(x: Any, y: Any) -> bool:
    """Whether Python computes with two numbers what the machine would."""
    if not (known(x) and known(y)):
        return False
    return isinstance(x, np.float32) == isinstance(y, np.float32)


def calculated(b: Any, name: str, x: Any, y: Any, fast: tuple[str, ...]) -> Any:
    """``x + y`` and its like, by the name of the operation in Python's syntax."""
    if foldable(x, y):
        return CALCULATED[name](x, y)
    x, y = numbered(x), numbered(y)
    type_ = common(x, y)
    if name == "Div" and type_ == LONG:
        type_ = DOUBLE
    u, v = cast(b, x, type_).value, cast(b, y, type_).value
    if type_ != LONG:
        floating = {"Add": b.fadd, "Sub": b.fsub, "Mult": b.fmul, "Div": b.fdiv}
        return Number(type_, floating[name](u, v, flags=fast))
    if name in ("FloorDiv", "Mod"):
        return Number(type_, divided(b, u, v)[name == "Mod"])
    bits = {"LShift": b.shl, "RShift": b.ashr, "BitAnd": b.and_, "BitOr": b.or_}
    if name in bits:
        return Number(type_, bits[name](u, v))
    whole = {"Add": b.add, "Sub": b.sub, "Mult": b.mul}
    return Number(type_, whole[name](u, v, flags=WRAPS))


def divided(b: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """``x // y`` and ``x % y``, which has the sign of y."""
    zero, one = (ir.Constant(x.type, n) for n in (0, 1))
    quotient, rest = b.sdiv(x, y), b.srem(x, y)
    other = b.and_(b.icmp_signed("!=", rest, zero), b.icmp_signed("<", b.xor(rest, y), zero))
    return b.select(other, b.sub(quotient, one), quotient), b.select(other, b.add(rest, y), rest)


def compared(b: Any, name: str, x: Any, y: Any) -> Any:
    """``x < y`` and its like."""
    sign, compute = COMPARED[name]
    if foldable(x, y):
        return bool(compute(x, y))
    x, y = numbered(x), numbered(y)
    type_ = common(x, y)
    u, v = cast(b, x, type_).value, cast(b, y, type_).value
    if type_ == LONG:
        return Number(BOOL, b.icmp_signed(sign, u, v))
    order = b.fcmp_unordered if name == "NotEq" else b.fcmp_ordered
    return Number(BOOL, order(sign, u, v))


def negative(b: Any, x: Any, fast: tuple[str, ...]) -> Any:
    """``-x``."""
    if known(x):
        return -x
    if isinstance(x.type, Fraction):
        return Number(x.type, b.fneg(x.value, flags=fast))
    return calculated(b, "Sub", 0, x, fast)


def inverse(b: Any, x: Any) -> Any:
    """``~x``."""
    return ~x if known(x) else Number(LONG, b.not_(cast(b, x, LONG).value))


def extreme(b: Any, name: str, x: Any, y: Any) -> Any:
    """The smaller (Lt) or greater (Gt) of two numbers; the first where neither is."""
    if foldable(x, y):
        return y if COMPARED[name][1](y, x) else x
    other = compared(b, name, y, x)
    return chosen(b, other, y, x)


def chosen(b: Any, test: Any, x: Any, y: Any) -> Any:
    """``x if test else y``, of two numbers that are both computed."""
    if known(test):
        return x if test else y
    x, y = numbered(x), numbered(y)
    type_ = x.type if x.type == y.type else common(x, y)
    values = cast(b, x, type_).value, cast(b, y, type_).value
    return Number(type_, b.select(truth(b, test).value, *values))
