"""The verb `train`: from texts to a model, its folder and the log of its run.

What is kept are the weights with the least loss on the held-out end of the text. What a step is stands in
`octavo.learn`, how a run goes in `octavo.run`, what it leaves on the disk in `octavo.journal`.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo import checkpoint, mesh
from octavo.asked import Asked, Text, named, plain
from octavo.batches import HeldOut
from octavo.compiled import keep_compiled
from octavo.encoded import Progress
from octavo.errors import OctavoError
from octavo.journal import Journal, is_finished, logged, require_place
from octavo.learn import Learner, State
from octavo.lock import alone
from octavo.memory import keep_memory
from octavo.model import Model
from octavo.nn import Array
from octavo.recipe import Recipe, Report
from octavo.run import VALIDATION_TOKENS, DivergedError, Position, run
from octavo.tokenizers.interface import begins_only, token_lengths
from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

SAVE_EVERY = 30.0  # seconds between checkpoints
SAMPLES, SAMPLE_TOKENS, SAMPLE_PROMPT = 5, 80, 16  # in a run; tokens of each, and of what they go on from


def train(
    text: str | Path | Sequence[str | Path],
    *,
    model_type: str | None = None,
    tokenizer: str | Path | Tokenizer | None = None,
    size: str | None = None,
    sizes: Mapping[str, Any] | None = None,
    base: Model | str | Path | None = None,
    field: str = "text",
    out: str | Path | None = None,
    resume: bool = False,
    mesh_sizes: str | None = None,
    report: Callable[[Report], None] | None = None,
    samples: bool = False,
    progress: Progress | None = None,
    save_every: float = SAVE_EVERY,
    command: str | None = None,
    started: float | None = None,
    **recipe: Any,
) -> Model:
    """Train a model on texts.

    Parameters
    ----------
    text : str, Path, or sequence of str or Path
        The text itself, or a list of names: files, folders, patterns or corpora, as `octavo.data.sources`
        describes them. A Path is a name; a str is a text, and refused if it is a name too. The end of it
        (`validation`, a tenth unless said) is held out.
    model_type : {"auto", "rnn", "gru", "lstm", "plain", "prenorm", "llama", "gpt2", "folio", ...}, optional
        The architecture. "auto", which is meant unless said, is what our measurements say learns most in
        that time: `folio`, or `llama` where there is more of it than the text asks for. Each gets the
        dropout that is right for how often the text will be read (`octavo.automatic`).
    tokenizer : str, Path or Tokenizer, optional
        ``"char"``, ``"bpe:N"`` for a vocabulary of N byte pairs trained on the text, the path of a
        `tokenizer.json`, or a tokenizer; "char" unless said. What is made of several documents has
        ``<|endoftext|>`` as its last token, which ends each.
    size : str, optional
        A size by name, "small" say: `octavo.recipe.SIZES` lists them.
    sizes : mapping, optional
        Fields of the architecture's config, ``{"d_model": 128}`` say, or for recurrent models
        `units` (a width, or a tuple of one per layer) and `embedding`. By default "small"; of recurrent
        models, the course's.
    base : Model, str or Path, optional
        A model whose weights, config and tokenizer the new one begins with: anything that `octavo.load`
        opens; what is quantised is widened to float32. The first report, of step 0, is what they make of the
        held-out text, and they are returned if nothing that is learned makes less of it.
    field : str
        The field of JSON lines, or the column of Parquet, that holds the text.
    out : str or Path, optional
        A new folder to save the model in, with the log of the run in `training.jsonl`, the last
        weights in `last`, and while the run lasts, its checkpoints.
    resume : bool
        Go on from the newest checkpoint in `out`; begin if there is none. Of a run that is finished, the
        model is returned.
    mesh_sizes : str, optional
        Devices to train on, ``"data=2,model=2"``; by default one, or all that the hosts of a run have.
    report : callable, optional
        Called with a `Report` after every step.
    samples : bool
        Whether some reports hold what the model writes by then.
    progress : callable, optional
        Called with what is being done and the share of it that is, while a large text is encoded.
    save_every : float
        Seconds between checkpoints.
    command : str, optional
        Kept in the log, to tell how the model was made.
    started : float, optional
        The reading of `time.perf_counter` from which a budget of minutes counts; by default now.
    **recipe
        Fields of `Recipe`: one of `steps`, `epochs` and `minutes`, and `batch`, `lr` and so on.

    Returns
    -------
    Model
        The weights with the least loss on the held-out text, as NumPy arrays. Interrupting the run
        (Ctrl-C, or SIGTERM) ends it after the step under way and returns, and saves, what there is.

    Raises
    ------
    OctavoError
        If the text is shorter than a window, an option is impossible, the folder exists, JAX is
        missing, a checkpoint or a finished run is of other options, another run is writing the folder,
        something cannot be written, or the loss stops being a number or explodes.

    Examples
    --------
    >>> text = "to be or not to be " * 50
    >>> train(text, model_type="gru", sizes={"units": (8,)}, steps=3, context=8, batch=2)
    Model(gru, 471 parameters, vocabulary 7)
    """
    try:
        import jax  # noqa: F401  (said here, once, rather than as a traceback from inside)
        import optax  # noqa: F401
    except ImportError:
        raise OctavoError("training needs JAX and Optax: pip install jax optax") from None
    started = time.perf_counter() if started is None else started
    keep_memory()
    keep_compiled()
    where = Path(out) if out is not None else None
    source = Text(named(text), field, progress)
    asked = Asked(model_type, tokenizer, size, dict(sizes or {}), base, plain(recipe))
    with alone(where) if where is not None and mesh.leads() else nullcontext():
        newest = checkpoint.latest(where) if resume and where is not None else None
        kept = checkpoint.Checkpoint(newest) if newest else None
        if where is not None and kept is None:
            if resume and is_finished(where):
                return asked.finished(source, where, logged(where)[0])
            require_place(where, resume)
        model, settings, ids = asked.begin(source) if kept is None else asked.go_on(source, kept)
        learned_from, rest = split(ids.ids, settings)
        lengths = np.zeros(model.vocab_size)  # a model may know ids that its tokenizer has not
        lengths[: model.text_tokenizer().vocab_size] = token_lengths(model.text_tokenizer())
        held_out = HeldOut(rest, settings.context, lengths, begins_only(model.text_tokenizer()))
        learner = Learner(
            model, settings, mesh.make(mesh.named(mesh_sizes) if mesh_sizes else mesh.own(settings.batch))
        )
        identity = asked.identity(settings, ids)
        journal = Journal(model, where, {"octavo": __version__, "command": command} | identity, identity)
        position = Position() if kept is None else journal.restore(kept)
        state = learner.begin(None if kept is None else kept.read)
        begun = started - position.seconds  # earlier parts of the run count too
        with stop_signals() as stopped:
            steps = run(
                learner,
                state,
                position,
                learned_from,
                held_out,
                continued=base is not None,
                clock=lambda: time.perf_counter() - begun,
                stopped=stopped,
                save_every=save_every,
                save=lambda state, position: journal.save(learner, state, position),
                writing=journal.writing,
            )
            writers = sample_points() if samples else None
            try:
                for now, state in steps:
                    if now.val_loss is not None:
                        journal.keep(now.val_loss, state.params)
                    if writers is not None and now.val_loss is not None and writers(now.progress):
                        now = replace(now, sample=write_sample(model, state.params, held_out.ids))
                    journal.note(now)
                    if report is not None and not _goes_on(report, now):
                        journal.save(learner, state, position)
                        break
            except DivergedError as error:
                raise journal.rescued(error) from None
            return _end(learner, journal, state, position, held_out, lambda: time.perf_counter() - begun)


def _goes_on(report: Callable[[Report], None], now: Report) -> bool:
    """Report; an interrupt meanwhile stops the run between two steps, where all is whole."""
    try:
        report(now)
    except KeyboardInterrupt:
        return False
    return True


def _end(
    learner: Learner,
    journal: Journal,
    state: State,
    position: Position,
    held_out: HeldOut,
    clock: Callable[[], float],
) -> Model:
    """Measure what is kept, on all of the held-out text if the run was not stopped, and save it."""
    interrupted = position.progress < 1
    loss = math.nan
    if held_out.tokens and interrupted:  # what was learned last may be the best there is
        loss = learner.measure(state.params, held_out, held_out.sample(VALIDATION_TOKENS))
        journal.keep(loss, state.params)
        loss = journal.best
    elif held_out.tokens and len(held_out.sample(VALIDATION_TOKENS)) == len(held_out.starts):
        loss = journal.best  # of all of it
    elif held_out.tokens:
        loss = learner.measure(learner.placed(journal.kept), held_out)
    tokens = position.step * learner.recipe.tokens_per_step
    summary = {
        "val_loss": loss,
        "val_bits_per_byte": held_out.bits_per_byte(loss),
        "loss": position.loss,
        "steps": position.step,
        "tokens": tokens,
        "seconds": clock(),
        "interrupted": interrupted,
    }
    return journal.finish({name: mesh.gather(p) for name, p in state.params.items()}, summary)


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has asked to stop; a second Ctrl-C does not wait for the step under way."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_sample(model: Model, params: Mapping[str, Array], held_out: Array) -> str | None:
    """What the model writes now, after the first tokens of the held-out text; None if it cannot."""
    from octavo.generate import generate

    if len(held_out) < SAMPLE_PROMPT:
        return None
    reader = model.text_tokenizer()
    prompt = reader.decode([int(i) for i in held_out[:SAMPLE_PROMPT]])
    writer = model.with_params(model.params | {name: mesh.gather(p) for name, p in params.items()})
    room = (model.context or 2 * SAMPLE_TOKENS) - len(reader.encode(prompt))
    return prompt + generate(writer, prompt, limit=max(min(SAMPLE_TOKENS, room), 1), seed=0, slide=True)


def sample_points() -> Callable[[float], bool]:
    """Whether the progress has come to another of the points at which samples are written."""
    shown = 0

    def due(progress: float) -> bool:
        nonlocal shown
        before, shown = shown, int(progress * SAMPLES + 1e-9)
        return shown > before

    return due


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
