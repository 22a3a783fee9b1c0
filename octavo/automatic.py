"""What a recipe leaves to the measure of its budget and model: the type, the dropout, the learning rate.

On tiny Shakespeare, by one processor of a laptop, `folio` came to 1.475 in five minutes and the others to no
less than 1.55; in ten and twenty `llama` and its kin overtake it. They do when they have read about 1.3
million tokens of a text of 0.24 million (*Styles*), 2.8 of 1 million (tiny Shakespeare), and 5 of 4 million
(the King James Bible): later with the square root of its length. So they are trained where the tokens to
learn from, times how often each is read, are more than ten million. (Of 0.06 million `llama` came to 1.550 in
three minutes, having read 0.8 million, and `folio` to 1.647.)

A text that is read fifty times is learned by heart without strong dropout; strong dropout on one that is
read a few times learns too slowly. In twenty minutes `plain`, which read the text six times, came to 1.53
without dropout and to 1.66 with a tenth. So Transformers drop nothing up to sixteen passes, as guessed here,
and then a tenth. `folio`, whose tables of n-grams learn by heart soonest, drops an eighth more at each
doubling after three (in twenty minutes: 1.528 with none, 1.515 with a tenth, 1.506 with a quarter), and
recurrent layers a tenth more after four; those curves are drawn through two runs each, not through a sweep.
Minutes become passes by the pace of a laptop's two cores.

The learning rates of Transformers were found with vectors of 128 numbers, and fall with the square root of
the width: with 256 `llama` came to 1.697 in four minutes, and to 1.728 at the rate of 128; with 512 `plain`
grew worse after a hundred steps at that rate. Weights that go on learning do so by the optimizer that they
know: after two minutes `gpt2` went on for two to 1.614 at 0.3 of Muon's rate, to 1.627 at the whole of it,
and to 1.665 by AdamW at 5e-4. A published model, which does not know Muon, comes further by AdamW: twelve
steps on Shakespeare brought SmolLM2-135M from 4.09 to 3.34 at 3e-4, to 3.47 at 1e-4, and by Muon to 3.56.
And with the dropout that they know: a tenth of it brought that model's own loss from 4.7 to 11.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from octavo import models
from octavo.model import Model
from octavo.recipe import DEFAULTS, Recipe

TOKENS_PER_SECOND = 10_000  # that a small Transformer learns from on two cores, to guess epochs from minutes
WEIGHTS_PER_SECOND = 1.5e10  # of recurrent models: tokens a second on two cores, times the weights
CROSSING = 1e7  # tokens to learn from, times epochs, from which the model that learns on is ahead
BRIEF, LASTING = "folio", "llama"  # what learns most at first, and what does then
FREE = {"folio": 3.0, "gru": 4.0, "lstm": 4.0}  # epochs that need no dropout
RISE = {"folio": 0.125, "gru": 0.1, "lstm": 0.1}  # how much dropout each doubling adds
STRONGEST = 0.4  # of these
FURTHER = 0.3  # of the learning rate, for weights that have learned with it
ADAPTING = {"optimizer": "adamw", "lr": 6e-4}  # for Transformers that have learned elsewhere
NARROW = 128  # numbers in a hidden vector of the Transformers that the learning rates were found with
RARELY, SLIGHT = 16.0, 0.1  # epochs after which other Transformers have dropout, and how much


def epochs(recipe: Recipe, tokens: int, tokens_per_second: float = TOKENS_PER_SECOND) -> float:
    """How often a text of so many tokens will be read, guessed where the budget is one of minutes.

    Examples
    --------
    >>> epochs(Recipe(epochs=3), 1000), epochs(Recipe(steps=10, batch=2, context=50), 1000)
    (3, 1.0)
    """
    tokens = max(tokens, 1)  # a text of none is refused where it is cut into windows
    if recipe.epochs is not None:
        return recipe.epochs
    if recipe.steps is not None:
        return recipe.steps * recipe.tokens_per_step / tokens
    return 60 * float(recipe.minutes or 0) * tokens_per_second / tokens


def model_type(recipe: Recipe, tokens: int) -> str:
    """What to train on a text of so many tokens, where nobody says.

    Examples
    --------
    >>> [model_type(Recipe(minutes=minutes), 10**6) for minutes in (1, 5, 20)]
    ['folio', 'folio', 'llama']
    """
    read = epochs(recipe, tokens)
    return LASTING if read * read * tokens >= CROSSING else BRIEF


def dropout(model_type: str, recipe: Recipe, tokens: int, weights: int) -> float:
    """The dropout of a model of so many weights, for a text of so many tokens.

    Examples
    --------
    >>> [dropout("llama", Recipe(epochs=n), 10**6, 800_000) for n in (1, 10, 30)]
    [0.0, 0.0, 0.1]
    >>> [round(dropout("gru", Recipe(epochs=n), 10**6, 900_000), 2) for n in (1, 4, 8, 16, 100)]
    [0.0, 0.0, 0.1, 0.2, 0.4]
    """
    pace = WEIGHTS_PER_SECOND / weights if model_type in ("gru", "lstm") else TOKENS_PER_SECOND
    read = epochs(recipe, tokens, pace)
    if model_type in FREE:
        return min(max(RISE[model_type] * math.log2(read / FREE[model_type]), 0.0), STRONGEST)
    return SLIGHT if model_type != "rnn" and read > RARELY else 0.0


def further(model: Model, learned: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe says of a model that goes on learning, given that by which it learned here, if it did.

    Examples
    --------
    >>> import octavo
    >>> bard = octavo.load("bard")
    >>> further(bard, {"optimizer": "muon", "dropout": 0.1})
    {'optimizer': 'muon', 'lr': 0.0015, 'dropout': 0.1}
    >>> further(bard, {})
    {'optimizer': 'adamw', 'lr': 0.0006, 'dropout': 0.0}
    """
    dropout = learned.get("dropout", 0.0)
    if not learned and model.architecture is not models.recurrent:
        return ADAPTING | {"dropout": dropout}
    usual = DEFAULTS[model.model_type]["lr"]
    return {
        "optimizer": learned.get("optimizer", Recipe.optimizer),
        "lr": FURTHER * usual,
        "dropout": dropout,
    }


def lr(model: Model, recipe: Recipe) -> float:
    """The learning rate of a model, given that of its type.

    Examples
    --------
    >>> import octavo
    >>> lr(octavo.load("bard"), Recipe(steps=1, lr=0.005))  # whose vectors have 512 numbers
    0.0025
    """
    if model.architecture is models.recurrent:
        return recipe.lr
    width = next(iter(model.architecture.shapes(model.config).values()))[1]  # of the vocabulary's table
    return recipe.lr * math.sqrt(NARROW / max(width, NARROW))
