"""nanoGPT's `ckpt.pt` (Karpathy 2022), as its training script writes it: a GPT-2 by other names.

It says `model_args` beside the state of the model; what belongs to training is left unread. Its names may
begin with what `torch.compile` adds. A model without biases gets biases of zero, which is the same. Its GELU
is the exact one; the first versions had the approximation: ``activation_function="gelu_new"``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from octavo import models
from octavo.checks import printable
from octavo.errors import OctavoError
from octavo.formats import torch_zip
from octavo.formats.safetensors import widen
from octavo.models import gpt2, published
from octavo.nn import Array

COMPILED = "_orig_mod."
FIELDS = {
    "vocab_size": "vocab_size",
    "block_size": "n_positions",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
}


def read(path: Path, **options: Any) -> tuple[str, gpt2.Config, dict[str, Array]]:
    """The model type, config and parameters; `options` give fields of the config that the file leaves open.

    Raises
    ------
    OctavoError
        If the file is damaged or hostile, or no checkpoint of nanoGPT.
    """
    found, archive = torch_zip.read(path)
    try:
        args, state = _parts(found)
        told = {ours: args[theirs] for theirs, ours in FIELDS.items()}
        gelu = {"activation_function": options.pop("activation_function", "gelu")}
        config: gpt2.Config = models.complete("gpt2", told | gelu, options)
        return "gpt2", config, _params(state, config, archive)
    except OctavoError as error:
        raise OctavoError(f"{path}: {error}") from None


def _parts(found: Any) -> tuple[dict[str, Any], dict[str, torch_zip.Tensor]]:
    """The `model_args` and the state of the model."""
    args, state = (found.get(n) if isinstance(found, dict) else None for n in ("model_args", "model"))
    if not isinstance(args, dict) or not isinstance(state, dict):
        raise OctavoError("it holds no model and model_args, as nanoGPT's ckpt.pt does")
    if missing := [name for name in FIELDS if name not in args]:
        raise OctavoError(f"its model_args lack {', '.join(missing)}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch_zip.Tensor):
            raise OctavoError("its model holds something else than tensors by name")
    named = {name.removeprefix(COMPILED): tensor for name, tensor in state.items()}
    if len(named) < len(state):
        raise OctavoError(f"a parameter is there twice, with and without {COMPILED!r} before its name")
    return args, named


def _params(
    state: dict[str, torch_zip.Tensor], config: gpt2.Config, archive: torch_zip.Archive
) -> dict[str, Array]:
    """The parameters under our names; only those of the model's own are read."""
    shapes = gpt2.shapes(config)
    params: dict[str, Array] = {}
    for name, tensor in state.items():
        ours = name.removeprefix("transformer.")
        if ours.endswith(gpt2.BUFFERS):
            continue
        if tensor.shape != shapes.get(ours, tensor.shape):
            raise OctavoError(f"{printable(name)} has the shape {tensor.shape}, not {shapes[ours]}")
        array = archive.array(tensor)
        if array.dtype.kind != "f":
            raise OctavoError(f"{printable(name)} holds {array.dtype}, not floating-point numbers")
        params[ours] = widen(array)
    params = published.without_copy(params, "lm_head.weight", "wte.weight")
    biases = [name for name in shapes if name.endswith(".bias")]
    if not any(name in params for name in biases):
        params |= {name: np.zeros(shapes[name], np.float32) for name in biases}
    return params
