"""The architectures: one file each, found by the model type that a config names.

An architecture is a module, no class, that gives `Config`, `shapes`, `initial`, `init_state`, `forward`
and `FIXED` (parameters that are stored and never trained), and more where its layout is published;
docs/design.md states the contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from octavo.checks import SHOWN, printable
from octavo.errors import OctavoError
from octavo.models import published, recurrent

if TYPE_CHECKING:
    from numpy.random import Generator

    from octavo.nn import Array

_FILES = {
    "rnn": "recurrent",
    "gru": "recurrent",
    "lstm": "recurrent",
    "plain": "plain",
    "prenorm": "prenorm",
    "folio": "folio",
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
    "olmo2": "olmo2",
}


class _Architectures(Mapping[str, ModuleType]):
    """The module of each model type, imported when it is first asked for: a model needs but one."""

    def __getitem__(self, model_type: str) -> ModuleType:
        return import_module(f"octavo.models.{_FILES[model_type]}")

    def __iter__(self) -> Iterator[str]:
        return iter(_FILES)

    def __len__(self) -> int:
        return len(_FILES)


ARCHITECTURES = _Architectures()

WHOLE = {"gemma3": "gemma3_text"}
"""Model types whose config.json has a part about text, and the type that takes it out (`text_part`)."""

CONTEXT = ("context", "max_position_embeddings", "n_positions")
"""The fields in which configs hold the length that a model is trained on."""


def architecture(model_type: str) -> ModuleType:
    """The module of a model type.

    Examples
    --------
    >>> architecture("gru").__name__
    'octavo.models.recurrent'
    """
    if model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise OctavoError(f"no model type is called {printable(model_type)!r}; there are {known}")
    return ARCHITECTURES[model_type]


def spelled(model_type: str, description: dict[str, Any]) -> str:
    """A model type that a file names, with the architectures that it names beside, in words."""
    named = description.get("architectures")
    classes = ", ".join(map(str, named[:SHOWN])) if isinstance(named, list) else ""
    return printable(f"model type {model_type!r}" + (f" ({classes})" if classes else ""))


def configure(model_type: str, options: dict[str, Any]) -> Any:
    """The config of a model type from its fields as `config.json` holds them."""
    config_class, known = architecture(model_type).Config, _fields(model_type)
    if unknown := sorted(set(options) - set(known)):
        names = ", ".join(map(printable, unknown[:SHOWN]))
        raise OctavoError(f"{model_type} has no option {names}; it has {', '.join(known)}")
    try:
        return config_class(**options)
    except TypeError as error:  # a field left out, or a layer that is no mapping
        reason = printable(str(error))
        raise OctavoError(f"the config of a {model_type} model is not complete: {reason}") from None


def complete(model_type: str, told: dict[str, Any], options: dict[str, Any]) -> Any:
    """The config of what a file tells and of the options it leaves open; a contradiction is refused."""
    for name, value in options.items():
        if name in told and told[name] != value:
            raise OctavoError(f"the file says {name}={told[name]!r}, which {name}={value!r} contradicts")
    return configure(model_type, told | options)


def design(model_type: str, vocab_size: int, **sizes: Any) -> Any:
    """A config for a new model; what `sizes` leaves out has the course's size, or that of a small model.

    `context`, the length it is to be trained on, goes to the field that the family has for it.

    Examples
    --------
    >>> design("gru", 44).layers[0].units
    512
    >>> design("gpt2", 44, context=64).n_positions
    64
    """
    if architecture(model_type) is recurrent:
        sizes = {"units": (128, 64)} | sizes if model_type == "rnn" else sizes
        allowed = ("units", "embedding")
        if unknown := sorted(set(sizes) - set(allowed)):
            raise OctavoError(f"{model_type} has no size {', '.join(unknown)}; it has {', '.join(allowed)}")
        return recurrent.design(model_type, vocab_size, **sizes)
    if "context" in sizes:
        own = next(name for name in CONTEXT if name in _fields(model_type))
        if own != "context" and own in sizes:
            raise OctavoError(f"{own} is the context; say one of them")
        sizes[own] = sizes.pop("context")
    return configure(model_type, {"vocab_size": vocab_size, **sizes})


def initial_params(model_type: str, config: Any, rng: Generator) -> dict[str, Array]:
    """Parameters before training, in float32."""
    module = architecture(model_type)
    return {name: module.initial(config, name, shape, rng) for name, shape in module.shapes(config).items()}


def describe(model_type: str, config: Any) -> dict[str, Any]:
    """What `config.json` tells of a model; that of a published family says more, for others to read."""
    return {"model_type": model_type, **asdict(config)}


def told(description: dict[str, Any]) -> dict[str, Any]:
    """What `describe` would say, from a `config.json` that may say more; see `octavo.models.published`."""
    model_type = description.get("model_type")
    if isinstance(model_type, str) and model_type in WHOLE:
        description = architecture(WHOLE[model_type]).text_part(description)
        model_type = description["model_type"]
    module = ARCHITECTURES.get(model_type) if isinstance(model_type, str) else None
    fixed = getattr(module, "PUBLISHED", None)
    if fixed is None:
        return description
    return {"model_type": model_type} | published.own_fields(description, _fields(str(model_type)), fixed)


def _fields(model_type: str) -> list[str]:
    return [field.name for field in fields(architecture(model_type).Config)]
