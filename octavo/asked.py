"""What a training run is asked to be: from options to a model, a recipe and the ids of a text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from octavo import automatic, data, models
from octavo.checkpoint import Checkpoint
from octavo.encoded import Progress, encode
from octavo.errors import OctavoError
from octavo.idfile import Encoded
from octavo.journal import logged
from octavo.model import Model
from octavo.quant import widened
from octavo.recipe import DEFAULTS, STANDARD, Recipe, named_size
from octavo.tokenizers.interface import id_dtype

BPE_BLOCKS = 256  # of about a million characters: what byte pairs are learned from, at most

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

Begun: TypeAlias = tuple[Model, Recipe, Encoded]


@dataclass(frozen=True)
class Text:
    """What is learned from: a text itself, or names that `octavo.data.sources` knows.

    Attributes
    ----------
    given : str, or sequence of str or Path
        A text, or names.
    field : str
        The field of JSON lines, or the column of Parquet, that holds the text.
    progress : callable, optional
        Is told how the encoding of large texts goes, as `octavo.encoded.encode` tells it.
    """

    given: str | Sequence[str | Path]
    field: str = "text"
    progress: Progress | None = None

    def blocks(self) -> Iterable[str]:
        """The text, in parts that fit into memory."""
        if not isinstance(self.given, str):
            return data.blocks(data.sources(self.given), self.field)
        if not self.given:
            raise OctavoError("there is no text to train on")
        return [self.given]

    def has_documents(self) -> bool:
        """Whether there are several of them, or a file of a kind that is made to hold several."""
        if isinstance(self.given, str):
            return False
        sources = data.sources(self.given)
        return len(sources) > 1 or sources[0].has_rows

    def encode(self, tokenizer: Tokenizer) -> Encoded:
        """The text as ids, with what begins a document before each."""
        if not isinstance(self.given, str):
            return encode(data.sources(self.given), tokenizer, field=self.field, progress=self.progress)
        begun = [*tokenizer.begins_with, *tokenizer.encode(self.given)]  # one document, whose end is open
        ids = np.asarray(begun, id_dtype(tokenizer.vocab_size))
        return Encoded(ids, 1, len(self.given.encode()), hashlib.sha256(ids.tobytes()).hexdigest())


@dataclass
class Asked:
    """The options of `octavo.train` that say what is trained; what is None was not said."""

    model_type: str | None
    tokenizer: str | Path | Tokenizer | None
    size: str | None
    sizes: dict[str, Any]
    base: Model | str | Path | None
    recipe: dict[str, Any]

    def begin(self, text: Text) -> Begun:
        """A new model, its recipe, and the text as ids."""
        if self.base is not None:
            return self._continue(text)
        unsaid = self.model_type in (None, "auto")
        model_type = automatic.BRIEF if unsaid else str(self.model_type)
        models.architecture(model_type)  # refuses an unknown type
        recipe = Recipe(**(DEFAULTS[model_type] | self.recipe))
        reader = tokenizer_of(self.tokenizer or "char", text)
        ids = text.encode(reader)
        if unsaid and not self.sizes:  # whose names are those of one type's config
            model_type = automatic.model_type(recipe, len(ids))
            recipe = Recipe(**(DEFAULTS[model_type] | self.recipe))
        size = self.size or STANDARD.get(model_type)
        named = named_size(model_type, size) if size else {}
        sizes = sizes_of(model_type, named | self.sizes, recipe)
        config = models.design(model_type, reader.vocab_size, **sizes)
        params = models.initial_params(model_type, config, np.random.default_rng(recipe.seed))
        model = Model(model_type, config, params, reader)
        dropout = automatic.dropout(model.model_type, recipe, len(ids), model.count())
        return model, self._fitted(model, recipe, dropout=dropout), ids

    def _fitted(self, model: Model, recipe: Recipe, **fits: float) -> Recipe:
        """The recipe with what `fits` and the learning rate that fits the model, unless they are said."""
        fitting: dict[str, Any] = fits | {"lr": automatic.lr(model, recipe)}
        return replace(recipe, **{name: x for name, x in fitting.items() if name not in self.recipe})

    def _continue(self, text: Text) -> Begun:
        """The model that is to be trained on, its recipe, and the text as ids."""
        from octavo.storage import load

        said = {"model": self.model_type, "tokenizer": self.tokenizer, "size": self.size or self.sizes}
        if given := [name for name, value in said.items() if value]:
            raise OctavoError(f"a model to begin from has its own {' and '.join(given)}; leave that out")
        model = self.base if isinstance(self.base, Model) else load(str(self.base))
        model = model.with_params(widened(model.params))
        defaults = DEFAULTS[model.model_type] | automatic.further(model, _recipe_of(self.base))
        if model.context is not None:
            defaults = defaults | {"context": min(model.context, Recipe.context)}
        recipe = Recipe(**(defaults | self.recipe))
        if model.context is not None and recipe.context > model.context:
            raise OctavoError(f"the model has a context of {model.context}, and {recipe.context} is more")
        ids = text.encode(model.text_tokenizer())
        return model, self._fitted(model, recipe), ids

    def go_on(self, text: Text, kept: Checkpoint) -> Begun:
        """The model and recipe of a checkpoint and the text as ids, if it agrees with all that is said."""
        from octavo.storage import load

        was, folder = kept.run["asked"], kept.path.parents[1]
        model, recipe = load(folder), kept.run["recipe"]
        if other := self._other(model, was, recipe):
            raise OctavoError(f"{kept.path} is of a run {other}; leave the option out, or begin anew")
        ids = text.encode(model.text_tokenizer())
        if ids.sha256 != kept.run["text"]:
            raise OctavoError(f"{kept.path} is of a run on another text; name the files it was begun with")
        return model, Recipe(**recipe), ids

    def finished(self, text: Text, out: Path, made: Mapping[str, Any]) -> Model:
        """The model of a run that has spent its budget, if that is the run that is asked for.

        What the logs of earlier versions do not tell is not compared.
        """
        from octavo.storage import load

        model = load(out)
        other = self._other(model, made.get("asked", {}), made.get("recipe", {}))
        if not other and "text" in made and made["text"] != text.encode(model.text_tokenizer()).sha256:
            other = "on another text"
        if other:
            raise OctavoError(
                f"the run in {out} is finished, {other}; to train its model on, name it as --from (base=), "
                "and a new folder"
            )
        return model

    def _other(self, model: Model, asked: Mapping[str, Any], recipe: Mapping[str, Any]) -> str | None:
        """Which option says otherwise than a run of the model was asked; what need not be said may be."""
        begun = asked and not asked["from"]
        usual = {"tokenizer": "char", "size": STANDARD.get(model.model_type)} if begun else {}
        unsaid = {name: value for name, value in usual.items() if not asked[name]}
        was = {**asked, **unsaid, **recipe, "model": model.model_type}
        said = {n: v for n, v in self.spelled().items() if v and (n, v) != ("model", "auto")}
        for name, value in {**said, **self.recipe}.items():
            if name in was and was[name] != value:
                found = f"{name} {was[name]}" if was[name] else f"no {name}"
                return f"with {found}, not {value}"
        return None

    def spelled(self) -> dict[str, Any]:
        """The options beside the recipe, as they are compared later."""
        return {
            "model": self.model_type,
            "tokenizer": str(self.tokenizer) if isinstance(self.tokenizer, str | Path) else None,
            "size": self.size,
            "sizes": {name: list(v) if isinstance(v, tuple) else v for name, v in self.sizes.items()},
            "from": str(self.base) if isinstance(self.base, str | Path) else None,
        }

    def identity(self, recipe: Recipe, ids: Encoded) -> dict[str, Any]:
        """What a checkpoint tells of its run."""
        return {"asked": self.spelled(), "recipe": asdict(recipe), "text": ids.sha256}


def _recipe_of(base: Model | str | Path | None) -> Mapping[str, Any]:
    """The recipe that a model was trained by, if it is in a folder with the log of its run."""
    if not isinstance(base, str | Path):
        return {}
    from octavo.storage import locate

    recipe = logged(locate(str(base)))[0].get("recipe")
    return recipe if isinstance(recipe, dict) else {}


def named(given: str | Path | Iterable[str | Path]) -> str | list[str | Path]:
    """A text as it is, or names as a list; a text that is the name of something is refused.

    Examples
    --------
    >>> named("to be"), named(("a.txt", "texts"))
    ('to be', ['a.txt', 'texts'])
    """
    if isinstance(given, str):
        if given in data.CORPORA or (given and os.path.exists(given)):
            raise OctavoError(
                f"a str is the text itself; to train on what is called {given}, give [{given!r}]"
            )
        return given
    if isinstance(given, Path):
        return [given]
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise OctavoError(f"what is trained on is a text (str), or a list of names, not {given!r:.80}")
    return list(given)


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a recipe, with numbers of NumPy as Python's; unknown ones are refused."""
    known = Recipe.__dataclass_fields__
    if unknown := sorted(set(options) - set(known)):
        raise OctavoError(f"there is no training option {', '.join(unknown)}; there are {', '.join(known)}")
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}


