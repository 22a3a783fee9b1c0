"""The context: what is refused, and what a text that slides reads."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import OctavoError, models, texts
from octavo.chat import Conversation
from octavo.model import Model
from octavo.prefill import Memory, window
from octavo.tokenizers import from_ranks, post_processor

from .conftest import CONFIGS, V, build
from .test_chat import made, user

PUBLISHED = [n for n, (kind, _) in CONFIGS.items() if hasattr(models.architecture(kind), "PUBLISHED")]
SLIDING = ["plain", "prenorm", "folio", "llama-tied", "qwen3", "gemma3", "gpt2"]
PROMPT = np.random.default_rng(0).integers(0, V, 200).tolist()


def by_hand(model: Model, prompt: list[int], limit: int, context: int) -> list[int]:
    """Greedy, each token from a full reading of what is to be read, dropping the oldest half when full."""
    read: list[int] = []
    for id in prompt:
        read = [*(read if len(read) < context else read[context // 2 :]), id]
    written: list[int] = []
    for _ in range(limit):
        logits, _ = model.forward(read)
        written.append(int(logits[-1].argmax()))
        read = [*(read if len(read) < context else read[context // 2 :]), written[-1]]
    return written


@pytest.mark.parametrize("name", SLIDING)
@pytest.mark.parametrize("length", [1, 15, 16, 17, 24, 25, 150])
def test_a_sliding_text_reads_its_newer_half_again(name: str, length: int) -> None:
    sizes = {"n_positions": 16} if name == "gpt2" else {}
    model = build(name, dtype=np.float64, **sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its positions never pass the context
        found = octavo.tokens(model, PROMPT[:length], limit=40, temperature=0, slide=True)
        ids = [token.id for token in found]
    assert ids == by_hand(model, PROMPT[:length], 40, 16)


def test_what_slides_is_a_function_of_the_text_alone() -> None:
    model = build("plain", dtype=np.float64)
    options: dict[str, Any] = {"temperature": 0, "slide": True}
    whole = [t.id for t in octavo.tokens(model, PROMPT[:5], limit=60, **options)]
    for cut in (1, 11, 12, 30):
        rest = octavo.tokens(model, [*PROMPT[:5], *whole[:cut]], limit=60 - cut, **options)
        assert [t.id for t in rest] == whole[cut:]


def test_a_window_is_bounded_keeps_the_end_and_what_begins_a_text() -> None:
    for context in range(1, 9):
        for kept in range(4):
            read: list[int] = []
            for n in range(1, 60):
                stays = kept if kept < context else 0
                half = max((context - stays) // 2, 1)
                read = [*(read if len(read) < context else read[:stays] + read[stays + half :]), n]
                found = window(list(range(1, n + 1)), context, kept)
                assert found == read
                assert found[-1] == n
                assert len(found) <= context


def test_what_begins_a_text_stays() -> None:
    tok = from_ranks({bytes([i]): i for i in range(256)}, special_tokens={"<s>": 256})
    around = post_processor.make((256,), (), [*map(str, range(256)), "<s>"])
    tok = type(tok)(tok.tokens, tok.document | {"post_processor": around})
    model = replace(build("llama", dtype=np.float64, vocab_size=257), tokenizer=tok)
    read, written = [256, *b"abc"], list[int]()
    for _ in range(40):
        written.append(int(model.forward(read)[0][-1].argmax()))
        read = [*(read if len(read) < 16 else [256, *read[1 + 15 // 2 :]]), written[-1]]
    *_, last = pieces = list(texts_of(model, "abc", limit=40))
    assert [t.id for piece in pieces for t in piece.tokens] == written
    assert last.finish_reason == "length"


def texts_of(model: Model, prompt: str, **options: Any) -> Any:
    from octavo.generate import pieces

    return pieces(model, prompt, temperature=0, slide=True, **options)


def test_a_memory_serves_a_text_that_slides() -> None:
    model, memory = build("llama", dtype=np.float64), Memory()
    options: dict[str, Any] = {"temperature": 0, "slide": True, "limit": 9}
    for length in (3, 9, 14, 20, 21, 60):
        found = [t.id for t in octavo.tokens(model, PROMPT[:length], memory=memory, **options)]
        assert found == [t.id for t in octavo.tokens(model, PROMPT[:length], **options)]
        assert len(memory.ids) <= 16


def test_a_recurrent_model_has_nothing_to_slide() -> None:
    options: dict[str, Any] = {"limit": 50, "seed": 0}
    found = [list(octavo.tokens(build("gru"), [1], slide=slide, **options)) for slide in (False, True)]
    assert found[0] == found[1]


# ---------------------------------------------------------------- enforced


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_are_not_let_past_their_context(name: str) -> None:
    model = build(name)
    context = model.context or 0
    assert len(list(octavo.tokens(model, [1] * 3, limit=context - 2, seed=0))) == context - 2
    for prompt, limit in ((3, context - 1), (context, 2), (context + 1, 0), (context + 1, 1)):
        with pytest.raises(
            OctavoError, match=rf"do not fit into the model's context of {context} tokens: .*slide"
        ):
            octavo.tokens(model, [1] * prompt, limit=limit)
    assert len(list(octavo.tokens(model, [1] * context, limit=1, seed=0))) == 1


@pytest.mark.parametrize(("length", "expected"), [(3, 57), (40, 21), (60, 1)])
def test_the_default_limit_stays_within_the_context(length: int, expected: int) -> None:
    model = build("llama", max_position_embeddings=60)
    plan = texts.planned(model, length, None, (), {})
    assert plan.limit == expected
    assert texts.planned(build("plain", context=60), length, None, (), {}).limit == max(60 - length, 32)
    with pytest.raises(OctavoError, match="61 tokens"):
        octavo.generate(model, "a" * 61)
    assert octavo.generate(model, "a" * 61, seed=0, slide=True)


def test_a_conversation_slides_on_request() -> None:
    model = made(context=140)
    talk = Conversation(model)
    for turn in range(3):
        pieces = list(talk.say("hello " * 9, limit=60, seed=turn, slide=True))
        assert pieces[-1].finish_reason is not None
        assert not talk.full
    assert len(talk.messages) == 6
    with pytest.raises(OctavoError, match="begin anew"):
        talk.say("again", limit=5)
    assert talk.messages[-1] != user("again")


# ---------------------------------------------------------------- caches


def test_a_memory_in_another_dtype_is_read_anew() -> None:
    model, memory = build("llama"), Memory()
    for cache in ("float16", "float32", None, "float16"):
        list(octavo.tokens(model, [1, 2, 3], limit=4, seed=0, memory=memory, cache=cache))
        assert cache is None or memory.state.keys[0].dtype == cache
    with pytest.raises(OctavoError, match="has no cache to keep in float16"):
        octavo.generate(build("gru"), "a", limit=1, cache="float16")
    with pytest.raises(OctavoError, match="float32 or float16, not 'int8'"):
        octavo.generate(build("plain"), "a", limit=1, cache="int8")
