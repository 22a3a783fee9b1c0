"""Many sequences together: each is what it is alone, whoever joins and leaves."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import octavo
from octavo import OctavoError, batched, completions, fast, twins
from octavo.batched import Batch, Row
from octavo.completions import Request
from octavo.fast import code, picks
from octavo.generate import pieces
from octavo.model import Model
from octavo.sample import Sampling

from .conftest import ALPHABET, V, build

NAMES = ["rnn", "gru-before", "lstm", "mixed", "plain", "prenorm-wide", "folio", "llama-tied"]
NAMES += ["qwen3", "gemma3", "mistral", "gpt2"]
PROMPTS = np.random.default_rng(5).integers(0, V, 60).tolist()


def asked(count: int = 9) -> list[dict[str, Any]]:
    """Prompts of different lengths, some of which begin alike, each with its own options."""
    options: list[dict[str, Any]] = [
        {"temperature": 0},
        {"seed": 1},
        {"seed": 2, "top_k": 4, "temperature": 0.7},
        {"seed": 3, "top_p": 0.7, "repetition_penalty": 1.3},
        {"seed": 4, "min_p": 0.1, "logit_bias": {2: -np.inf}},
    ]
    lengths, limits = [4, 1, 7, 9, 4, 2, 9, 6, 3], [5, 9, 1, 3, 12, 7, 2, 4, 0]
    starts = [0, 3, 0, 0, 0, 11, 0, 20, 8]
    return [
        {
            "ids": PROMPTS[start : start + length],
            "limit": limit,
            "stop": [6] if i % 3 == 2 else [],
            **options[i % len(options)],
        }
        for i, (start, length, limit) in enumerate(zip(starts, lengths, limits, strict=True))
    ][:count]


def together(model: Model, wanted: list[dict[str, Any]], size: int, **how: Any) -> list[list[octavo.Token]]:
    """The tokens of each, so many at a time."""
    batch, rows, found = Batch(model, **how), dict[Row, int](), [list[octavo.Token]() for _ in wanted]
    waiting = list(enumerate(wanted))
    while waiting or len(batch):
        while waiting and len(batch) < size:
            number, options = waiting.pop(0)
            ids, limit, stop = options["ids"], options["limit"], options["stop"]
            sampling = {n: v for n, v in options.items() if n not in ("ids", "limit", "stop")}
            rows[batch.join(ids, Sampling(**sampling), limit=limit, stop=stop)] = number
        for row, token in batch.draw():
            if token.id not in row.stop:
                found[rows[row]].append(token)
    return found


def alone(model: Model, options: dict[str, Any], **how: Any) -> list[octavo.Token]:
    rest = {n: v for n, v in options.items() if n != "ids"}
    return list(octavo.tokens(model, options["ids"], **rest, **how))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_each_is_what_it_is_alone(name: str, size: int) -> None:
    model = build(name, dtype=np.float64)  # in which a batch adds up as a row does, but for rounding
    wanted = asked()
    for found, options in zip(together(model, wanted, size), wanted, strict=True):
        expected = alone(model, options)
        assert [t.id for t in found] == [t.id for t in expected]
        np.testing.assert_allclose([t.logprob for t in found], [t.logprob for t in expected], atol=1e-9)


@pytest.mark.parametrize("name", ["plain", "folio", "llama-tied", "gpt2"])
def test_each_slides_as_it_does_alone(name: str) -> None:
    sizes = {"n_positions": 16} if name == "gpt2" else {}
    model = build(name, dtype=np.float64, **sizes)
    wanted = [{**one, "limit": one["limit"] * 5} for one in asked()]
    for found, options in zip(together(model, wanted, 3, slide=True), wanted, strict=True):
        assert [t.id for t in found] == [t.id for t in alone(model, options, slide=True)]


def test_a_cache_in_half_precision_is_each_one_s() -> None:
    model, wanted = build("llama-tied", dtype=np.float64), asked()
    batch = Batch(model, cache="float16")
    batch.join([1, 2, 3], Sampling(), limit=3)
    batch.draw()
    assert batch.state.keys[0].dtype == np.float16
    for found, options in zip(together(model, wanted, 3, cache="float16"), wanted, strict=True):
        assert [t.id for t in found] == [t.id for t in alone(model, options, cache="float16")]


@pytest.mark.parametrize("name", ["gru", "plain"])
def test_jax_parameters_write_the_same(name: str) -> None:
    model, wanted = build(name), asked(3)
    on_jax = model.with_params(jax.device_put(model.params))
    for found, options in zip(together(on_jax, wanted, 2), wanted, strict=True):
        assert [t.id for t in found] == [t.id for t in alone(model, options)]


@pytest.mark.parametrize(("name", "equations"), [("gru", 0), ("mixed", 11)])
def test_twins_draw_from_when_they_are_loaded(
    name: str, equations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once where steps are compiled; else in the middle, with the token for which loading them pays."""
    model, wanted = build(name), asked()
    steps, draws = list[int](), [0, 0]  # rows of each compiled step; draws by NumPy, by twins
    call, pick, twin = fast.Compiled.__call__, Sampling.pick, picks.Draw.__call__
    expected = [alone(model, options) for options in wanted]

    def counted(which: int, pick: Any) -> Any:
        def run(*args: Any) -> Any:
            draws[which] += 1
            return pick(*args)

        return run

    def counted_call(step: Any, tokens: Any, state: Any) -> Any:
        steps.append(len(tokens))
        return call(step, tokens, state)

    for name_of_code in ("draw", "write"):  # so that they are kept
        code.function(name_of_code)
    monkeypatch.setattr(fast.Compiled, "__call__", counted_call)
    monkeypatch.setattr(Sampling, "pick", counted(0, pick))
    monkeypatch.setattr(picks.Draw, "__call__", counted(1, twin))
    monkeypatch.setattr(twins.Hurry, "done", 0)
    monkeypatch.setattr(twins, "LOADING_PAYS", 12 * sum(p.size for p in model.params.values()))
    found = together(model, wanted, 3)
    assert draws[0] == equations
    assert draws[1] > 20
    assert (max(steps, default=0) > 1) == (name == "gru")
    for tokens, before in zip(found, expected, strict=True):
        assert [t.id for t in tokens] == [t.id for t in before]


