"""Keras weights: the arrays of an HDF5 file, as the params of `octavo.models.recurrent`.

Keras has laid them out in two ways. By name, from Keras 2 on: the attribute `layer_names` lists the layers in
order and each layer's `weight_names` its arrays. By position, from Keras 3 on (and in `.keras` files since
2.12): `layers/gru_1/cell/vars/0` is the kernel of the second GRU, whatever the layers were named.
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import count, takewhile

import numpy as np

from octavo.checks import printable, require_params
from octavo.errors import OctavoError
from octavo.formats.hdf5 import Contents
from octavo.formats.keras_layers import Stack
from octavo.models import recurrent
from octavo.models.recurrent import GATES, Layer
from octavo.nn import Array

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the second in Keras 2.12 to 2.14
SNAKE = {"rnn": "simple_rnn", "gru": "gru", "lstm": "lstm", "dense": "dense", "embedding": "embedding"}

Saved = list[tuple[str, list[str]]]
"""Layers that have weights, in order: a name, and the paths of the arrays."""


def read(contents: Contents, stack: Stack, source: str) -> tuple[recurrent.Config, dict[str, Array]]:
    """The config and params of a stack with the weights of a file.

    Raises
    ------
    OctavoError
        If the file has no Keras weights; or, all at once, for weights missing, unexpected, misshapen or
        not finite.
    """
    weighted = [i for i, layer in enumerate(stack.layers) if layer.kind != "activation"]
    found = by_name(contents, stack, weighted) or by_position(contents, stack, weighted)
    if not found:
        raise OctavoError("there are no Keras weights in it: neither layer_names nor a group called layers")
    arrays = collect(contents, found)
    config = recurrent.Config(vocabulary(stack, arrays, weighted), stack.layers)
    expected: dict[str, tuple[int, ...]] = {}
    width = config.vocab_size
    for layer, name in zip(stack.layers, stack.names, strict=True):
        expected |= {f"{name}/{role}": shape for role, shape in keras_shapes(layer, width).items()}
        width = layer.units or width
    require_params(expected, arrays, source)
    params: dict[str, Array] = {}
    for i, (layer, name) in enumerate(zip(stack.layers, stack.names, strict=True)):
        weights = {role: arrays[f"{name}/{role}"] for role in roles(layer)}
        params |= {f"layers.{i}.{ours}": weight for ours, weight in renamed(layer, weights).items()}
    return config, params


def vocabulary(stack: Stack, arrays: dict[str, Array], weighted: list[int]) -> int:
    """The number of tokens: as declared, else the rows of the first kernel, else the outputs."""
    if stack.width is not None:
        return stack.width
    first = arrays.get(f"{stack.names[weighted[0]]}/kernel")
    return int(first.shape[0]) if first is not None and first.ndim == 2 else stack.layers[weighted[-1]].units


# ---------------------------------------------------------------- what a layer has


def keras_shapes(layer: Layer, width: int) -> dict[str, tuple[int, ...]]:
    """Keras's weights of a layer that reads vectors of a width, in Keras's order."""
    if layer.kind == "activation":
        return {}
    if layer.kind == "embedding":
        return {"embeddings": (width, layer.units)}
    rows = GATES.get(layer.kind, 1) * layer.units
    shapes: dict[str, tuple[int, ...]] = {"kernel": (width, rows)}
    if layer.kind in GATES:
        shapes["recurrent_kernel"] = (layer.units, rows)
    if layer.use_bias:
        shapes["bias"] = (2, rows) if layer.kind == "gru" and layer.reset_after else (rows,)
    return shapes


def roles(layer: Layer) -> list[str]:
    """The names of a layer's weights in Keras's order."""
    return list(keras_shapes(layer, 0))


def renamed(layer: Layer, weights: dict[str, Array]) -> dict[str, Array]:
    """Our names and (out, in) matrices of a layer's weights."""
    if not weights:
        return {}
    if layer.kind == "embedding":
        return {"weight": weights["embeddings"]}
    recurs = layer.kind in GATES
    params = {"weight_ih" if recurs else "weight": np.ascontiguousarray(weights["kernel"].T)}
    if recurs:
        params["weight_hh"] = np.ascontiguousarray(weights["recurrent_kernel"].T)
    if (bias := weights.get("bias")) is None:
        return params
    if bias.ndim == 2:  # of the input, and of the recurrence that is reset after its product
        return params | {"bias_ih": bias[0].copy(), "bias_hh": bias[1].copy()}
    return params | {"bias_ih" if recurs else "bias": bias}


