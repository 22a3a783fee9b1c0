r"""Octavo: language models in a handy format.

    import octavo

    model = octavo.load("bard")
    print(octavo.generate(model, "ANTONIO:\nDo you not hear me speak?", seed=1))

The verbs are `load`, `save`, `generate`, `stream`, `chat`, `tokens`, `score` and `train`; what they work
on is a `Model`. A `Conversation` remembers what was said. Everything they refuse, they refuse with an
`OctavoError`.

Each name is imported when it is first asked for: importing octavo alone imports nothing else.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from octavo.version import __version__

if TYPE_CHECKING:
    from octavo import tokenizers
    from octavo.chat import Conversation, chat
    from octavo.errors import OctavoError
    from octavo.generate import Token, generate, stream, tokens
    from octavo.model import Model
    from octavo.score import Score, score
    from octavo.storage import bundled, load, save
    from octavo.train import train

__all__ = [
    "Conversation",
    "Model",
    "OctavoError",
    "Score",
    "Token",
    "__version__",
    "bundled",
    "chat",
    "generate",
    "load",
    "save",
    "score",
    "stream",
    "tokenizers",
    "tokens",
    "train",
]

_ROOMS = {
    "Conversation": "chat",
    "Model": "model",
    "OctavoError": "errors",
    "Score": "score",
    "Token": "generate",
    "bundled": "storage",
    "chat": "chat",
    "generate": "generate",
    "load": "storage",
    "save": "storage",
    "score": "score",
    "stream": "generate",
    "tokens": "generate",
    "train": "train",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    """A public name, or a module of the package."""
    if name in _ROOMS:
        globals()[name] = found = getattr(import_module(f"octavo.{_ROOMS[name]}"), name)
        return found
    missing = AttributeError(f"module 'octavo' has no attribute {name!r}")
    if name.startswith("_"):
        raise missing
    try:
        return import_module(f"octavo.{name}")
    except ModuleNotFoundError as error:
        if error.name == f"octavo.{name}":
            raise missing from None
        raise


def __dir__() -> list[str]:
    """What there is, and what can be asked for."""
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package, in which a verb stays itself when the module of the same name is imported.

    Importing `octavo.score` puts the module into the package as its attribute; here that is the verb.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in _ROOMS:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
