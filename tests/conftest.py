"""Shared by all tests: small models of every architecture, golden files, and where the corpora are."""

import atexit
import mmap
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo import models, tokenizers
from octavo.model import Model
from octavo.tokenizers import post_processor, published

QUICK = ("xla_cpu_use_fusion_emitters=false", "xla_cpu_parallel_codegen_split_count=1")


def quick_flags() -> str:
    """What has XLA compile in a third of the time, of the flags that this XLA has: one unknown ends it."""
    spec = find_spec("jaxlib")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    for file in folder.glob("libjax_common.*"):
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return " ".join(f"--{flag}" for flag in QUICK if content.find(flag.split("=")[0].encode()) >= 0)
    return ""


os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # small models: compiling takes all the time
if "XLA_FLAGS" not in os.environ:  # the workers of a run are told by the first process
    os.environ["XLA_FLAGS"] = quick_flags()
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled = tempfile.mkdtemp(prefix="octavo-tests-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

GOLDEN = Path(__file__).parent / "golden"
collect_ignore_glob = ["golden/make_*.py"]  # they need the peers that made the numbers

ALPHABET = "abcdefghijk"
V = len(ALPHABET)


def _stack(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"vocab_size": V, "layers": layers}


RNN, GRU, LSTM = ({"kind": kind, "units": 6} for kind in ("rnn", "gru", "lstm"))
DENSE = {"kind": "dense", "units": V}
WIDTHS = {"vocab_size": V, "d_model": 8, "n_layers": 2, "d_ff": 12, "context": 16}
PUBLISHED_WIDTHS = {
    "vocab_size": V,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "max_position_embeddings": 16,
}

GROUPED = {**PUBLISHED_WIDTHS, "num_attention_heads": 4, "num_key_value_heads": 2}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("rnn", _stack(RNN, {"kind": "rnn", "units": 4}, DENSE)),
    "rnn-bare": ("rnn", _stack({**RNN, "use_bias": False}, {**DENSE, "use_bias": False})),
    "gru": ("gru", _stack(GRU, GRU, DENSE)),
    "gru-before": ("gru", _stack({**GRU, "reset_after": False}, DENSE)),
    "gru-bare": ("gru", _stack({**GRU, "use_bias": False}, DENSE)),
    "lstm": ("lstm", _stack(LSTM, LSTM, DENSE)),
    "lstm-bare": ("lstm", _stack({**LSTM, "use_bias": False}, DENSE)),
    "mixed": (
        "gru",
        _stack(
            {"kind": "embedding", "units": 5},
            {"kind": "dense", "units": 7, "activation": "relu"},
            {**LSTM, "activation": "relu", "recurrent_activation": "hard_sigmoid"},
            {"kind": "activation", "activation": "tanh"},
            GRU,
            RNN,
            {"kind": "dense", "units": 9, "activation": "gelu_tanh"},
            DENSE,
        ),
    ),
    "headless": ("rnn", _stack({**RNN, "units": V})),  # its recurrent layer gives the logits
    "plain": ("plain", {**WIDTHS, "n_heads": 2}),
    "prenorm": ("prenorm", {**WIDTHS, "n_heads": 4}),
    "prenorm-wide": ("prenorm", {**WIDTHS, "n_heads": 3, "d_head": 5}),
    "folio": ("folio", {**WIDTHS, "n_heads": 2, "window": 5}),
    "folio-hashed": (
        "folio",
        {**WIDTHS, "n_heads": 4, "window": 2, "bigrams": 50, "trigrams": 60, "taps": 3},
    ),
    "folio-wide": ("folio", {**WIDTHS, "n_heads": 1, "window": 64, "taps": 1}),  # sees more than its context
    "llama": ("llama", {**PUBLISHED_WIDTHS, "num_attention_heads": 2}),
    "llama-tied": (
        "llama",
        {
            **PUBLISHED_WIDTHS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
            "rope_theta": 100,
        },
    ),
    "llama-wide": (
        "llama",
        {**PUBLISHED_WIDTHS, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 6},
    ),
    "llama3": (
        "llama",
        {
            **PUBLISHED_WIDTHS,
            "num_attention_heads": 2,
            "rope_theta": 100,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 2.0,
                "original_max_position_embeddings": 8,
            },
        },
    ),
    "mistral": ("mistral", {**GROUPED, "sliding_window": 5}),
    "qwen2": ("qwen2", GROUPED),
    "qwen3": (
        "qwen3",
        {**GROUPED, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1, "head_dim": 6},
    ),
    "gemma3": (
        "gemma3_text",
        {**GROUPED, "num_hidden_layers": 3, "head_dim": 4, "sliding_window": 4, "sliding_window_pattern": 2},
    ),
    "gemma3-capped": (
        "gemma3_text",
        {**GROUPED, "sliding_window": 20, "final_logit_softcapping": 5.0, "tie_word_embeddings": False},
    ),
    "olmo2": ("olmo2", GROUPED),
    # its text ends where the learned positions do, so there are more of them than the context of the others
    "gpt2": ("gpt2", {"vocab_size": V, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 48}),
    "gpt2-narrow": (
        "gpt2",
        {"vocab_size": V, "n_embd": 8, "n_layer": 1, "n_head": 4, "n_inner": 12, "n_positions": 48},
    ),
}
"""A model type and a config of every architecture, small, with what its fields allow."""


def build(name: str, *, seed: int = 0, dtype: Any = np.float32, tokenizer: Any = None, **sizes: Any) -> Model:
    """A small model with random weights, none of them zero; `sizes` override its config."""
    model_type, options = CONFIGS[name]
    config = models.configure(model_type, options | sizes)
    module = models.architecture(model_type)
    rng = np.random.default_rng(seed)
    params = {
        parameter: (
            module.initial(config, parameter, shape, rng)
            if parameter in module.FIXED
            else 0.5 * rng.standard_normal(shape)
        ).astype(dtype)
        for parameter, shape in module.shapes(config).items()
    }
    return Model(model_type, config, params, tokenizer or tokenizers.char(ALPHABET))


def begun(tokenizer: published.ByteLevelBPE, id: int) -> published.ByteLevelBPE:
    """The tokenizer with a token that its model expects before a text."""
    names = [tokenizer.token_bytes(i).decode("latin-1") for i in range(len(tokenizer))]
    around = post_processor.make((id,), (), names)
    return replace(tokenizer, document=tokenizer.document | {"post_processor": around})


def golden(name: str) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a golden file."""
    with np.load(GOLDEN / f"{name}.npz") as archive:
        return dict(archive)


@pytest.fixture
def peak_memory() -> Callable[[Callable[[], Any]], int]:
    """Calls a function, returns the most bytes that Python and NumPy held more than before."""

    def measure(function: Callable[[], Any]) -> int:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            function()
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    return measure


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of corpora, or a skip that says where it was looked for."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "corpora"
    if not folder.is_dir():
        pytest.skip("no corpora: there is no folder ../shared/corpora beside the repository")
    return folder
