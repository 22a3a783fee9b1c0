"""Compiling: functions of three whole numbers as machine code for this processor, each in an object file.

Numba makes LLVM's code of Python. What it puts around that, for calls from Python and for its errors, is left
out: the code that is kept needs neither, nothing of it refers to Python, and any thread may run it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba
from llvmlite.binding import newpassmanagers as passes
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

ROOMS = ("instructions", "attending", "convolving", "drawing", "laying", "working")
"""Where functions are that can be asked for."""
MADE: dict[str, Callable[[int, int, int], Any]] = {}
SIGNATURE = (numba.int64,) * 3

ENTRY = """
define i64 @{symbol}(i64 %a, i64 %b, i64 %c) {{
  %result = alloca i64
  %error = alloca ptr
  store i64 0, ptr %result
  %status = call i32 @"{name}"(ptr %result, ptr %error, i64 %a, i64 %b, i64 %c)
  %none = icmp eq i32 %status, -2
  %well = icmp eq i32 %status, 0
  %returned = or i1 %none, %well
  %found = load i64, ptr %result
  %value = select i1 %returned, i64 %found, i64 -1
  ret i64 %value
}}
"""
"""What is called: the function's number, 0 if it has none, and -1 if it failed."""

OWNER = re.compile(r"declare void @NRT_MemInfo_call_dtor\(.*")
NOBODY = "define void @NRT_MemInfo_call_dtor(ptr %0) { ret void }"
"""What Numba calls when nobody uses an array any more; those here are views of others' memory."""

FOREIGN = ("Py", "_Py", "NRT_", "numba_")


def compiled(function: F, **options: Any) -> F:
    """The function as compiled functions call it."""
    found: F = numba.njit(error_model="numpy", **options)(function)
    return found


def emitted(build: Callable[..., Any]) -> Any:
    """A function of machine instructions, from its type and the LLVM code that `build` gives."""
    return intrinsic(build)


def emitted_for_literals(build: Callable[..., Any]) -> Any:
    """The same; numbers among its arguments that are written out, `build` is told."""
    return intrinsic(prefer_literal=True)(build)


def named(name: str) -> Callable[[F], F]:
    """A function of three whole numbers that can be asked for by name."""

    def enter(function: F) -> F:
        MADE[name] = function
        return function

    return enter


def compile_named(name: str, symbol: str, *, copied: bool) -> bytes:
    """The object file of a named function, which `symbol` is to call; code that may be `copied` anywhere."""
    for room in ROOMS:
        import_module(f"octavo.fast.{room}")
    dispatcher: Any = compiled(MADE[name])
    dispatcher.compile(SIGNATURE)
    (found,) = dispatcher.overloads.values()
    text = OWNER.sub(NOBODY, found.library.get_llvm_str())
    text += ENTRY.format(symbol=symbol, name=found.fndesc.mangled_name)
    return emit(llvm.parse_assembly(text), symbol, copied)


def emit(module: Any, symbol: str, copied: bool) -> bytes:
    """The machine code of a module's function `symbol`, and of what it calls."""
    module.verify()
    target = llvm.Target.from_triple(module.triple)
    features = llvm.get_host_cpu_features().flatten()
    how = {"reloc": "pic", "codemodel": "small"} if copied else {"codemodel": "jitdefault", "jit": True}
    machine = target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, **how)
    for part in [*module.functions, *module.global_variables]:
        if not part.is_declaration and part.name != symbol:
            part.linkage = "internal"
    builder = passes.create_pass_builder(machine, passes.create_pipeline_tuning_options())
    manager = passes.create_new_module_pass_manager()
    manager.add_global_dead_code_eliminate_pass()
    manager.run(module, builder)
    foreign = [f.name for f in module.functions if f.is_declaration and f.name.startswith(FOREIGN)]
    if foreign:
        raise RuntimeError(f"{symbol} refers to {', '.join(foreign)}, which compiled code cannot")
    code: bytes = machine.emit_object(module)
    return code
