"""Hugging Face's Rust library, which encodes for `published` and `sentencepiece`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from octavo.errors import OctavoError
from octavo.tokenizers import fields

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine


def make(document: dict[str, Any]) -> Engine:
    """The library's tokenizer of a document in canonical form; special tokens in texts are text to it."""
    import json

    from tokenizers import Tokenizer as Engine

    # The model is nearly all there is, and made of Python's objects in a third of the time that JSON takes.
    # Added tokens get their ids from the vocabulary that is there when they are added: one of them alone.
    ids = {token["content"]: token["id"] for token in document["added_tokens"]}
    try:
        engine = Engine.from_str(json.dumps({**document, "model": fields.bpe(ids, [])}))
        engine.model = _model(document["model"])
    except Exception as error:  # the library raises bare exceptions
        if document["model"]["type"] == "BPE":
            fields.require_merges(document["model"]["merges"], document["model"]["vocab"])
        raise OctavoError(f"tokenizer.json is inconsistent: {error}") from None
    engine.encode_special_tokens = True  # in text, "<|endoftext|>" is thirteen characters
    for content, id in ids.items():
        if (found := engine.model.token_to_id(content)) not in (id, None):
            raise OctavoError(f"added token {content!r} has id {id} but is read as {found}")
    return engine


def _model(document: dict[str, Any]) -> Any:
    """The part `model` of a document as the library has it."""
    from tokenizers import models

    options = {name: value for name, value in document.items() if name != "type" and value is not None}
    return getattr(models, document["type"])(**options)


def recognising(known: Engine) -> Engine:
    """The same, with special tokens found in texts; it shares the model, which is nearly all there is."""
    from tokenizers import Tokenizer as Engine

    engine = Engine(known.model)
    for step in ("normalizer", "pre_tokenizer"):
        if (value := getattr(known, step)) is not None:
            setattr(engine, step, value)
    added = (token for _, token in sorted(known.get_added_tokens_decoder().items()))
    for special, tokens in groupby(added, lambda token: bool(token.special)):
        (engine.add_special_tokens if special else engine.add_tokens)(list(tokens))
    return engine


def ids(engine: Engine, text: str) -> list[int]:
    """The ids of a text, with nothing put around it."""
    found: list[int] = engine.encode(text, add_special_tokens=False).ids
    return found
