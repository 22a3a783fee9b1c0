"""llama2.c's `.bin` (Karpathy 2023): a header of seven whole numbers, then every weight in a fixed order.

Read are the first layout, which has no mark and is known by its size, and those marked "ak42": version 1 in
float32, and version 2 in whole numbers of 8 bits with a scale for each group of them. Rotary positions there
turn neighbouring columns, here the halves of a head, so the rows of queries and keys change places.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from octavo import models
from octavo.checks import DEEPEST, LARGEST
from octavo.errors import OctavoError
from octavo.models import llama
from octavo.nn import Array

MAGIC = b"24ka"  # "ak42", little-endian
HEADER = 256  # bytes, of the versions with a mark
NORMS = ("input_layernorm", "post_attention_layernorm")
QUERY, KEY, VALUE, OUT = (f"self_attn.{n}_proj" for n in "qkvo")
GATE, DOWN, UP = (f"mlp.{n}_proj" for n in ("gate", "down", "up"))
HEAD, POSITIONS = "head", "positions"
FIRST = ("embed_tokens", NORMS[0], QUERY, KEY, VALUE, OUT, NORMS[1], GATE, DOWN, UP, "norm", POSITIONS, HEAD)
MARKED = (*NORMS, "norm", "embed_tokens", QUERY, KEY, VALUE, OUT, GATE, DOWN, UP, HEAD)
"""The order of the weights: each is that of all layers, one after the other."""


class Weight(NamedTuple):
    """One kind of weight as a file holds it."""

    name: str
    shape: tuple[int, ...]  # of one layer
    layers: int


def recognise(path: Path) -> bool:
    """Whether a file bears the mark, or has the size that its first seven numbers say."""
    with path.open("rb") as file:
        start = file.read(28)
    if start.startswith(MAGIC):
        return True
    if len(start) < 28:
        return False
    try:
        sizes, tied = _sizes(struct.unpack("<7i", start), None)
        return path.stat().st_size == 28 + sum(_bytes(w, 0) * w.layers for w in _table(sizes, tied, FIRST))
    except OctavoError:
        return False


def read(path: Path, **options: Any) -> tuple[str, llama.Config, dict[str, Array]]:
    """The model type, config and parameters; `options` give fields of the config that the file leaves open.

    Raises
    ------
    OctavoError
        If the file is damaged, or of a version that is not read.
    """
    try:
        data: Array = np.memmap(path, np.uint8, "r")
        return _read(data, options)
    except OctavoError as error:
        raise OctavoError(f"{path}: {error}") from None
    except (OSError, ValueError, struct.error) as error:
        raise OctavoError(f"{path} is not a readable llama2.c file: {error}") from None


def _read(data: Array, options: dict[str, Any]) -> tuple[str, llama.Config, dict[str, Array]]:
    start = data[:HEADER].tobytes()
    marked, group = start.startswith(MAGIC), 0
    if marked:
        version, *numbers, shared = struct.unpack_from("<i7iB", start, 4)
        if version not in (1, 2) or shared not in (0, 1):
            raise OctavoError(f"it is of version {version}; versions 0, 1 and 2 of llama2.c are read")
        group = struct.unpack_from("<i", start, 37)[0] if version == 2 else 0
        sizes, tied = _sizes(tuple(numbers), bool(shared))
    else:
        sizes, tied = _sizes(struct.unpack_from("<7i", start), None)
    table, begin = _table(sizes, tied, MARKED if marked else FIRST), HEADER if marked else 28
    need = begin + sum(_bytes(weight, group) * weight.layers for weight in table)
    if need != len(data):
        raise OctavoError(f"it has {len(data):,} bytes where its header asks for {need:,}; it may be damaged")
    told = sizes | {"tie_word_embeddings": tied}
    told |= {
        name: options.pop(name, default) for name, default in (("rms_norm_eps", 1e-5), ("rope_theta", 1e4))
    }
    config: llama.Config = models.complete("llama", told, options)
    return "llama", config, dict(_params(data[begin:], table, group, config))


def _sizes(numbers: tuple[int, ...], tied: bool | None) -> tuple[dict[str, int], bool]:
    """The fields of the config; in the first layout a vocabulary below 0 says that the head is not tied."""
    width, inner, layers, heads, groups, vocabulary, context = numbers
    if tied is None:
        tied, vocabulary = vocabulary > 0, abs(vocabulary)
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "max_position_embeddings": context,
    }
    for name, value in sizes.items():
        if not 1 <= value <= (DEEPEST if name == "num_hidden_layers" else LARGEST):
            raise OctavoError(f"it says {name} {value}, which no model has")
    if width % heads or heads % groups or width // heads % 2:
        raise OctavoError(f"a width of {width}, {heads} heads and {groups} groups do not go together")
    return sizes, tied


def _table(sizes: dict[str, int], tied: bool, order: tuple[str, ...]) -> list[Weight]:
    """Every weight in the order of the file."""
    layers, width, inner = sizes["num_hidden_layers"], sizes["hidden_size"], sizes["intermediate_size"]
    head, vocabulary = width // sizes["num_attention_heads"], sizes["vocab_size"]
    kept = sizes["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(NORMS, (width,))
    shapes |= {QUERY: (width, width), KEY: (kept, width), VALUE: (kept, width), OUT: (width, width)}
    shapes |= {GATE: (inner, width), UP: (inner, width), DOWN: (width, inner)}
    once: dict[str, tuple[int, ...]] = {"embed_tokens": (vocabulary, width), "norm": (width,)}
    once |= {HEAD: (vocabulary, width)}
    once |= {POSITIONS: (2, sizes["max_position_embeddings"], head // 2)}  # cosines and sines
    every = {name: Weight(name, shape, layers) for name, shape in shapes.items()}
    every |= {name: Weight(name, shape, 1) for name, shape in once.items()}
    return [every[name] for name in order if not (tied and name == HEAD)]


def _bytes(weight: Weight, group: int) -> int:
    """How many bytes one layer of a weight takes."""
    count = math.prod(weight.shape)
    if not group or weight.name.endswith("norm"):
        return 4 * count
    if group < 1 or count % group:
        raise OctavoError(f"groups of {group} do not fit a weight of {count:,} numbers")
    return count + 4 * (count // group)


def _params(data: Array, table: list[Weight], group: int, c: llama.Config) -> Iterator[tuple[str, Array]]:
    """The parameters under our names, views of the file where they stand there as they are here."""
    at = 0
    heads = {QUERY: c.num_attention_heads, KEY: int(c.num_key_value_heads or 0)}
    for weight in table:
        size = _bytes(weight, group)
        for i in range(weight.layers):
            array = _numbers(data[at : at + size], weight, group)
            at += size
            if weight.name == HEAD:
                yield "lm_head.weight", array
            elif weight.name in ("embed_tokens", "norm"):
                yield f"model.{weight.name}.weight", array
            elif weight.name != POSITIONS:
                array = halves(array, heads[weight.name]) if weight.name in heads else array
                yield f"model.layers.{i}.{weight.name}.weight", array


def _numbers(data: Array, weight: Weight, group: int) -> Array:
    """The numbers of one layer of a weight."""
    count = math.prod(weight.shape)
    if len(data) == 4 * count:
        return data.view("<f4").reshape(weight.shape)
    scales = data[count:].view("<f4")
    with np.errstate(all="ignore"):  # what is not finite is refused later, by name
        return (data[:count].view(np.int8).reshape(-1, group) * scales[:, None]).reshape(weight.shape)


def halves(weight: Array, heads: int) -> Array:
    """The rows of queries or keys for pairs of neighbouring columns, as for pairs across a head's halves.

    Examples
    --------
    >>> halves(np.arange(8)[:, None], 2)[:, 0]
    array([0, 2, 1, 3, 4, 6, 5, 7])
    """
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)
