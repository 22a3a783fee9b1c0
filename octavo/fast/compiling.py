"""Compiling: functions of three whole numbers as machine code for this processor, each in an object file.

`octavo.fast.translating` makes LLVM's code of Python, and LLVM machine code of that. Nothing of it refers to
Python, and any thread may run it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeVar

import llvmlite.binding as llvm
from llvmlite.binding import newpassmanagers as passes

from octavo.fast.calls import Compiled
from octavo.fast.translating import translated

F = TypeVar("F", bound=Callable[..., Any])

ROOMS = ("instructions", "attending", "convolving", "drawing", "laying", "working")
"""Where functions are that can be asked for."""
MADE: dict[str, Callable[[int, int, int], Any]] = {}


def compiled(function: F, fastmath: Iterable[str] = ()) -> F:
    """The function as compiled functions call it; what LLVM may do with its sums."""
    found: F = Compiled(function, tuple(sorted(fastmath)))  # type: ignore[assignment]  # called in others only
    return found


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
    machine = processor(copied)
    text = translated(MADE[name], symbol, machine.triple, str(machine.target_data))
    return emit(llvm.parse_assembly(text), machine)


def processor(copied: bool) -> Any:
    """What LLVM is to make code for: the processor that we are on."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    how = {"reloc": "pic", "codemodel": "small"} if copied else {"codemodel": "jitdefault", "jit": True}
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, **how)


def emit(module: Any, machine: Any) -> bytes:
    """The machine code of a module."""
    module.verify()
    options = passes.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    builder = passes.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    code: bytes = machine.emit_object(module)
    return code
