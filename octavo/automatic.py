"""What a recipe leaves to the measure of its budget: dropout, by how often the text will be read.

A text that is read fifty times is learned by heart without strong dropout; strong dropout on one that is
read a few times learns too slowly. So a recurrent layer gets none up to four passes, and a tenth more at
each doubling. That curve is drawn through two runs, not through a sweep: 0.3 at about ten passes underfits,
and 0.4 at forty still does not overfit. Minutes become passes by the pace of a laptop's two cores.
"""

from __future__ import annotations

import math

from octavo.recipe import Recipe

TOKENS_PER_SECOND = 10_000  # that a small Transformer learns from on two cores, to guess epochs from minutes
WEIGHTS_PER_SECOND = 1.5e10  # of recurrent models: tokens a second on two cores, times the weights
FREE, STRONGEST = 4.0, 0.4  # epochs that need no dropout; the dropout that no number of them exceeds


def epochs(recipe: Recipe, tokens: int, tokens_per_second: float = TOKENS_PER_SECOND) -> float:
    """How often a text of so many tokens will be read, guessed where the budget is one of minutes.

    Examples
    --------
    >>> epochs(Recipe(epochs=3), 1000), epochs(Recipe(steps=10, batch=2, context=50), 1000)
    (3, 1.0)
    """
    if recipe.epochs is not None:
        return recipe.epochs
    if recipe.steps is not None:
        return recipe.steps * recipe.tokens_per_step / tokens
    return 60 * float(recipe.minutes or 0) * tokens_per_second / tokens


def transformer_dropout(recipe: Recipe, tokens: int) -> float:
    """The dropout of `auto`: none for a text that is read twice, a tenth for one that is read more.

    Examples
    --------
    >>> transformer_dropout(Recipe(minutes=1), 10**6), transformer_dropout(Recipe(epochs=5), 10**6)
    (0.0, 0.1)
    """
    return 0.1 if epochs(recipe, tokens) > 2 else 0.0


def recurrent_dropout(recipe: Recipe, tokens: int, weights: int) -> float:
    """The dropout of a recurrent model of so many weights, for a text of so many tokens.

    Examples
    --------
    >>> [round(recurrent_dropout(Recipe(epochs=n), 10**6, 900_000), 2) for n in (1, 4, 8, 16, 100)]
    [0.0, 0.0, 0.1, 0.2, 0.4]
    """
    read = epochs(recipe, tokens, WEIGHTS_PER_SECOND / weights)
    return min(max(0.1 * math.log2(read / FREE), 0.0), STRONGEST)
