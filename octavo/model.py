"""A model: an architecture's config, its parameters and the tokenizer that reads text for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo import models, nn
from octavo.checks import require_threads
from octavo.errors import OctavoError
from octavo.nn import Array

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

CACHES = ("float32", "float16")  # what keys and values may be kept in


@dataclass(frozen=True, eq=False)
class Model:
    """Everything that is needed to read, write and score text.

    Attributes
    ----------
    model_type : str
        The architecture's name, a key of `octavo.models.ARCHITECTURES`.
    config
        The architecture's `Config`.
    params : dict of arrays
        NumPy or JAX arrays under the architecture's names; matrices are (out, in).
    tokenizer : Tokenizer or None
        Without one the model takes and gives ids only.
    chat_template : str or None
        How a conversation is written for the model, in Jinja, where the files it comes from say so.
    generation_config : mapping or None
        What `generation_config.json` says, as it stands there.
    threads : int or None
        How many threads compiled code may use for this model; None: as many as there are processors. The
        equations use as many as NumPy's BLAS is told to (`OPENBLAS_NUM_THREADS`).
    """

    model_type: str
    config: Any
    params: dict[str, Array]
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    generation_config: Mapping[str, Any] | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        require_threads(self.threads)

    @property
    def architecture(self) -> ModuleType:
        """The module that says what the model computes."""
        return models.architecture(self.model_type)

    @property
    def vocab_size(self) -> int:
        """How many tokens the model knows."""
        return int(self.config.vocab_size)

    @property
    def context(self) -> int | None:
        """How many tokens the model was trained to look back on; None for a recurrent one."""
        return getattr(self.config, "context", None)

    @property
    def longest(self) -> int | None:
        """How many tokens the model can read at all; None: as many as there is memory for."""
        return getattr(self.config, "longest", None)

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a text: of the generation config, else the config, else the tokenizer."""
        of_config = getattr(self.config, "eos_token_id", None)
        of_tokenizer = self.tokenizer.end_of_text if self.tokenizer is not None else None
        told = ((self.generation_config or {}).get("eos_token_id"), of_config, of_tokenizer)
        ids = next((ids for ids in told if ids is not None), ())
        return tuple(ids) if isinstance(ids, list | tuple) else (ids,)

    def text_tokenizer(self) -> Tokenizer:
        """The tokenizer, or an error that says how to bring one."""
        if self.tokenizer is None:
            raise OctavoError("this model has no tokenizer; load it with tokenizer=...")
        return self.tokenizer

    def with_params(self, params: dict[str, Array]) -> Model:
        """The same model with other parameters, on JAX say: ``with_params(jax.device_put(model.params))``.

        What is quantised is widened before: ``jax.device_put(octavo.quant.widened(model.params))``.
        """
        return replace(self, params=params)

    def count(self) -> int:
        """How many numbers training may change."""
        fixed = self.architecture.FIXED
        return sum(int(p.size) for name, p in self.params.items() if name not in fixed)

    @property
    def enforced(self) -> int | None:
        """The most tokens of a text that it may be asked to go on with; None: no bound, but a warning.

        A published family has a published context, past which nobody meant it to be used: RoPE turns by
        angles it has not seen. The course's models are used past theirs by the course itself.
        """
        return self.longest or (self.context if hasattr(self.architecture, "PUBLISHED") else None)

    def init_state(self, batch: int = 1, length: int | None = None, dtype: str | None = None) -> Any:
        """An empty memory for `batch` rows of up to `length` tokens (by default the context).

        With a `dtype`, "float16" or "float32", a Transformer keeps its keys and values in that, whatever
        the parameters are in; a recurrent model has none to keep, and raises OctavoError. What half
        precision loses: `bard` has a perplexity of 28.24419 on 8,192 tokens of held-out Shakespeare in
        windows of 128, and 28.24412 with it; SmolLM2-135M-Instruct (Q4_1) 45.2347 and 45.2348 on 2,048
        tokens in windows of 512, with logits of up to 39 that are off by at most 0.05.
        """
        like = next(iter(self.params.values()))
        state = self.architecture.init_state(self.config, batch, length or self.context or 0, like)
        if dtype is None:
            return state
        if dtype not in CACHES:
            raise OctavoError(f"a cache is kept in {' or '.join(CACHES)}, not {dtype!r}")
        if not isinstance(state, nn.Cache):
            raise OctavoError(
                f"a {self.model_type} model has no cache to keep in {dtype}: its state is as small as it is"
            )
        return nn.stored_as(state, dtype)

    def forward(self, tokens: Array, state: Any = None) -> tuple[Array, Any]:
        """Logits of what follows each token, and the memory after the last.

        Parameters
        ----------
        tokens : integers [T] or [B, T]
            Ids of NumPy, JAX (under `jax.jit` too) or a plain list.
        state
            What an earlier call returned, or None to begin. It is spent: NumPy writes into it.
            Under `jax.jit` a Transformer's state must have room for the tokens (`init_state`);
            the logits are NaN past it.

        Returns
        -------
        logits : array [T, V] or [B, T, V]
            In the dtype of the parameters.
        state
            For the next call; any way of cutting a text into calls gives the same logits.

        Raises
        ------
        OctavoError
            If there are no tokens, one is no id of the vocabulary, or there are more of them than
            a model with learned positions can read (under `jax.jit`: NaN).

        Examples
        --------
        >>> import octavo
        >>> model = octavo.load("christie-rnn")
        >>> logits, state = model.forward(model.tokenizer.encode("poirot"))
        >>> logits.shape
        (6, 41)
        """
        tokens = _as_array(tokens)
        self.check(tokens)
        rows = tokens if tokens.ndim == 2 else tokens[None]
        traced, seen = _traced(tokens), 0
        if state is not None and (found := _rows(state)) != rows.shape[0]:
            raise OctavoError(
                f"a state of {found} rows cannot go on with {rows.shape[0]}; copy it for each row"
            )
        if state is None and traced:
            state = self.init_state(rows.shape[0], max(self.context or 0, rows.shape[1]))
        if isinstance(state, nn.Cache) and not traced and not _traced(state.position):
            seen = int(state.position.max())
            state = with_room(state, seen + rows.shape[1])
        if self.longest is not None and not traced:
            nn.require_positions(seen + rows.shape[1], self.longest)
        logits, state = self.architecture.forward(self.params, self.config, rows, state)
        return (logits if tokens.ndim == 2 else logits[0]), state

    def check(self, tokens: Array) -> None:
        """Refuse what is no batch of ids: NumPy would count negative ids from the end, JAX clamps."""
        if tokens.ndim not in (1, 2) or tokens.size == 0:
            raise OctavoError(f"tokens are ids [T] or [B, T], at least one of them, not shape {tokens.shape}")
        if not np.issubdtype(tokens.dtype, np.integer):
            raise OctavoError(f"tokens are whole numbers, not {tokens.dtype}")
        if not _traced(tokens) and (int(tokens.min()) < 0 or int(tokens.max()) >= self.vocab_size):
            found = int(tokens.min()) if int(tokens.min()) < 0 else int(tokens.max())
            raise OctavoError(f"token {found} is outside the vocabulary of {self.vocab_size}")

    def __repr__(self) -> str:
        return f"Model({self.model_type}, {self.count():,} parameters, vocabulary {self.vocab_size:,})"


def with_room(state: Any, length: int) -> Any:
    """The state with room for `length` tokens; a cache grows by doubling, a recurrent state need not."""
    if isinstance(state, nn.Cache) and state.room < length:
        return nn.grow(state, max(length, 2 * state.room))
    return state


def _as_array(tokens: Array) -> Array:
    """NumPy and JAX arrays as they are, lists as arrays."""
    if hasattr(tokens, "__array_namespace__"):
        return tokens
    try:
        return np.asarray(tokens)
    except ValueError:  # rows of unequal length
        raise OctavoError("the rows of a batch of tokens must be of one length") from None


def _rows(state: Any) -> int | None:
    """How many rows a state remembers."""
    if isinstance(state, nn.Cache):
        return int(state.position.shape[0])
    return next((int(memory.shape[0]) for layer in state for memory in layer), None)


def _traced(array: Array) -> bool:
    """Whether the array is JAX's stand-in for a value not known yet."""
    if isinstance(array, np.ndarray | np.generic):
        return False
    from jax.core import Tracer

    return isinstance(array, Tracer)
