"""Programs where they are used: writing, scoring, batches, guesses; and what happens without LLVM."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import fast, models
from octavo.batched import Batch
from octavo.model import Model
from octavo.quant import quantise, widened
from octavo.sample import Sampling
from octavo.tokenizers.chars import Char

from ..conftest import ALPHABET, CONFIGS


@pytest.fixture(scope="module")
def small() -> Model:
    """A Llama whose matrices are in blocks."""
    config = CONFIGS["llama"][1] | {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
    made = models.architecture("llama").Config(**config | {"max_position_embeddings": 512, "bos_token_id": 0})
    rng = np.random.default_rng(4)
    params = {
        name: rng.normal(size=shape, scale=0.3).astype(np.float32) + (len(shape) == 1)
        for name, shape in models.architecture("llama").shapes(made).items()
    }
    blocks: dict[str, Any] = {n: quantise(p, "Q8_0") if p.ndim == 2 else p for n, p in params.items()}
    return Model("llama", made, blocks, Char(ALPHABET))


def test_a_text_is_that_of_the_widened_model(small: Model) -> None:
    plain = small.with_params(widened(small.params))
    assert fast.pays(small)
    assert not fast.pays(plain)
    for options in ({"temperature": 0}, {"seed": 3}, {"seed": 1, "top_k": 4, "repetition_penalty": 1.2}):
        found = list(octavo.tokens(small, [1, 2, 3], limit=40, **options))
        expected = list(octavo.tokens(plain, [1, 2, 3], limit=40, **options))
        assert [t.id for t in found] == [t.id for t in expected]
        np.testing.assert_allclose([t.logprob for t in found], [t.logprob for t in expected], atol=1e-4)


def test_a_score_is_that_of_the_widened_model(small: Model) -> None:
    text = "".join(np.random.default_rng(0).choice(list(ALPHABET), 1100))
    plain = small.with_params(widened(small.params))
    for protocol in ("strided", "rolling", "chunked"):
        options: Any = {"protocol": protocol}
        assert octavo.score(small, text, **options).nats == pytest.approx(
            octavo.score(plain, text, **options).nats, rel=1e-5
        )


def test_company_threads_and_guesses_change_no_bit_of_what_is_written(small: Model) -> None:
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 1, 2], [1, 2]]
    alone = [list(octavo.tokens(small, ids, limit=30, seed=i)) for i, ids in enumerate(prompts)]
    one_thread = Model(small.model_type, small.config, small.params, small.tokenizer, threads=1)
    for i, ids in enumerate(prompts):
        assert list(octavo.tokens(one_thread, ids, limit=30, seed=i)) == alone[i]
        assert list(octavo.tokens(small, ids, limit=30, seed=i, lookup=True)) == alone[i]
    batch = Batch(small)
    rows = [batch.join(ids, Sampling(seed=i), limit=30) for i, ids in enumerate(prompts)]
    found: list[list[Any]] = [[] for _ in prompts]
    while len(batch):
        for row, token in batch.draw():
            found[rows.index(row)].append(token)
    assert found == alone  # logarithms of probabilities too, to the last bit


WRITE = """
import sys
{}
import numpy as np, octavo
from octavo.quant import quantise
model = octavo.load("bard", quantize="q8")
print([t.id for t in octavo.tokens(model, [1, 2, 3], limit=12, temperature=0)])
"""


def test_without_llvm_the_equations_write_from_blocks_too() -> None:
    def run(first: str) -> str:
        found = subprocess.run([sys.executable, "-c", WRITE.format(first)], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return found.stdout

    assert run("sys.modules['llvmlite'] = None") == run("")


def test_as_many_threads_as_asked_or_as_there_are() -> None:
    assert fast.threads(3) == 3
    assert fast.threads(None) >= 1
    assert fast.threads(10**6) == fast.MOST_THREADS
