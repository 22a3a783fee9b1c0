"""The verb `train`: from a text to a model, its folder and the log of its run.

What is kept are the weights with the least loss on the held-out end of the text. What a step is stands
in `octavo.learn`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo import models
from octavo.errors import OctavoError
from octavo.formats import folder
from octavo.learn import DivergedError, run, validator
from octavo.model import Model
from octavo.nn import Array
from octavo.recipe import DEFAULTS, Recipe, Report
from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

LOG = "training.jsonl"


def train(
    text: str,
    *,
    model_type: str = "gru",
    tokenizer: str | Tokenizer = "char",
    sizes: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    report: Callable[[Report], None] | None = None,
    command: str | None = None,
    **recipe: Any,
) -> Model:
    """Train a new model on a text.

    Parameters
    ----------
    text : str
        The end of it (`validation`, a tenth unless said) is held out.
    model_type : {"rnn", "gru", "lstm", "plain", "prenorm"}
        The architecture.
    tokenizer : str or Tokenizer
        ``"char"``, ``"bpe:N"`` for a vocabulary of N byte pairs trained on the text, the path of a
        `tokenizer.json`, or a tokenizer.
    sizes : mapping, optional
        Fields of the architecture's config, ``{"d_model": 128}`` say, or for recurrent models
        `units` (a tuple, one width per layer) and `embedding`. By default the course's.
    out : str or Path, optional
        A new folder to save the model in, with the log of the run in `training.jsonl`.
    report : callable, optional
        Called with a `Report` after every step.
    command : str, optional
        Kept in the log, to tell how the model was made.
    **recipe
        Fields of `Recipe`: one of `steps`, `epochs` and `minutes`, and `batch`, `lr` and so on.

    Returns
    -------
    Model
        The weights with the least loss on the held-out text, as NumPy arrays. Interrupting the run
        (Ctrl-C) ends it early and returns, and saves, what there is.

    Raises
    ------
    OctavoError
        If the text is shorter than a window, an option is impossible, the folder exists, JAX is
        missing, or the loss stops being a number.

    Examples
    --------
    >>> model = train("to be or not to be " * 50, sizes={"units": (8,)}, steps=3, context=8, batch=2)
    >>> model.count()
    471
    """
    try:
        import jax  # noqa: F401  (said here, once, rather than as a traceback from inside)
        import optax  # noqa: F401
    except ImportError:
        raise OctavoError("training needs JAX and Optax: pip install jax optax") from None
    models.architecture(model_type)  # refuses an unknown type
    settings = _recipe(model_type, recipe)
    if out is not None:
        folder.refuse_existing(Path(out))
    reader = _tokenizer(tokenizer, text)
    config = models.design(model_type, reader.vocab_size, **_sizes(model_type, sizes or {}, settings))
    ids, held_out = split(np.asarray(reader.encode(text), np.int32), settings)
    params = models.initial_params(model_type, config, np.random.default_rng(settings.seed))
    model = Model(model_type, config, params, reader)
    made = {"octavo": __version__, "command": command, "recipe": asdict(settings)}
    log, best = [json.dumps(made)], math.inf
    kept = latest = params
    state: Report | None = None
    diverged: DivergedError | None = None
    evaluate = validator(model, held_out, settings.context)
    try:
        for state, latest in run(model, ids, evaluate, settings):
            if evaluate is None:
                kept = latest
            elif state.val_loss is not None and state.val_loss < best:
                best, kept = state.val_loss, latest
            if state.val_loss is not None or state.step % max(state.step // 100, 1) == 0:  # ever sparser
                log.append(_line(state))
            if report is not None:
                report(state)
    except KeyboardInterrupt:
        if state is None:  # nothing was learned, so there is nothing to keep
            raise
        with suppress(KeyboardInterrupt):  # impatience costs this evaluation, not the run
            if evaluate is not None:  # what was learned last may be the best there is
                val_loss = evaluate(latest)
                kept = latest if val_loss < best else kept
                log.append(_line(replace(state, val_loss=val_loss)))
        log.append(json.dumps({"interrupted": True}))
    except DivergedError as error:
        if kept is params:
            raise
        diverged = error
    model = model.with_params({name: np.array(p) for name, p in kept.items()})
    if out is not None:
        folder.write(
            Path(out), models.describe(model_type, config), model.params, reader, {LOG: "\n".join(log) + "\n"}
        )
    if diverged is not None:
        saved = f"; the best weights before that are in {out}" if out is not None else ""
        raise OctavoError(f"{diverged}{saved}")
    return model


def _line(state: Report) -> str:
    """A line of the log; the first step has no loss yet."""
    return json.dumps({name: None if value != value else value for name, value in asdict(state).items()})


def _recipe(model_type: str, options: dict[str, Any]) -> Recipe:
    known = Recipe.__dataclass_fields__
    if unknown := sorted(set(options) - set(known)):
        raise OctavoError(f"there is no training option {', '.join(unknown)}; there are {', '.join(known)}")
    plain = {
        name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()
    }
    return Recipe(**(DEFAULTS[model_type] | plain))


def _tokenizer(spec: str | Tokenizer, text: str) -> Tokenizer:
    """The tokenizer that `char`, `bpe:N` or a path names; a tokenizer is returned as it is."""
    from octavo import tokenizers

    if not isinstance(spec, str):
        return spec
    if not text:
        raise OctavoError("there is no text to train on")
    if spec == "char":
        return tokenizers.char(text)
    if spec.startswith("bpe:"):
        if not spec[4:].isdecimal():
            raise OctavoError(f"a tokenizer is char, bpe:N (N tokens) or a path, not {spec!r}")
        return tokenizers.train_bpe(text, int(spec[4:]))
    return tokenizers.open(spec)


def _sizes(model_type: str, sizes: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The sizes of the model; a Transformer remembers the context it is trained on."""
    recurrent = models.architecture(model_type) is models.recurrent
    for name, instead in {"vocab_size": "tokenizer", "context": "context as an option of its own"}.items():
        if name in sizes:
            raise OctavoError(f"{name} is no size to choose; say the {instead}")
    return dict(sizes) if recurrent else {**sizes, "context": recipe.context}


def split(ids: Array, recipe: Recipe) -> tuple[Array, Array]:
    """What is learned from, and the held-out end of the text."""
    held_out = int(len(ids) * recipe.validation)
    ids, rest = ids[: len(ids) - held_out], ids[len(ids) - held_out :]
    if len(ids) < recipe.context + 1:
        raise OctavoError(
            f"the text has {len(ids)} tokens to learn from, fewer than one window of {recipe.context} + 1; "
            "give more text or a smaller context"
        )
    return ids, rest if len(rest) > 1 else rest[:0]
