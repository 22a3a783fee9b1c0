"""Hugging Face's Rust library, which encodes for `published` and `sentencepiece`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from octavo.errors import OctavoError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine


def make(document: dict[str, Any]) -> Engine:
    """The library's tokenizer of a document in canonical form; special tokens in texts are text to it."""
    import json

    from tokenizers import Tokenizer as Engine

    try:
        engine = Engine.from_str(json.dumps(document))
    except Exception as error:  # the library raises bare exceptions
        raise OctavoError(f"tokenizer.json is inconsistent: {error}") from None
    engine.encode_special_tokens = True  # in text, "<|endoftext|>" is thirteen characters
    for token in document["added_tokens"]:
        if (id := engine.token_to_id(token["content"])) != token["id"]:
            raise OctavoError(f"added token {token['content']!r} has id {token['id']} but is read as {id}")
    return engine


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
