"""How to train, as plain data: the recipe, what it says by model type, and how a run of it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from octavo.checks import is_number, is_whole
from octavo.errors import OctavoError
from octavo.models import ARCHITECTURES

OPTIMIZERS = ("adamw", "muon")
PRECISIONS = ("float32", "bfloat16")
TINY = 1e-9  # the least that counts as above 0
WHOLE = {"steps", "context", "batch", "accumulate", "seed"}  # fields of a recipe that count something


@dataclass(frozen=True)
class Recipe:
    """How to train. Exactly one of `steps`, `epochs` and `minutes` is the budget.

    Attributes
    ----------
    steps : int or None
        Batches to learn from.
    epochs : float or None
        Times the training text, in tokens seen.
    minutes : float or None
        Of this run, compiling included.
    context : int
        Tokens in a window.
    batch : int
        Windows in a step, over all devices.
    accumulate : int
        Batches whose gradients make one step.
    optimizer : {"adamw", "muon"}
        As `octavo.optimizer` describes them.
    lr : float
        The highest learning rate.
    table_lr : float
        How many times as fast as the rest a recurrent model's first matrix learns, of which a token reads
        one column.
    warmup : float
        Share of the budget in which the learning rate rises.
    weight_decay : float
        Of matrices; biases are not decayed.
    dropout : float
        Share of the activations that are zeroed, and of a recurrent layer's ``weight_hh``.
    clip : float
        Greatest norm of a gradient.
    validation : float
        Share of the text, at its end, that is held out.
    precision : {"float32", "bfloat16"}
        Of activations and gradients; the weights that learn, and the loss, are in float32 always.
    seed : int
        Of the first weights, the windows and the dropout.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    context: int = 128
    batch: int = 32
    accumulate: int = 1
    optimizer: str = "adamw"
    lr: float = 2e-3
    table_lr: float = 1.0
    warmup: float = 0.02
    weight_decay: float = 0.1
    dropout: float = 0.0
    clip: float = 1.0
    validation: float = 0.1
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        budgets = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(budgets) != 1:
            raise OctavoError(f"say one of steps, epochs and minutes, not {' and '.join(budgets) or 'none'}")
        ranges: dict[str, tuple[float, float]] = {
            budgets[0]: (TINY, math.inf),
            "context": (1, 2**24),
            "batch": (1, 2**24),
            "accumulate": (1, 2**24),
            "lr": (0, math.inf),
            "table_lr": (0, math.inf),
            "warmup": (0, 1),
            "weight_decay": (0, math.inf),
            "dropout": (0, 0.99),
            "clip": (TINY, math.inf),
            "validation": (0, 0.9),
            "seed": (0, 2**63 - 1),
        }
        for name, choices in {"optimizer": OPTIMIZERS, "precision": PRECISIONS}.items():
            if getattr(self, name) not in choices:
                raise OctavoError(f"{name} is one of {', '.join(choices)}, not {getattr(self, name)!r}")
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not (is_whole if name in WHOLE else is_number)(value):
                kind = "whole number" if name in WHOLE else "number"
                raise OctavoError(f"{name} must be a {kind}, not {value!r}")
            if math.isinf(value):
                raise OctavoError(f"{name} must be a finite number, not {value}")
            if not least <= value <= most:
                bounds = f"from {least} to {most}" if math.isfinite(most) else f"at least {least}"
                raise OctavoError(f"{name} must be {'above 0' if least == TINY else bounds}, not {value}")

    @property
    def tokens_per_step(self) -> int:
        """How many tokens a step learns from."""
        return self.accumulate * self.batch * self.context


LLAMA_LINE = [name for name, module in ARCHITECTURES.items() if hasattr(module.Config, "hidden_size")]
"""Model types whose configs have the fields of Llama's."""

RESIDUAL = {"optimizer": "muon", "lr": 5e-3, "batch": 8}
GATED = {"lr": 1e-2, "table_lr": 8.0}
DEFAULTS: dict[str, dict[str, Any]] = {
    "rnn": {"lr": 3e-3, "weight_decay": 0.01},
    "gru": GATED,
    "lstm": GATED,
    "plain": RESIDUAL,
    "prenorm": RESIDUAL,
    "gpt2": RESIDUAL,
    **dict.fromkeys(LLAMA_LINE, RESIDUAL),
    "folio": RESIDUAL | {"batch": 4, "context": 256, "weight_decay": 0.0},
}
"""What a recipe says unless told otherwise, by model type; dropout is as `octavo.automatic` says."""


WIDE = {"small": (128, 4, 4), "medium": (384, 6, 6), "large": (768, 12, 12)}  # width, layers, heads
RECURRENT = {"small": (256,), "medium": (512,), "large": (1024,)}
LLAMA = {
    name: {
        "hidden_size": d,
        "num_hidden_layers": n,
        "num_attention_heads": h,
        "intermediate_size": 8 * d // 3 // 32 * 32,
    }
    for name, (d, n, h) in WIDE.items()
}
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "rnn": {name: {"units": units} for name, units in (RECURRENT | {"course": (128, 64)}).items()},
    "gru": {name: {"units": units} for name, units in (RECURRENT | {"course": (512,)}).items()},
    "lstm": {name: {"units": units} for name, units in RECURRENT.items()},
    "plain": {
        name: {"d_model": d, "n_layers": n, "n_heads": h, "d_ff": 4 * d}
        for name, (d, n, h) in (WIDE | {"course": (512, 4, 8)}).items()
    },
    "prenorm": {
        name: {"d_model": d, "n_layers": n, "n_heads": h, "d_ff": 4 * d} for name, (d, n, h) in WIDE.items()
    },
    **dict.fromkeys(LLAMA_LINE, LLAMA),
    "folio": {
        name: {"d_model": d, "n_layers": n, "n_heads": h, "d_ff": 4 * d}
        for name, (d, n, h) in (WIDE | {"small": (96, 2, 3)}).items()
    },
    "gpt2": {name: {"n_embd": d, "n_layer": n, "n_head": h} for name, (d, n, h) in WIDE.items()},
}
"""Sizes by name, by model type. The large GPT-2 is the smallest that was published (124 M parameters)."""

STANDARD = {"plain": "small", "prenorm": "small"}
"""The size of a new model unless one is said, where the course's is more than minutes can teach."""


def named_size(model_type: str, name: str) -> dict[str, Any]:
    """The fields of a config that a size stands for.

    Examples
    --------
    >>> named_size("gru", "course")
    {'units': (512,)}
    """
    sizes = SIZES[model_type]
    if name not in sizes:
        raise OctavoError(f"{model_type} has no size {name}; it has {', '.join(sizes)}, or say field=value")
    return dict(sizes[name])


@dataclass(frozen=True)
class Report:
    """How a run stands. Losses are in nats per token; `val_loss` is None between evaluations."""

    step: int
    progress: float  # share of the budget that is spent
    tokens: int  # learned from so far
    seconds: float
    loss: float  # running mean over the last steps
    val_loss: float | None
    lr: float
    tokens_per_second: float  # of this process, since its first step was done
    seconds_left: float  # until the budget is spent, at that pace
    val_bits_per_byte: float | None = None
    sample: str | None = None  # what the model writes now
