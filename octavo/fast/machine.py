"""What a processor does and Numba has no word for: addresses, counting together, calling by address."""

from __future__ import annotations

import mmap
import platform
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from octavo.fast.compiling import emitted

LONG, INT = ir.IntType(64), ir.IntType(32)
X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
POSIX = platform.system() != "Windows"
FORGETS = hasattr(mmap, "MADV_DONTNEED")


def outer(builder: Any, type_: Any, name: str) -> Any:
    """A function of LLVM or of the C library, by its name."""
    module: Any = cgutils
    return module.get_or_insert_function(builder.module, type_, name)


def _pointer(element: Any) -> Any:
    """A function from an address to a pointer to such elements."""
    pointer_to: Any = types.CPointer
    pointer = pointer_to(element)

    def typed(context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return pointer(types.int64), generate

    return emitted(typed)


longs = _pointer(types.int64)
singles = _pointer(types.float32)
doubles = _pointer(types.float64)
shorts = _pointer(types.uint16)
words = _pointer(types.uint32)
octets = _pointer(types.uint8)


@emitted
def count(context: Any, address: Any) -> Any:
    """Add one to the number at an address, alone among all threads -> what it was."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], LONG.as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(LONG, 1), "acq_rel")

    return types.int64(types.int64), generate


@emitted
def look(context: Any, address: Any) -> Any:
    """The number at an address, and with it all that was written before it was."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], LONG.as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


@emitted
def put(context: Any, address: Any, value: Any) -> Any:
    """Write a number to an address, after all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], builder.inttoptr(args[0], LONG.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@emitted
def breathe(context: Any) -> Any:
    """Tell the processor that this is a loop that waits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if X86:
            type_ = ir.FunctionType(ir.VoidType(), [])
            builder.call(outer(builder, type_, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@emitted
def step_aside(context: Any) -> Any:
    """Let another thread have this processor."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if POSIX:
            type_ = ir.FunctionType(INT, [])
            builder.call(outer(builder, type_, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@emitted
def forget(context: Any, start: Any, end: Any) -> Any:
    """Give pages of a mapped file back; who reads them on, reads the file."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if FORGETS:
            type_ = ir.FunctionType(INT, [LONG, LONG, INT])
            size, how = builder.sub(args[1], args[0]), ir.Constant(INT, mmap.MADV_DONTNEED)
            builder.call(outer(builder, type_, "madvise"), [args[0], size, how])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@emitted
def call(context: Any, function: Any, frame: Any, args: Any, thread: Any) -> Any:
    """Call the compiled function at an address -> what it returns."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        type_ = ir.FunctionType(LONG, [LONG] * 3)
        return builder.call(builder.inttoptr(given[0], type_.as_pointer()), given[1:])

    return types.int64(*[types.int64] * 4), generate


@emitted
def power(context: Any, exponent: Any) -> Any:
    """``2^n`` in float32, for -127 < n < 128."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.shl(builder.add(args[0], ir.Constant(INT, 127)), ir.Constant(INT, 23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.int32), generate


@emitted
def narrow(context: Any, number: Any) -> Any:
    """The 16 bits of the half that is nearest to a number in float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), generate