def tokenizer_of(spec: str | Path | Tokenizer, text: Text) -> Tokenizer:
    """The tokenizer that `char`, `bpe:N` or a path names; a tokenizer is returned as it is."""
    from octavo import tokenizers

    if isinstance(spec, Path):
        return tokenizers.open(spec)
    if not isinstance(spec, str):
        return spec
    if spec == "char":
        return tokenizers.char(text.blocks(), end_of_text=text.has_documents())
    if spec.startswith("bpe:"):
        if not spec[4:].isdecimal():
            raise OctavoError(f"a tokenizer is char, bpe:N (N tokens) or a path, not {spec!r}")
        blocks = islice(text.blocks(), BPE_BLOCKS)
        return tokenizers.train_bpe(blocks, int(spec[4:]), end_of_text=text.has_documents())
    return tokenizers.open(spec)


def sizes_of(model_type: str, sizes: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The sizes of the model; a Transformer remembers the context it is trained on."""
    recurrent = models.architecture(model_type) is models.recurrent
    for name, instead in {"vocab_size": "tokenizer", "context": "context as an option of its own"}.items():
        if name in sizes:
            raise OctavoError(f"{name} is no size to choose; say the {instead}")
    return dict(sizes) if recurrent else {**sizes, "context": recipe.context}
