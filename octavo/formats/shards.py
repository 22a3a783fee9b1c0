"""The weights of a model folder: one `model.safetensors`, or several files that an index names."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from pathlib import Path

from octavo.checks import printable
from octavo.errors import OctavoError
from octavo.formats import safetensors
from octavo.formats.companions import read_json
from octavo.nn import Array

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST_INDEX = 2**24  # bytes; that of the largest published models has about a million


def read_weights(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Array]:
    """The arrays of a folder whose names are `wanted`, from however many files."""
    index, places = folder / INDEX, _places(folder)
    if places is None:
        return safetensors.read(folder / WEIGHTS, wanted)
    arrays: dict[str, Array] = {}
    for shard in files(folder):
        if not (folder / shard).exists():
            raise OctavoError(f"{folder / shard} is missing, which {index.name} names")
        found = safetensors.read(folder / shard, wanted)
        if lost := [
            name for name, at in places.items() if at == shard and wanted(name) and name not in found
        ]:
            raise OctavoError(f"{folder / shard} does not hold {printable(lost[0])}, as {index.name} says")
        if twice := [name for name in found if name in arrays]:
            raise OctavoError(f"{folder / shard} holds {printable(twice[0])}, which another file holds too")
        arrays |= found
    return arrays


def files(folder: Path) -> list[str]:
    """The names of the files that the weights of a folder stand in, whether they are there or not."""
    places = _places(folder)
    return [WEIGHTS] if places is None else sorted(set(places.values()))


def _places(folder: Path) -> dict[str, str] | None:
    """The file of each array, all of them beside the index; None where one file holds them all."""
    index = folder / INDEX
    content = None if (folder / WEIGHTS).exists() else read_json(index, LARGEST_INDEX)
    if content is None:
        return None
    told = content.get("weight_map")
    if not isinstance(told, dict) or not told:
        raise OctavoError(f"{index} has no weight_map that says where arrays are")
    for shard in told.values():
        plain = isinstance(shard, str) and shard.isprintable() and not set("/\\:") & set(shard)
        if not plain or not shard.endswith(".safetensors"):
            raise OctavoError(f"{index} names {reprlib.repr(shard)}, no .safetensors file beside it")
    return told
