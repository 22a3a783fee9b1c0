"""Machine code: made once for a processor, kept on disk, and loaded without what made it.

`address("rms_norm")` is where the instruction of that name is. `octavo.fast.compiling` makes what is not
kept yet, which imports Numba and takes seconds; loading what is kept takes LLVM alone, and a millisecond.
Code is kept beside this file, or, where that cannot be written to, in the user's own cache; both are read.
A file is named by all that its code depends on: our sources, the compiler, and the processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from octavo.corpora import user_cache

if find_spec("numba") is None or os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
    raise ImportError("there is no Numba, or it is told not to compile")

SOURCES = (
    "frame",
    "packed",
    "compiling",
    "machine",
    "lanes",
    "scoring",
    "instructions",
    "attending",
    "working",
)
SETTINGS = {name: value for name, value in sorted(os.environ.items()) if name.startswith("NUMBA_")}
FEATURES: dict[str, bool] = llvm.get_host_cpu_features()
HALVES = platform.machine() in ("arm64", "aarch64") or bool(FEATURES.get("f16c"))
"""Whether the processor converts halves by itself; where it does not, compiling that would crash."""
SOON = 1.0  # seconds after which one wonders

Function = Callable[[int, int, int], int]
"""What compiled functions are to Python: three numbers in, one out."""

_LOCK = threading.RLock()
_ENGINES = list[Any]()  # the one that owns the code, once there is any
_TOLD = list[bool]()  # whether the user knows that something is compiled


@cache
def function(name: str) -> Function:
    """A compiled function, as Python calls it; other threads of Python go on meanwhile."""
    made: Function = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 4)(address(name))
    return made


@cache
def address(name: str) -> int:
    """Where the machine code of a function is.

    Raises
    ------
    KeyError
        If there is no such function.
    """
    with _LOCK:
        engine, symbol = _engine(), symbol_of(name)
        if not (found := engine.get_function_address(symbol)):
            engine.add_object_file(llvm.ObjectFileRef.from_data(kept(name) or made(name)))
            engine.finalize_object()
            found = engine.get_function_address(symbol)
    return int(found)


def symbol_of(name: str) -> str:
    """How a function is called in machine code."""
    return f"octavo_{name}"


def _engine() -> Any:
    if not _ENGINES:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        _ENGINES.append(llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine))
    return _ENGINES[0]


@cache
def key() -> str:
    """All that machine code depends on, in few letters."""
    here = Path(__file__).parent
    texts = [(here / f"{name}.py").read_bytes() for name in SOURCES]
    processor = llvm.get_host_cpu_name(), sorted(FEATURES.items()), platform.machine()
    told = repr((llvmlite.__version__, processor, SETTINGS)).encode()
    return hashlib.sha256(b"\0".join([told, *texts])).hexdigest()[:16]


def folders() -> list[Path]:
    """Where code may be kept, in the order in which it is looked for."""
    return [Path(__file__).parent / "__pycache__", user_cache() / "code"]


def kept(name: str) -> bytes | None:
    """The object file of a function, if it was made before and is whole."""
    for folder in folders():
        with suppress(OSError):
            found = (folder / key() / f"{name}.o").read_bytes()
            if hashlib.sha256(found[32:]).digest() == found[:32]:
                return found[32:]
    return None


def made(name: str) -> bytes:
    """The object file of a function, compiled now, and kept where that is possible."""
    with announced():
        from octavo.fast.compiling import compile_named

        code = compile_named(name, symbol_of(name))
    for folder in folders():
        with suppress(OSError):
            keep(folder / key() / f"{name}.o", hashlib.sha256(code).digest() + code)
            break
    return code


def keep(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def announced() -> Iterator[None]:
    """Say, once, why it takes so long, if it does."""

    def tell() -> None:
        if not _TOLD:
            _TOLD.append(True)
            logging.getLogger("octavo").warning(
                "octavo compiles its kernels for this processor; this takes some seconds, once"
            )

    timer = threading.Timer(SOON, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
