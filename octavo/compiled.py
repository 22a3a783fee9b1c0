"""Training steps that were compiled before: kept in the user's cache, so that a second run begins at once."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Any

from octavo.corpora import user_cache

LARGEST = 2**28  # bytes; beyond it, what has not been used for longest goes
WORTH = 0.5  # seconds of compiling that are worth a file


def keep_compiled() -> None:
    """Have JAX keep what it compiles, unless somebody has told it where, or the folder cannot be written.

    What is compiled for one processor may not run on another: each kind has a folder of its own.
    """
    import jax

    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None or jax.distributed.is_initialized():
        return
    folder = user_cache() / "compiled" / processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
    except OSError:
        return
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_compilation_cache_max_size", LARGEST)
    config.update("jax_persistent_cache_min_compile_time_secs", WORTH)


def processor() -> str:
    """A name for this kind of processor: of its system, and of what it says of itself where it does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    said = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    told = "\n".join([platform.machine(), platform.processor(), *sorted(said)])
    return f"{platform.machine()}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
