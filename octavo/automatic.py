"""What a recipe leaves to the measure of its budget: dropout, by how often the text will be read.

A text that is read fifty times is learned by heart without strong dropout; strong dropout on one that is
read a few times learns too slowly: a small Llama that read tiny Shakespeare once, in five minutes, came to
1.59 without and to 1.68 with a tenth. So nothing is dropped up to four passes, or two of `folio`, whose
tables of n-grams learn by heart soonest. Then Transformers drop a tenth, and recurrent layers a tenth more at
each doubling; that curve is drawn through two runs, not through a sweep: 0.3 at about ten passes underfits,
and 0.4 at forty still does not overfit. Minutes become passes by the pace of a laptop's two cores.
"""

from __future__ import annotations

import math

from octavo.recipe import Recipe

TOKENS_PER_SECOND = 10_000  # that a small Transformer learns from on two cores, to guess epochs from minutes
WEIGHTS_PER_SECOND = 1.5e10  # of recurrent models: tokens a second on two cores, times the weights
SOON, FREE = 2.0, 4.0  # epochs that need no dropout: of `folio`, and of the others
SLIGHT, STRONGEST = 0.1, 0.4  # the dropout of Transformers; of recurrent layers, whatever the epochs


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


def dropout(model_type: str, recipe: Recipe, tokens: int, weights: int) -> float:
    """The dropout of a model of so many weights, for a text of so many tokens.

    Examples
    --------
    >>> [dropout("llama", Recipe(epochs=n), 10**6, 800_000) for n in (1, 3, 9)]
    [0.0, 0.0, 0.1]
    >>> [round(dropout("gru", Recipe(epochs=n), 10**6, 900_000), 2) for n in (1, 4, 8, 16, 100)]
    [0.0, 0.0, 0.1, 0.2, 0.4]
    """
    if model_type in ("gru", "lstm"):
        read = epochs(recipe, tokens, WEIGHTS_PER_SECOND / weights)
        return min(max(0.1 * math.log2(read / FREE), 0.0), STRONGEST)
    if model_type == "rnn":
        return 0.0
    return SLIGHT if epochs(recipe, tokens) > (SOON if model_type == "folio" else FREE) else 0.0
