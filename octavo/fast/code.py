"""Machine code: made once for a processor, kept on disk, and loaded without what made it.

`address("rms_norm")` is where the instruction of that name is. `octavo.fast.compiling` makes what is not
kept yet, which imports LLVM and takes seconds; what is kept is copied to memory, or, where a processor or a
system needs more than that, loaded by LLVM. Code is kept beside this file, or, where that cannot be written
to, in the user's own cache; both are read. It is found by our sources and the processor: where either is new,
so is the code; a new compiler alone is no reason.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import platform
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from octavo.corpora import user_cache
from octavo.fast.linking import Image, link

if find_spec("llvmlite") is None:
    raise ImportError("there is no LLVM: pip install llvmlite")

SOURCES = (
    *("frame", "packed", "linking", "compiling"),
    *("translating", "expressions", "calls", "arithmetic", "types", "emitting"),
    *("machine", "lanes", "scoring"),
    *("instructions", "attending", "convolving", "drawing", "laying", "working"),
)
SETTINGS = {name: value for name, value in sorted(os.environ.items()) if name.startswith("OCTAVO_CHECK")}
COPIED = sys.platform == "linux" and platform.machine() == "x86_64"  # where code need only be copied
SOON = 1.0  # seconds after which one wonders

Function = Callable[[int, int, int], int]
"""What compiled functions are to Python: three numbers in, one out."""


class Unmade(Exception):  # noqa: N818 (no mistake: somebody did not want to wait)
    """Machine code that is not kept, and that nobody may make now."""


_MAKE = ContextVar("make", default=True)  # whether code may be made that is not kept
_LOCK = threading.RLock()
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
    Unmade
        If it is not kept, within `only_kept`.
    OSError
        If the system lets no code be loaded.
    """
    with _LOCK:
        image = kept(name) or made(name)
        return copied(image) if isinstance(image, Image) else loaded(image, symbol_of(name))


def symbol_of(name: str) -> str:
    """How a function is called in machine code."""
    return f"octavo_{name}"


def copied(image: Image) -> int:
    """An image in memory that may be run -> where its function is."""
    memory = mmap.mmap(-1, len(image.code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[:] = image.code
    for name, place in image.outer.items():
        struct.pack_into("<Q", memory, place, ctypes.cast(outer(name), ctypes.c_void_p).value)
    protect = outer("mprotect")
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    if protect(at, len(image.code), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "the system lets no code be loaded")
    keep_for_ever(memory)
    return at + image.entry


def keep_for_ever(owner: Any) -> None:
    """Have the memory that code is in never given back: a thread may be awake in it when Python ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


def outer(name: str) -> Any:
    """A function of the C library, or of its mathematical part where that is another."""
    whole = ctypes.CDLL(None, use_errno=True)
    return getattr(whole, name) if hasattr(whole, name) else getattr(ctypes.CDLL("libm.so.6"), name)


def loaded(file: bytes, symbol: str) -> int:
    """An object file in memory, by LLVM -> where its function is."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(file))
    engine.finalize_object()
    keep_for_ever(engine)
    return int(engine.get_function_address(symbol))


@cache
def features() -> frozenset[str]:
    """What this processor can do, by LLVM's names where LLVM is asked, else by Linux's."""
    if COPIED:
        with suppress(OSError):
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            return frozenset(next(line for line in lines if line.startswith("flags")).split()[2:])
    import llvmlite.binding as llvm

    return frozenset(name for name, has in llvm.get_host_cpu_features().items() if has)


def halves() -> bool:
    """Whether the processor converts halves by itself; where it does not, compiling that would crash."""
    return platform.machine() in ("arm64", "aarch64") or "f16c" in features()


@cache
def key() -> str:
    """All that machine code depends on, in few letters."""
    here = Path(__file__).parent
    texts = [(here / f"{name}.py").read_bytes() for name in SOURCES]
    told = repr((platform.machine(), sys.platform, sorted(features()), SETTINGS)).encode()
    return hashlib.sha256(b"\0".join([told, *texts])).hexdigest()[:16]


def folders() -> list[Path]:
    """Where code may be kept, in the order in which it is looked for."""
    return [Path(__file__).parent / "__pycache__", user_cache() / "code"]


def kept(name: str) -> Image | bytes | None:
    """The code of a function, if it was made before and is whole: an image or an object file."""
    for folder in folders():
        with suppress(OSError):
            found = (folder / key() / f"{name}.code").read_bytes()
            if hashlib.sha256(found[32:]).digest() == found[:32]:
                first, _, rest = found[32:].partition(b"\n")
                return Image(**json.loads(first), code=rest) if first else rest
    return None


@contextmanager
def only_kept() -> Iterator[None]:
    """Whoever asks for code that is not kept gets `Unmade`, at once."""
    token = _MAKE.set(False)
    try:
        yield
    finally:
        _MAKE.reset(token)


def made(name: str) -> Image | bytes:
    """The code of a function, compiled now, and kept where that is possible."""
    if not _MAKE.get():
        raise Unmade(name)
    with announced():
        from octavo.fast.compiling import compile_named

        file = compile_named(name, symbol_of(name), copied=COPIED)
    image = link(file, symbol_of(name)) if COPIED else None
    first = json.dumps({k: v for k, v in image._asdict().items() if k != "code"}) if image else ""
    content = first.encode() + b"\n" + (image.code if image else file)
    for folder in folders():
        with suppress(OSError):
            keep(folder / key() / f"{name}.code", hashlib.sha256(content).digest() + content)
            break
    return image or file


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
    import logging

    def tell() -> None:
        if not _TOLD:
            _TOLD.append(True)
            logging.getLogger("octavo").warning(
                "octavo compiles its kernels for this processor, once; this can take some seconds"
            )

    timer = threading.Timer(SOON, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
