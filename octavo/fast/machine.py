"""What a processor does and Python has no word for: addresses, counting together, calling by address."""

from __future__ import annotations

import mmap
import platform
from typing import Any

from llvmlite import ir

from octavo.fast import types
from octavo.fast.emitting import outer
from octavo.fast.types import DOUBLE, OCTET, SHORT, SINGLE, WORD, Pointer, emitted, llvm_type

LONG, INT = ir.IntType(64), ir.IntType(32)
X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
POSIX = platform.system() != "Windows"
FORGETS = hasattr(mmap, "MADV_DONTNEED")


def _pointer(element: Any) -> Any:
    """A function from an address to a pointer to such elements."""
    pointer = Pointer(element)
    return emitted(pointer, types.LONG)(lambda b, address: b.inttoptr(address, llvm_type(pointer)))


longs = _pointer(types.LONG)
singles = _pointer(SINGLE)
doubles = _pointer(DOUBLE)
shorts = _pointer(SHORT)
words = _pointer(WORD)
octets = _pointer(OCTET)


@emitted(types.LONG, types.LONG)
def count(b: Any, address: Any) -> Any:
    """Add one to the number at an address, alone among all threads -> what it was."""
    return b.atomic_rmw("add", b.inttoptr(address, LONG.as_pointer()), LONG(1), "acq_rel")


@emitted(types.LONG, types.LONG)
def look(b: Any, address: Any) -> Any:
    """The number at an address, and with it all that was written before it was."""
    return b.load_atomic(b.inttoptr(address, LONG.as_pointer()), "acquire", 8)


@emitted(None, types.LONG, types.LONG)
def put(b: Any, address: Any, value: Any) -> None:
    """Write a number to an address, after all that was written before."""
    b.store_atomic(value, b.inttoptr(address, LONG.as_pointer()), "seq_cst", 8)


@emitted(None)
def breathe(b: Any) -> None:
    """Tell the processor that this is a loop that waits."""
    if X86:
        b.call(outer(b, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"), [])


@emitted(None)
def step_aside(b: Any) -> None:
    """Let another thread have this processor."""
    if POSIX:
        b.call(outer(b, ir.FunctionType(INT, []), "sched_yield"), [])


@emitted(None, types.LONG, types.LONG)
def forget(b: Any, start: Any, end: Any) -> None:
    """Give pages of a mapped file back; who reads them on, reads the file."""
    if FORGETS:
        type_ = ir.FunctionType(INT, [LONG, LONG, INT])
        b.call(outer(b, type_, "madvise"), [start, b.sub(end, start), INT(mmap.MADV_DONTNEED)])


@emitted(types.LONG, *[types.LONG] * 4)
def call(b: Any, function: Any, *given: Any) -> Any:
    """Call the compiled function at an address, with the frame, its arguments and the thread."""
    return b.call(b.inttoptr(function, ir.FunctionType(LONG, [LONG] * 3).as_pointer()), given)


@emitted(SINGLE, types.INT)
def power(b: Any, exponent: Any) -> Any:
    """``2^n`` in float32, for -127 < n < 128."""
    return b.bitcast(b.shl(b.add(exponent, INT(127)), INT(23)), ir.FloatType())


@emitted(SHORT, SINGLE)
def narrow(b: Any, number: Any) -> Any:
    """The 16 bits of the half that is nearest to a number in float32."""
    return b.bitcast(b.fptrunc(number, ir.HalfType()), ir.IntType(16))
