r"""Octavo: language models in a handy format.

    import octavo

    model = octavo.load("bard")
    print(octavo.generate(model, "ANTONIO:\nDo you not hear me speak?", seed=1))

The verbs are `load`, `save`, `generate`, `stream`, `chat`, `tokens`, `score` and `train`; what they work
on is a `Model`. A `Conversation` remembers what was said. Everything they refuse, they refuse with an
`OctavoError`.
"""

from octavo import tokenizers
from octavo.chat import Conversation, chat
from octavo.errors import OctavoError
from octavo.generate import Token, generate, stream, tokens
from octavo.model import Model
from octavo.score import Score, score
from octavo.storage import bundled, load, save
from octavo.train import train
from octavo.version import __version__

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