# ---------------------------------------------------------------- where it is in the file


def by_name(contents: Contents, stack: Stack, weighted: list[int]) -> dict[str, str] | None:
    """Paths by `layer/role` in the older layout; None if the file has another one."""
    for base in ("", "model_weights"):
        if (names := listed(contents, base, "layer_names")) is not None:
            break
    else:
        return None
    saved: Saved = []
    for name in dict.fromkeys(names):  # each once
        group = f"{base}/{name}".lstrip("/")
        paths = [f"{group}/{weight}" for weight in listed(contents, group, "weight_names") or []]
        if paths := [path for path in paths if "seed_generator" not in path]:
            saved.append((name, paths))
    if len(saved) == len(weighted):  # Keras goes by the order and minds no names
        saved = [(stack.names[i], paths) for i, (_, paths) in zip(weighted, saved, strict=True)]
    return labelled(stack, weighted, saved)


def listed(contents: Contents, group: str, attribute: str) -> list[str] | None:
    """A list of names, which Keras splits over several attributes where it is long."""
    attributes = contents.attributes.get(group, {})
    if isinstance(whole := attributes.get(attribute), list):
        return whole
    numbered = (attributes.get(f"{attribute}{i}") for i in count())
    parts = list(takewhile(lambda part: isinstance(part, list), numbered))
    return [name for part in parts if part for name in part] if parts else None


def by_position(contents: Contents, stack: Stack, weighted: list[int]) -> dict[str, str] | None:
    """Paths by `layer/role` in the newer layout; None if the file has another one."""
    groups: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted([*contents.arrays, *contents.unread]):
        match = re.fullmatch(r"(\w+)/([a-z_0-9]*?)(?:_(\d{1,6}))?/(?:cell/)?vars/\d{1,6}", path)
        if match and match[1] in CONTAINERS:
            groups[match[2]][int(match[3] or 0)].append(path)
    if not groups:
        return None
    queues = {kind: [paths for _, paths in sorted(numbered.items())] for kind, numbered in groups.items()}
    saved: Saved = []
    for i in weighted:
        if queue := queues.get(SNAKE[stack.layers[i].kind]):
            saved.append((stack.names[i], queue.pop(0)))
    # what is left over keeps the name of its group, which no layer's name can be, having no slash
    saved += [("/".join(paths[0].split("/")[:2]), paths) for queue in queues.values() for paths in queue]
    return labelled(stack, weighted, saved)


def labelled(stack: Stack, weighted: list[int], saved: Saved) -> dict[str, str]:
    """Paths by `layer/role`: roles by order if there are as many as the layer has, else by name or number."""
    expected = {stack.names[i]: roles(stack.layers[i]) for i in weighted}
    found: dict[str, str] = {}
    for name, paths in saved:
        wanted = expected.get(name, [])
        for i, path in enumerate(paths):
            last = path.rsplit("/", 1)[-1].split(":")[0]
            if len(paths) == len(wanted):
                last = wanted[i]
            elif last in (numbers := [str(k) for k in range(len(wanted))]):
                last = wanted[numbers.index(last)]
            found[f"{name}/{last}"] = path
    return found


def collect(contents: Contents, found: dict[str, str]) -> dict[str, Array]:
    """The arrays by `layer/role`, floating point ones as float32."""
    arrays: dict[str, Array] = {}
    for name, path in found.items():
        if path in contents.unread:
            raise OctavoError(f"{printable(name)} {contents.unread[path]}")
        if (array := contents.arrays.get(path)) is not None:
            with np.errstate(over="ignore"):  # an overflow is infinite, which is refused with the others
                arrays[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
    return arrays
