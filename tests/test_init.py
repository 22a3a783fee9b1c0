"""The package: its names come when they are asked for, and importing it alone imports nothing else."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import octavo

HEAVY = ("numpy", "jax", "llvmlite", "tokenizers", "regex", "safetensors", "h5py", "rich", "typer", "asyncio")


def fresh(program: str) -> list[str]:
    """The lines that a program prints in a process of its own."""
    root = str(Path(octavo.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {root!r})\n{program}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_importing_octavo_imports_no_other_library_and_no_other_module() -> None:
    found = fresh(
        "import octavo\n"
        f"print([m for m in {HEAVY} if m in sys.modules])\n"
        "print(sorted(m for m in sys.modules if m.startswith('octavo')))\n"
        "octavo.load\n"
        "print('numpy' in sys.modules, 'rich' in sys.modules)"
    )
    assert found == ["[]", "['octavo', 'octavo.version']", "True False"]


def test_a_verb_is_a_function_whatever_is_imported_before() -> None:
    lines = fresh(
        "import octavo.generate, octavo.score\n"
        "from octavo.train import train\n"
        "from octavo import chat\n"
        "import octavo.chat as talk\n"
        "for verb in (octavo.generate, octavo.score, octavo.train, octavo.chat, chat, talk):\n"
        "    print(callable(verb))\n"
        "print(octavo.train is train, type(sys.modules['octavo.score']).__name__)"
    )
    assert lines == ["True"] * 6 + ["True module"]


def test_every_name_is_there_and_listed() -> None:
    for name in octavo.__all__:
        assert getattr(octavo, name) is not None
        assert name in dir(octavo)
    assert isinstance(octavo.models, ModuleType)
    assert isinstance(octavo.tokenizers, ModuleType)
    namespace: dict[str, object] = {}
    exec("from octavo import *", namespace)
    assert set(octavo.__all__) <= set(namespace)


def test_no_other_name() -> None:
    for name in ("nothing", "_nothing", "numpy_"):
        with pytest.raises(AttributeError, match=f"module 'octavo' has no attribute '{name}'"):
            getattr(octavo, name)
        assert not hasattr(octavo, name)