class Counter:
    """Counts what an architecture's forward reads: the shape of each call."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shapes: list[tuple[int, ...]] = []
        forward = model.architecture.forward

        def counted(p: Any, c: Any, tokens: Any, state: Any = None) -> Any:
            self.shapes.append(tuple(tokens.shape))
            return forward(p, c, tokens, state)

        monkeypatch.setattr(model.architecture, "forward", counted)
        monkeypatch.setattr(fast, "compiled", lambda model: None)


@pytest.mark.parametrize("name", ["gru", "llama-tied"])
def test_one_prompt_many_times_is_read_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name)
    calls = Counter(model, monkeypatch)
    wanted = [{"ids": PROMPTS[:8], "limit": 3, "stop": [], "seed": seed} for seed in range(5)]
    found = together(model, wanted, 5)
    assert calls.shapes == [(1, 7), (5, 1), (5, 1), (5, 1)]
    assert len({tuple(t.id for t in tokens) for tokens in found}) > 1


def test_what_prompts_begin_with_alike_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("plain")
    calls, batch = Counter(model, monkeypatch), Batch(model)
    for ids in ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 9, 9, 9], [1, 2, 3], [7]):
        batch.join(ids, Sampling(temperature=0), limit=2)
    assert calls.shapes == [(1, 5), (1, 2)]  # 1 2 3 4 5, then 9 9; the others' beginnings are known


def test_rows_that_have_ended_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("plain")
    calls = Counter(model, monkeypatch)
    wanted = [{"ids": [1], "limit": limit, "stop": [], "seed": 0} for limit in (2, 5, 1, 3)]
    together(model, wanted, 4)
    assert [batch for batch, _ in calls.shapes] == [4, 3, 2, 1, 1]


def test_a_row_may_leave_and_another_join_at_any_time() -> None:
    model, batch = build("lstm", dtype=np.float64), Batch(build("lstm", dtype=np.float64))
    first = batch.join([1, 2], Sampling(seed=1), limit=50)
    second = batch.join([3], Sampling(seed=2), limit=50)
    kept = [token.id for _ in range(4) for row, token in batch.draw() if row is second]
    batch.leave(first)
    assert len(batch) == 1
    third = batch.join([4, 5, 6], Sampling(seed=3), limit=50)
    never = batch.join([4, 5, 6], Sampling(seed=3), limit=50)
    batch.leave(never)
    new: list[int] = []
    for _ in range(3):
        for row, token in batch.draw():
            (kept if row is second else new).append(token.id)
            assert row in (second, third)
    assert kept == [t.id for t in octavo.tokens(model, [3], seed=2, limit=7)]
    assert new == [t.id for t in octavo.tokens(model, [4, 5, 6], seed=3, limit=3)]
    batch.leave(second)
    batch.leave(third)
    assert (len(batch), batch.draw()) == (0, [])


def test_the_cache_grows_by_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "FIRST_ROOM", 5)
    model, batch = build("plain", context=4000), Batch(build("plain", context=4000))
    batch.join([1, 2, 3], Sampling(seed=0), limit=30)
    batch.draw()
    assert batch.state.room <= 8
    for _ in range(20):
        batch.draw()
    assert 23 <= batch.state.room < 64
    assert model.init_state(1).room == 4000


def test_a_refused_prompt_leaves_the_others_as_they_were() -> None:
    model, batch = build("llama"), Batch(build("llama"))
    row = batch.join([1, 2], Sampling(seed=0), limit=9)
    for ids, limit, named in (([], 1, "empty"), ([99], 1, "outside"), ([1], 99, "context of 16")):
        with pytest.raises(OctavoError, match=named):
            batch.join(ids, Sampling(), limit=limit)
    found = [token.id for _ in range(9) for other, token in batch.draw() if other is row]
    assert found == [t.id for t in octavo.tokens(model, [1, 2], seed=0, limit=9)]


def test_one_warning_however_many_outgrow_the_context() -> None:
    with pytest.warns(UserWarning, match="longer than the 16 tokens") as caught:
        octavo.generate(build("plain"), ["a" * 20, "b" * 9, "c" * 30, "d"], limit=12, seed=0)
    assert len(caught) == 1
    octavo.generate(build("plain"), ["a" * 20, "b" * 9], limit=12, seed=0, slide=True)
    octavo.generate(build("plain"), ["a" * 4, "b" * 9], limit=7, seed=0)


def test_a_batch_has_room_for_what_is_asked() -> None:
    batch = Batch(build("llama"))
    batch.join(PROMPTS[:4], Sampling(), limit=5)
    batch.join(PROMPTS[:3], Sampling(), limit=3)
    batch.draw()
    assert batch.state.room == 4 + 5 - 1  # the last token is read by nobody


def test_a_batch_holds_what_it_reads_once(peak_memory: Callable[[Callable[[], Any]], int]) -> None:
    model, rows, length, limit = (
        build("llama-wide", head_dim=256, num_hidden_layers=8, max_position_embeddings=64),
        8,
        8,
        40,
    )
    slot = sum(x.nbytes for part in model.init_state(1, 1)[:2] for x in part)
    wanted: list[dict[str, Any]] = [
        {"ids": PROMPTS[i : i + length], "limit": limit, "stop": (), "temperature": 0} for i in range(rows)
    ]
    together(model, wanted[:1], 1)  # whatever is made once
    assert peak_memory(lambda: together(model, wanted, rows)) < 1.4 * slot * rows * (length + limit)


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize("name", ["gru", "plain", "llama-tied"])
def test_texts_come_in_order_and_are_those_alone(name: str) -> None:
    model = build(name, dtype=np.float64)
    text = octavo.generate(model, "b", limit=12, seed=4)
    requests = [
        Request("abc", 9, (), {"seed": 1}),
        Request("b", 12, (text[3:5],), {"seed": 4}),
        Request("kj", 2, "a", {"temperature": 0}),
        Request([3, 4, 5], 0),
        Request("b", 11, [ALPHABET.index(text[6])], {"seed": 4}),
        Request("hhhh", 1, (), {"seed": 2, "top_k": 1}),
    ]
    for size in (1, 3, 16):
        for request, found in zip(
            requests, completions.completions(model, requests, batch=size), strict=True
        ):
            prompt = request.prompt if isinstance(request.prompt, str) else "def"
            *_, last = alone_pieces = list(
                pieces(model, prompt, limit=request.limit, stop=request.stop, **request.options)
            )
            assert found.text == "".join(piece.text for piece in alone_pieces)
            assert found.finish_reason == last.finish_reason
            assert found.prompt_tokens == len(prompt)
            assert [t.id for t in found.tokens] == [t.id for p in alone_pieces for t in p.tokens]


def test_generate_takes_a_list_and_gives_one() -> None:
    model = build("gru", dtype=np.float64)
    prompts = ["abc", "b", "kkjj", "abc"]
    expected = [octavo.generate(model, prompt, limit=8, seed=3) for prompt in prompts]
    assert octavo.generate(model, prompts, limit=8, seed=3) == expected
    assert octavo.generate(model, tuple(prompts), limit=8, seed=3, batch=2) == expected
    assert octavo.generate(model, []) == []
    assert len(set(octavo.generate(model, ["a"] * 4, limit=20))) > 1


def test_an_impossible_prompt_is_named_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("plain")
    calls = Counter(model, monkeypatch)
    for prompts, options, named in (
        (["a", "b", "aXb"], {}, "prompt 3: unknown character 'X'"),
        (["a", ""], {}, "prompt 2: the prompt is empty"),
        (["a"], {"lookup": True}, "lookup is for one text at a time"),
        (["a"], {"limit": -1}, "prompt 1: limit"),
        (["a"], {"batch": 0}, "batch is how many"),
        (["a"], {"temperature": -1}, "temperature"),
    ):
        with pytest.raises(OctavoError, match=named):
            octavo.generate(model, prompts, **options)  # type: ignore[call-overload]
    assert calls.shapes == []
    unlike = [Request("a", options={"slide": True}), Request("a")]
    with pytest.raises(OctavoError, match="prompt 2: its cache and slide are not those of the others"):
        completions.completions(model, unlike)
