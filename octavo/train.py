"""Learning: from a text to a model, with JAX.

The objective is the mean cross-entropy of the next token over windows of text. Each step draws a batch
of random windows (a pure function of the seed and the step) and takes one step of AdamW (Loshchilov and
Hutter 2019) on gradients clipped to a global norm (Pascanu et al. 2013). The learning rate warms up
linearly and decays along half a cosine, both as shares of the budget, be that a number of steps, of
epochs or of minutes. Dropout (Srivastava et al. 2014) sits on the taps of the architectures, which know
nothing of it. What is kept are the weights with the least loss on the held-out end of the text.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo import data, models, nn
from octavo.version import __version__
from octavo.errors import OctavoError
from octavo.formats import folder
from octavo.model import Model
from octavo.nn import Array

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

LOG = "training.jsonl"
EVALUATIONS = 20  # times the held-out text is read during a run
VALIDATION_TOKENS = 2**14  # of it, evenly spaced, at each of them
VALIDATION_BATCH = 32  # windows
DROPPED = {"embedding", "attention", "mlp", "rnn", "gru", "lstm"}  # the taps that dropout sits on


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
        Windows in a step.
    lr : float
        The highest learning rate.
    warmup : float
        Share of the budget in which the learning rate rises.
    weight_decay : float
        Of matrices; biases are not decayed.
    dropout : float
        Share of the activations that are zeroed.
    clip : float
        Greatest norm of a gradient.
    average : float
        Decay of the running average of the weights that is evaluated and kept; 0 keeps the last.
    validation : float
        Share of the text, at its end, that is held out.
    seed : int
        Of the first weights, the windows and the dropout.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    context: int = 128
    batch: int = 32
    lr: float = 2e-3
    warmup: float = 0.02
    weight_decay: float = 0.1
    dropout: float = 0.1
    clip: float = 1.0
    average: float = 0.0
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        budgets = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(budgets) != 1:
            raise OctavoError(f"say one of steps, epochs and minutes, not {' and '.join(budgets) or 'none'}")
        ranges: dict[str, tuple[float, float]] = {
            budgets[0]: (1e-9, math.inf),
            "context": (1, 2**24),
            "batch": (1, 2**24),
            "lr": (0, math.inf),
            "warmup": (0, 1),
            "weight_decay": (0, math.inf),
            "dropout": (0, 0.99),
            "clip": (1e-9, math.inf),
            "average": (0, 1 - 1e-9),
            "validation": (0, 0.9),
            "seed": (0, 2**63 - 1),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise OctavoError(f"{name} must be from {least:g} to {most:g}, not {value}")


DEFAULTS: dict[str, dict[str, Any]] = {
    "rnn": {"lr": 3e-3, "dropout": 0.0, "weight_decay": 0.01},
    "gru": {"lr": 3e-3, "dropout": 0.3},
    "lstm": {"lr": 3e-3, "dropout": 0.3},
    "plain": {"lr": 1e-3, "batch": 8},
    "prenorm": {"lr": 1e-3, "batch": 8},
}
"""What a recipe says unless told otherwise, by model type."""


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

    @property
    def tokens_per_second(self) -> float:
        """Learned from, since the start."""
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float:
        """Until the budget is spent, at the pace so far."""
        return self.seconds * (1 - self.progress) / max(self.progress, 1e-9)


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
        raise OctavoError("training needs JAX: pip install 'octavo[train]'") from None
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
    kept: Mapping[str, Array] = params
    latest: Mapping[str, Array] = params
    try:
        for state, latest in run(model, ids, held_out, settings):
            if state.val_loss is not None and state.val_loss < best:
                best, kept = state.val_loss, {name: np.array(p) for name, p in latest.items()}
            if state.val_loss is not None or (state.step > 1 and state.step % max(state.step // 100, 1) == 0):
                log.append(json.dumps(asdict(state)))
            if report is not None:
                report(state)
    except KeyboardInterrupt:
        log.append(json.dumps({"interrupted": True}))
    if math.isinf(best):  # nothing was evaluated: the last weights are the ones there are
        kept = {name: np.array(p) for name, p in latest.items()}
    model = model.with_params(dict(kept))
    if out is not None:
        folder.write(
            Path(out), models.describe(model_type, config), model.params, reader, {LOG: "\n".join(log) + "\n"}
        )
    return model


def _recipe(model_type: str, options: dict[str, Any]) -> Recipe:
    known = Recipe.__dataclass_fields__
    if unknown := sorted(set(options) - set(known)):
        raise OctavoError(f"there is no training option {', '.join(unknown)}; there are {', '.join(known)}")
    return Recipe(**(DEFAULTS[model_type] | options))


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
    return dict(sizes) if recurrent else {"context": recipe.context, **sizes}


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


def learning_rate(progress: float, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine to zero, at `progress` in [0, 1].

    Examples
    --------
    >>> recipe = Recipe(steps=100, lr=1.0, warmup=0.1)
    >>> [round(learning_rate(x, recipe), 3) for x in (0.05, 0.1, 0.55, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < recipe.warmup:
        return recipe.lr * progress / recipe.warmup
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * min((progress - recipe.warmup) / (1 - recipe.warmup + 1e-12), 1)))


def dropout(rate: float, key: Array) -> nn.Tap:
    """A tap that zeroes a share of the activations it is shown and scales up the rest."""
    import jax

    calls = itertools.count()

    def observe(name: str, x: Array) -> Array:
        if rate == 0 or name.rsplit(".", 1)[-1] not in DROPPED:
            return x
        kept = jax.random.bernoulli(jax.random.fold_in(key, next(calls)), 1 - rate, x.shape)
        return jax.numpy.where(kept, x / (1 - rate), 0)

    return observe


def cross_entropy(model: Model, params: nn.Params, windows: Array, tap: nn.Tap | None = None) -> Array:
    """Mean nats per token of windows [B, T + 1], from an empty memory."""
    import jax.numpy as jnp

    p = nn.View(params, observe=tap)
    logits, _ = model.architecture.forward(p, model.config, windows[:, :-1])  # [B, T, V]
    nats = -nn.log_softmax(logits)
    return jnp.mean(jnp.take_along_axis(nats, windows[:, 1:, None], axis=-1))


def make_step(model: Model, recipe: Recipe) -> tuple[Any, Callable[..., Any]]:
    """The optimizer's first state and the jitted ``step(params, average, memory, fixed, windows, step, lr)``.

    `average` is the running average of the parameters, or None; `memory` the optimizer's state, which
    alone is donated: an interrupt finds the parameters of the step before whole.
    """
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.chain(
        optax.clip_by_global_norm(recipe.clip),
        optax.scale_by_adam(b1=0.9, b2=0.99),
        optax.add_decayed_weights(recipe.weight_decay, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
    )

    def step(
        params: Any, average: Any, memory: Any, fixed: Any, windows: Array, count: Array, lr: Array
    ) -> tuple[Any, Any, Any, Array]:
        key = jax.random.fold_in(jax.random.key(recipe.seed, impl="rbg"), count)  # rbg: cheap on a CPU
        tap = dropout(recipe.dropout, key)
        loss, gradients = jax.value_and_grad(lambda p: cross_entropy(model, p | fixed, windows, tap))(params)
        updates, memory = optimizer.update(gradients, memory, params)
        params = jax.tree.map(lambda p, u: p - lr * u, params, updates)
        if average is not None:
            keep = jnp.minimum(recipe.average, count / (count + 10))  # the average of a young run is short
            average = jax.tree.map(lambda a, p: keep * a + (1 - keep) * p, average, params)
        return params, average, memory, loss

    trained = {name: p for name, p in model.params.items() if name not in model.architecture.FIXED}
    return optimizer.init(jax.tree.map(jnp.asarray, trained)), jax.jit(step, donate_argnums=2)


def run(model: Model, ids: Array, held_out: Array, recipe: Recipe) -> Iterator[tuple[Report, dict[str, Array]]]:
    """Train on ids [N], step by step; yields how it stands and the parameters to keep.

    Those are JAX arrays.
    """
    import jax
    import jax.numpy as jnp

    started = time.perf_counter()
    fixed = {name: p for name, p in model.params.items() if name in model.architecture.FIXED}
    params = {name: jnp.asarray(p) for name, p in model.params.items() if name not in fixed}
    average = params if recipe.average else None
    memory, step = make_step(model, recipe)
    evaluate = validator(model, held_out, recipe.context)
    tokens_per_step = recipe.batch * recipe.context
    loss: Array = jnp.nan
    mean = math.nan
    for count in itertools.count(1):
        progress = _progress(recipe, count - 1, tokens_per_step / len(ids), time.perf_counter() - started)
        windows = data.random_windows(ids, recipe.batch, recipe.context, recipe.seed, count)
        rate = learning_rate(min(progress, 1.0), recipe)
        before = loss
        params, average, memory, loss = step(params, average, memory, fixed, windows, count, rate)
        # Reading the loss of the step before lets this one run while the next batch is drawn.
        mean = _running_mean(mean, float(before))
        spent = _progress(recipe, count, tokens_per_step / len(ids), time.perf_counter() - started)
        due = int(spent * EVALUATIONS) > int(progress * EVALUATIONS) or spent >= 1
        kept = (params if average is None else average) | fixed
        if due:
            mean = _running_mean(mean, float(loss))
            if not math.isfinite(mean):
                raise OctavoError(f"the loss is no longer a number at step {count}; try a lower learning rate")
        val_loss = evaluate(kept) if due and len(held_out) else None
        seconds = time.perf_counter() - started
        yield Report(count, min(spent, 1.0), count * tokens_per_step, seconds, mean, val_loss, rate), kept
        if spent >= 1:
            jax.block_until_ready(params)
            return


def _progress(recipe: Recipe, steps: int, epochs_per_step: float, seconds: float) -> float:
    """The share of the budget that is spent."""
    if recipe.steps is not None:
        return steps / recipe.steps
    if recipe.epochs is not None:
        return steps * epochs_per_step / recipe.epochs
    return seconds / (60 * float(recipe.minutes or 1))


def _running_mean(mean: float, value: float) -> float:
    if math.isnan(value) and math.isnan(mean):
        return mean
    return value if math.isnan(mean) else mean + (value - mean) / 20


def validator(model: Model, held_out: Array, context: int) -> Callable[[dict[str, Array]], float]:
    """A function from parameters to nats per token over disjoint windows of the held-out ids."""
    import jax

    windows = data.disjoint_windows(held_out, min(context, max(len(held_out) - 1, 1)))
    keep = max(VALIDATION_TOKENS // context, 1)
    if len(windows) > keep:
        windows = windows[np.linspace(0, len(windows) - 1, keep).astype(int)]
    loss = jax.jit(lambda params, windows: cross_entropy(model, params, windows))

    def evaluate(params: dict[str, Array]) -> float:
        parts = [windows[at : at + VALIDATION_BATCH] for at in range(0, len(windows), VALIDATION_BATCH)]
        return float(sum(len(part) * float(loss(params, part)) for part in parts) / len(windows))

    return evaluate
