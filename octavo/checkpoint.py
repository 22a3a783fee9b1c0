"""Checkpoints: all that a run needs to go on as if it had never stopped.

A checkpoint is a folder named by its step, ``checkpoints/00000120``: `run.json`, and from each process the
parts of the arrays that it holds, ``0.safetensors``, ``1.safetensors`` and so on. It is written beside its
place, brought to the disk, and renamed, so that what bears a number is whole; older ones go only then.
Parts say where in the array they belong: a run may go on with other devices than it was saved on.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from octavo import mesh
from octavo.checks import printable
from octavo.errors import OctavoError
from octavo.nn import Array

FOLDER, RUN, PARTIAL = "checkpoints", "run.json", ".partial"
FORMAT = 1

Parts = dict[str, Array]
"""Copies in the host's memory of what this process holds, by ``name@start:stop,...``."""


def parts_of(arrays: Mapping[str, Array]) -> Parts:
    """Copies of the parts that this process is the first to hold; training may go on meanwhile.

    An array of NumPy, which every process has, is the first process's.
    """
    parts = {}
    for name, array in arrays.items():
        if isinstance(array, np.ndarray):
            if mesh.leads():
                parts[f"{name}@{_where(tuple(slice(None) for _ in array.shape), array.shape)}"] = array
            continue
        for shard in array.addressable_shards:
            if shard.replica_id == 0:
                parts[f"{name}@{_where(shard.index, array.shape)}"] = np.array(shard.data)
    return parts


def _where(index: tuple[slice, ...], shape: tuple[int, ...]) -> str:
    return ",".join("{}:{}".format(*s.indices(n)) for s, n in zip(index, shape, strict=True))


class Writer:
    """Writes checkpoints into a model folder, one at a time, while training goes on.

    With several processes every one calls `write` at the same step, and the call returns when the
    checkpoint is whole.
    """

    def __init__(self, out: Path, written: int | None = None) -> None:
        self.folder, self.written = out / FOLDER, written  # the step of the newest checkpoint
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def write(self, run: Mapping[str, Any], arrays: Mapping[str, Array], publish: Callable[[], None]) -> None:
        """Keep `arrays` (of JAX) and `run`, which tells its `step`, after something else is published."""
        import jax

        self.wait()
        if self.written == run["step"]:
            return
        parts, text = parts_of(arrays), json.dumps({"format": FORMAT} | dict(run))
        self.written = run["step"]
        if jax.process_count() > 1:
            self._write(run["step"], text, parts, publish)
            self.check()
            return
        self._thread = threading.Thread(target=self._write, args=(run["step"], text, parts, publish))
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written; raises what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what went wrong, if something did."""
        error, self._error = self._error, None
        if isinstance(error, OctavoError):
            raise error
        if error is not None:
            reason = getattr(error, "strerror", None) or str(error)
            kept = intact(self.folder.parent)
            raise OctavoError(f"cannot write a checkpoint in {self.folder}: {reason}{kept}") from None

    def _write(self, step: int, text: str, parts: Parts, publish: Callable[[], None]) -> None:
        try:
            publish()
            if mesh.leads():  # first of all: a run that is killed before the rest is known by it
                with suppress(OSError):  # what is wrong is said where it is written to
                    self.folder.mkdir(exist_ok=True)
            write(self.folder, step, text, parts)
        except BaseException as error:
            self._error = error


def write(folder: Path, step: int, run: str, parts: Parts) -> None:
    """Write a checkpoint and remove the older ones."""
    import jax
    from safetensors.numpy import save_file

    process, processes = jax.process_index(), jax.process_count()
    final, partial = folder / f"{step:08}", folder / f"{PARTIAL}-{step:08}"
    if process == 0:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{PARTIAL}-*"):  # of a run that was killed
            shutil.rmtree(old)
        partial.mkdir()
    _meet(f"begun {step}")
    try:
        save_file(parts, partial / f"{process}.safetensors")
        to_disk(partial / f"{process}.safetensors")
        _meet(f"written {step}")
        if process == 0:
            (partial / RUN).write_text(json.dumps({"processes": processes}) + "\n" + run, encoding="utf-8")
            to_disk(partial / RUN)
            to_disk(partial)
            os.replace(partial, final)
            to_disk(folder)
            for old in _numbered(folder):
                if old != final:
                    shutil.rmtree(old)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _meet(f"renamed {step}")


def to_disk(path: Path) -> None:
    """Have the system write what it has only promised to; Windows has that done of open files alone."""
    if os.name != "nt":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _meet(where: str) -> None:
    """Wait for the other processes, if there are any."""
    import jax

    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"\d{8,}", path.name))


def latest(out: Path) -> Path | None:
    """The newest whole checkpoint of a model folder, if it has one."""
    return max(_numbered(out / FOLDER), key=lambda path: int(path.name), default=None)


def intact(out: Path) -> str:
    """What is said of the newest checkpoint, if there is one, when something cannot be written."""
    kept = latest(out)
    return f"; the checkpoint of step {int(kept.name):,} is intact" if kept else ""


def remove(out: Path) -> None:
    """Forget the checkpoints of a run that is finished."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


class Checkpoint:
    """A checkpoint on the disk.

    Attributes
    ----------
    run : dict
        What `Writer.write` was told.
    names : list of str
        Of the arrays.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        self._parts: dict[str, list[tuple[tuple[slice, ...], Any, str]]] = {}
        try:
            processes, run = (path / RUN).read_text(encoding="utf-8").split("\n", 1)
            self.run: dict[str, Any] = json.loads(run)
            if self.run["format"] != FORMAT:
                raise OctavoError(f"it is of another version of octavo (format {self.run['format']})")
            count = int(json.loads(processes)["processes"])
            for file in [safe_open(path / f"{i}.safetensors", "numpy") for i in range(count)]:
                for key in file.keys():  # type: ignore[no-untyped-call]  # noqa: SIM118
                    name, _, where = key.rpartition("@")
                    index = tuple(slice(*map(int, part.split(":"))) for part in where.split(",") if part)
                    self._parts.setdefault(name, []).append((index, file, key))
        except (SafetensorError, OSError, ValueError, LookupError, TypeError) as error:
            raise _unreadable(path, error) from None
        except (OverflowError, RecursionError) as error:  # numbers and nesting beyond measure
            raise _unreadable(path, error) from None

    @property
    def names(self) -> list[str]:
        """The names of its arrays."""
        return list(self._parts)

    def read(self, name: str) -> Array:
        """An array, whole, from its parts."""
        from safetensors import SafetensorError

        if name not in self._parts:
            raise OctavoError(f"{self.path} lacks {name}; it is of another model or recipe")
        try:
            parts = [(index, file.get_tensor(key)) for index, file, key in self._parts[name]]
            if len(parts) == 1:
                return parts[0][1]
            shape = tuple(max(index[axis].stop for index, _ in parts) for axis in range(len(parts[0][0])))
            if math.prod(shape) != sum(part.size for _, part in parts):
                raise OctavoError(f"the parts of {printable(name)} are not the whole of it")
            array = np.empty(shape, parts[0][1].dtype)
            for index, part in parts:
                array[index] = part
        except (SafetensorError, ValueError, TypeError, IndexError) as error:
            raise _unreadable(self.path, error) from None
        return array


def _unreadable(path: Path, error: Exception) -> OctavoError:
    return OctavoError(f"{path} is no readable checkpoint: {printable(str(error))}")
