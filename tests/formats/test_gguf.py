"""GGUF files: transformers' numbers, round trips to the bit, and everything that can be wrong."""

import io
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo import OctavoError, tokenizers
from octavo import models as architectures
from octavo.formats import gguf_file, gguf_rope, gguf_write
from octavo.formats.gguf_names import BY_TYPE
from octavo.model import Model
from octavo.models import qwen2, rotary
from octavo.quant import Quantized, quantise

from ..conftest import CONFIGS, GOLDEN, build, golden

MODELS = sorted(path.stem for path in (GOLDEN / "gguf").glob("*.gguf"))
UNTOLD = {"gemma3": {"query_pre_attn_scalar": 9}}  # GGUF leaves it to the reader, and published ones to 6
PLAINER: dict[str, dict[str, Any]] = {  # what of a config GGUF cannot tell, as it can be told
    "llama3": {"rope_scaling": CONFIGS["llama3"][1]["rope_scaling"] | {"high_freq_factor": 4.0}},
    "qwen3": {
        "use_sliding_window": False,
        "sliding_window": qwen2.Config.sliding_window,
        "max_window_layers": qwen2.Config.max_window_layers,
    },
    "gemma3": {"query_pre_attn_scalar": 4},
}
SHARED = [name for name, (kind, _) in CONFIGS.items() if kind in BY_TYPE and name != "mistral"]
models = pytest.mark.parametrize("name", MODELS)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(OctavoError) as caught:
        octavo.load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    return message


def raw(array: Any) -> bytes:
    """The bytes of a parameter as a file holds them."""
    return (array.blocks if isinstance(array, Quantized) else np.asarray(array)).tobytes()


@models
def test_a_model_of_another_writer_computes_what_transformers_does(name: str) -> None:
    model = octavo.load(GOLDEN / "gguf" / f"{name}.gguf", **UNTOLD.get(name, {}))
    expected = golden(f"huggingface/{name}/expected")
    np.testing.assert_allclose(model.forward(expected["ids"])[0], expected["logits"], rtol=1e-4, atol=1e-5)
    folder = octavo.load(GOLDEN / "huggingface" / name)
    assert set(model.params) == set(folder.params)
    for key, array in folder.params.items():
        np.testing.assert_allclose(model.params[key], array, atol=1e-6 if name == "gemma3" else 0)


@pytest.mark.parametrize("case", golden("converted"))
def test_a_folder_made_of_a_file_is_what_transformers_reads(case: str, tmp_path: Path) -> None:
    name, dtype = case.split(".")
    model = octavo.load(GOLDEN / "gguf" / f"{name}.gguf", **UNTOLD.get(name, {}))
    if dtype == "F16":
        octavo.save(model, tmp_path / "half.gguf", dtype="F16")
        model = octavo.load(tmp_path / "half.gguf")
    octavo.save(model, tmp_path / "folder")
    found = octavo.load(tmp_path / "folder").forward(golden(f"huggingface/{name}/expected")["ids"])[0]
    expected = golden("converted")[case].reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", SHARED)
def test_a_model_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model = build(name, **PLAINER.get(name, {}))
    octavo.save(model, tmp_path / "model.gguf")
    again = octavo.load(tmp_path / "model.gguf")
    assert again.model_type == model.model_type
    assert again.config == model.config
    rounded = {
        n for n in model.params if name.startswith("gemma3") and "norm" in n
    }  # 1 is added, and taken off
    exact = model.params.keys() - rounded
    assert {n: raw(again.params[n]) for n in exact} == {n: raw(model.params[n]) for n in exact}
    for n in rounded:
        np.testing.assert_allclose(again.params[n], model.params[n], atol=1e-6)
    octavo.save(again, tmp_path / "again.gguf")


@pytest.mark.parametrize("name", [*PLAINER, "mistral"])
def test_a_config_that_gguf_cannot_tell_is_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match=r"GGUF cannot tell (sliding|query)|is not how Llama 3"):
        octavo.save(build(name), tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


@models
def test_a_file_of_another_writer_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model = octavo.load(GOLDEN / "gguf" / f"{name}.gguf")
    octavo.save(model, tmp_path / "model.gguf")
    again = octavo.load(tmp_path / "model.gguf")
    assert again.config == model.config
    first, second = gguf_file.read(GOLDEN / "gguf" / f"{name}.gguf"), gguf_file.read(tmp_path / "model.gguf")
    assert {n: raw(p) for n, p in first.tensors.items()} == {n: raw(p) for n, p in second.tensors.items()}
    for key in first.metadata.keys() - {"general.name"}:
        assert first.metadata[key] == second.metadata[key]


SCALED = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA = {"vocab_size": 11, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 1}


def made(kind: str, **sizes: Any) -> Model:
    config = architectures.configure(kind, LLAMA | sizes)
    return Model(kind, config, architectures.initial_params(kind, config, np.random.default_rng(0)))


def test_the_scaling_of_llama_3_is_found_again(tmp_path: Path) -> None:
    scaling = rotary.scaling(SCALED | {"factor": 32.0, "original_max_position_embeddings": 8192})
    factors = golden("gguf/blocks")["llama3 factors"]
    np.testing.assert_allclose(gguf_rope.divisors(scaling, 64, 5e5), factors, rtol=1e-6)
    found = gguf_rope.scaling({}, "llama", factors, 64, 5e5)
    assert rotary.scaling(found) == scaling
    model = made(
        "llama", head_dim=32, rope_theta=100.0, rope_scaling=SCALED | {"original_max_position_embeddings": 64}
    )
    octavo.save(model, tmp_path / "model.gguf")
    again = octavo.load(tmp_path / "model.gguf")
    assert again.config == model.config
    np.testing.assert_array_equal(again.forward([1, 2, 3])[0], model.forward([1, 2, 3])[0])


def test_what_gguf_has_no_words_for_is_not_written(tmp_path: Path) -> None:
    window = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    odd = SCALED | {"high_freq_factor": 2.0, "original_max_position_embeddings": 64}
    for named, model in (
        ("is not how Llama 3", made("llama", head_dim=32, rope_scaling=odd, rope_theta=100.0)),
        ("sliding_window 4", made("mistral", sliding_window=4)),
        ("sliding_window 4", made("qwen2", **window, num_hidden_layers=2)),
        ("query_pre_attn_scalar 9", made("gemma3_text", query_pre_attn_scalar=9)),
    ):
        with pytest.raises(OctavoError, match=named):
            octavo.save(model, tmp_path / "model.gguf")
    octavo.save(made("mistral", sliding_window=None), tmp_path / "model.gguf")
    assert octavo.load(tmp_path / "model.gguf").model_type == "llama"
    octavo.save(made("qwen2", sliding_window=4, max_window_layers=1), tmp_path / "qwen2.gguf")


@pytest.mark.parametrize("dtype", gguf_write.DTYPES)
def test_every_format_comes_back_to_the_bit(dtype: str, tmp_path: Path) -> None:
    model = build("llama-tied", hidden_size=32, intermediate_size=64)
    octavo.save(model, tmp_path / "model.gguf", dtype=dtype)
    small = octavo.load(tmp_path / "model.gguf")
    for name, array in model.params.items():
        if array.ndim == 2 and dtype != "F32":
            assert small.params[name].format.name == dtype
            array = quantise(array, dtype)
        assert raw(small.params[name]) == raw(array), name
    octavo.save(small, tmp_path / "again" / "model.gguf")
    assert (tmp_path / "again" / "model.gguf").read_bytes() == (tmp_path / "model.gguf").read_bytes()
    octavo.save(small, tmp_path / "folder")
    wide = octavo.load(tmp_path / "folder")
    for name, array in small.params.items():
        np.testing.assert_array_equal(wide.params[name], np.asarray(array))


def test_formats_that_octavo_only_reads_are_kept_too(tmp_path: Path) -> None:
    model = build("gpt2", n_embd=256, n_head=4, n_layer=1)
    rng = np.random.default_rng(0)
    for name in ("Q2_K", "Q6_K"):
        w, format = model.params["h.0.attn.c_attn.weight"], gguf_file.FORMATS[name]
        blocks = rng.integers(0, 60, (768, format.record.itemsize), dtype=np.uint8).view(format.record)
        kept = model.with_params(model.params | {"h.0.attn.c_attn.weight": Quantized(blocks, format)})
        assert kept.params["h.0.attn.c_attn.weight"].shape == w.shape
        octavo.save(kept, tmp_path / f"{name}.gguf")
        again = octavo.load(tmp_path / f"{name}.gguf")
        assert raw(again.params["h.0.attn.c_attn.weight"]) == blocks.tobytes()


def test_rows_that_are_no_whole_blocks_are_halves(tmp_path: Path) -> None:
    octavo.save(build("llama", hidden_size=32, intermediate_size=48), tmp_path / "model.gguf", dtype="Q8_0")
    params = octavo.load(tmp_path / "model.gguf").params
    assert params["model.layers.0.mlp.down_proj.weight"].format.name == "F16"
    assert params["model.layers.0.mlp.up_proj.weight"].format.name == "Q8_0"


def test_a_template_and_the_tokens_that_frame_a_text_come_back(tmp_path: Path) -> None:
    model = build("llama", bos_token_id=3, eos_token_id=(1, 2))
    octavo.save(Model(model.model_type, model.config, model.params, None, "{{ x }}"), tmp_path / "m.gguf")
    again = octavo.load(tmp_path / "m.gguf")
    assert (again.chat_template, again.ends, again.config.bos_token_id) == ("{{ x }}", (1, 2), 3)
    assert again.tokenizer is None


def test_nothing_is_copied_but_queries_and_keys(tmp_path: Path, peak_memory: Callable[..., int]) -> None:
    model = build("llama", hidden_size=256, intermediate_size=1024, num_hidden_layers=2)
    octavo.save(model, tmp_path / "model.gguf", dtype="Q4_0")
    del model
    assert (tmp_path / "model.gguf").stat().st_size > 2**20
    octavo.load(tmp_path / "model.gguf")
    assert peak_memory(lambda: octavo.load(tmp_path / "model.gguf")) < 2**19


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match="no architecture gru"):
        octavo.save(build("gru"), tmp_path / "model.gguf")
    model = build("llama")
    with pytest.raises(OctavoError, match=r"holds F32, F16, .* not 'q8'"):
        octavo.save(model, tmp_path / "model.gguf", dtype="q8")
    with pytest.raises(OctavoError, match=r"a \.gguf file holds more"):
        octavo.save(model, tmp_path / "model", dtype="Q8_0")
    with pytest.raises(OctavoError, match="float64"):
        octavo.save(build("llama", dtype=np.float64), tmp_path / "model.gguf")
    model.params["lm_head.weight"][0, 0] = 1e6
    with pytest.raises(OctavoError, match=r"output.weight: F16 cannot hold"):
        octavo.save(model, tmp_path / "model.gguf", dtype="F16")
    model.params["lm_head.weight"][0, 0] = np.nan
    with pytest.raises(OctavoError, match="NaN"):
        octavo.save(model, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())
    (tmp_path / "model.gguf").write_text("here")
    with pytest.raises(OctavoError, match="exists already"):
        octavo.save(build("llama"), tmp_path / "model.gguf")
    with pytest.raises(OctavoError, match="cannot write"):
        octavo.save(build("llama"), tmp_path / "model.gguf" / "below.gguf")


# ---------------------------------------------------------------- the container


def container(metadata: dict[str, Any], tensors: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    gguf_file.write(file, metadata, tensors)
    return file.getvalue()


def test_metadata_of_every_type(tmp_path: Path) -> None:
    told: dict[str, Any] = {
        "flag": True,
        "whole": 7,
        "large": 2**40,
        "negative": -3,
        "number": 1e-05,
        "text": "naïve 🦉",
        "bytes": b"\xff\xfea".decode("utf-8", "surrogateescape"),
        "texts": ["", "a b", "\udcff", "cut \udce2\udc96"],
        "nothing": [],
        "flags": np.array([True, False]),
    }
    told |= {f"array {dtype}": np.arange(5).astype(dtype) for dtype in gguf_file.NUMBERS.values()}
    (tmp_path / "x").write_bytes(container(told, {"a": np.ones((2, 3, 4), np.float32)}))
    found = gguf_file.read(tmp_path / "x")
    assert set(found.metadata) == set(told)
    for key, value in told.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found.metadata[key], value)
            assert found.metadata[key].dtype == value.dtype
        else:
            assert found.metadata[key] == value
            assert type(found.metadata[key]) is type(value)
    assert found.tensors["a"].shape == (2, 3, 4)


def test_lists_of_numbers_are_as_narrow_as_other_readers_expect(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(container({"a": [1, -2], "b": [0.5, 2.0], "c": [2**40]}, {}))
    found = gguf_file.read(tmp_path / "x").metadata
    assert [found[key].dtype for key in "abc"] == [np.int32, np.float32, np.int64]
    assert [found[key].tolist() for key in "abc"] == [[1, -2], [0.5, 2.0], [2**40]]


def test_version_2_and_another_alignment(tmp_path: Path) -> None:
    data = container({"general.alignment": 32}, {"a": np.ones((2, 8), np.float32)})
    (tmp_path / "x").write_bytes(data.replace(b"GGUF\x03", b"GGUF\x02"))
    assert gguf_file.read(tmp_path / "x").tensors["a"].tolist() == np.ones((2, 8)).tolist()
    (tmp_path / "x").write_bytes(data.replace(struct.pack("<II", 4, 32), struct.pack("<II", 4, 8)))
    assert gguf_file.read(tmp_path / "x").tensors["a"].shape == (2, 8)


def entry(name: bytes, sizes: tuple[int, ...], code: int = 0, start: int = 0) -> bytes:
    head = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(sizes))
    return head + b"".join(struct.pack("<Q", n % 2**64) for n in sizes) + struct.pack("<IQ", code, start)


def file_of(entries: list[bytes], metadata: list[bytes] | None = None, room: int = 256) -> bytes:
    metadata = metadata or []
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(metadata)) + b"".join(metadata + entries)
    return head.ljust(-(-len(head) // 32) * 32, b"\0") + bytes(room)


def said(key: bytes, kind: int, content: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + content


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "damaged"),
        (b"GGUF", "cut short"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "entries of metadata"),
        (file_of([entry(b"a", (8,), start=2**63)]), "ends within a"),
        (file_of([entry(b"a", (65,))]), "ends within a"),
        (file_of([entry(b"a", (2**40, 2**40, 2**40))]), "cannot have the shape"),
        (file_of([entry(b"a", (0, 8))]), "cannot have the shape"),
        (file_of([entry(b"a", (-1, 8))]), "cannot have the shape"),
        (file_of([entry(b"a", (31, 2), 8)]), "in blocks of 32"),
        (file_of([entry(b"a", ())]), "has 0 axes"),
        (file_of([entry(b"a", (1,) * 5)]), "has 5 axes"),
        (file_of([entry(b"a", (8,), 16)]), "GGML's type 16"),
        (file_of([entry(b"a", (8,), start=8)]), "no multiple of 32"),
        (file_of([entry(b"a", (16,)), entry(b"b", (8,), start=32)]), "b and a overlap"),
        (file_of([entry(b"a", (8,)), entry(b"b", (8,))]), "overlap"),
        (file_of([entry(b"a", (8,)), entry(b"a", (8,), start=32)]), "2 tensors a"),
        (file_of([entry(b"a\nb", (8,))]), "the name 'a"),
        (file_of([entry(b"\xff", (8,))]), "the name"),
        (file_of([entry(b"", (8,))]), "the name ''"),
        (file_of([], [said(b"k", 99, bytes(8))]), "unknown type 99"),
        (file_of([], [said(b"k", 8, struct.pack("<Q", 2**62))]), "cut short"),
        (file_of([], [said(b"k", 9, struct.pack("<IQ", 8, 2**40))]), "strings in k"),
        (file_of([], [said(b"k", 9, struct.pack("<IQ", 8, 4) + struct.pack("<Q", 2**62))]), "cut short"),
        (file_of([], [said(b"k", 9, struct.pack("<IQ", 10, 2**61))]), "numbers in k"),
        (file_of([], [said(b"k", 9, struct.pack("<IQIQ", 9, 1, 4, 1) + bytes(4))]), "array of the type 9"),
        (file_of([], [said(b"k", 4, bytes(4))] * 2), "two entries k"),
        (file_of([], [said(b"general.alignment", 4, bytes(4))]), "general.alignment"),
        (file_of([], [said(b"general.alignment", 8, bytes(8))]), "general.alignment"),
        (file_of([]), "architecture None"),
        (file_of([], [said(b"general.architecture", 8, struct.pack("<Q", 4) + b"phi3")]), "'phi3'"),
        (file_of([], [said(b"general.architecture", 9, struct.pack("<IQ", 8, 0))]), "architecture []"),
    ],
)
def test_headers_that_lie_are_refused(data: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(data)
    assert named in refusal(tmp_path / "x.gguf")


def altered(name: str, change: Callable[[dict[str, Any], dict[str, Any]], Any], path: Path) -> Path:
    """A file of the golden ones with other metadata or tensors."""
    metadata, tensors = gguf_file.read(GOLDEN / "gguf" / f"{name}.gguf")
    tensors = dict(tensors)
    change(metadata, tensors)
    path.write_bytes(container(metadata, tensors))
    return path


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m, t: m.pop("llama.block_count"), "do not tell llama.block_count"),
        (lambda m, t: m.update({"llama.block_count": 10**6}), "num_hidden_layers"),
        (lambda m, t: m.update({"llama.block_count": "two"}), "num_hidden_layers"),
        (lambda m, t: m.update({"llama.attention.head_count": np.arange(2)}), "num_attention_heads"),
        (lambda m, t: m.update({"llama.attention.head_count": 0}), "num_attention_heads"),
        (lambda m, t: m.update({"llama.embedding_length": 8}), "has the shape"),
        (lambda m, t: m.update({"llama.rope.dimension_count": 2}), "only the width of a head"),
        (lambda m, t: m.update({"llama.attention.value_length": 2}), "only the width of a head"),
        (lambda m, t: m.update({"llama.expert_count": 8}), "llama.expert_count 8 is not known"),
        (lambda m, t: m.update({"split.count": 3}), "one of 3 files"),
        (lambda m, t: m.update({"tokenizer.chat_template": 3}), "tokenizer.chat_template is text"),
        (lambda m, t: m.update({"tokenizer.ggml.eos_token_id": -1}), "eos_token_id"),
        (lambda m, t: t.pop("blk.0.attn_q.weight"), "q_proj.weight (16, 16) is missing"),
        (lambda m, t: t.update({"blk.9.attn_q.weight": np.ones((4, 4))}), "is unexpected"),
        (lambda m, t: t.update({"rope_freqs.weight": np.array([7.0, 1.0])}), "rope"),
        (lambda m, t: t.update({"blk.0.attn_q.weight": np.ones(7)}), "has the shape (7,)"),
        (lambda m, t: t.update({"token_embd.weight": np.ones(7)}), ""),
        (lambda m, t: t.pop("token_embd.weight"), "vocab_size"),
        (lambda m, t: t.update({"output_norm.weight": np.full(16, np.nan)}), "NaN"),
    ],
)
def test_models_that_do_not_fit_together_are_refused(change: Any, named: str, tmp_path: Path) -> None:
    assert named in refusal(altered("llama", change, tmp_path / "x.gguf"))


@pytest.mark.parametrize(
    "odd", [np.arange(2), np.ones(2, np.float32), ["a", "b"], [], "", -1, 2**63 - 1, 0.5]
)
def test_a_value_of_metadata_that_is_another_kind_of_thing(odd: Any, tmp_path: Path) -> None:
    made = build(
        "llama3", tokenizer=tokenizers.train_bpe("the theatre", 260), vocab_size=260, **PLAINER["llama3"]
    )
    octavo.save(replace(made, chat_template="{{ messages }}"), tmp_path / "model.gguf")
    metadata, tensors = gguf_file.read(tmp_path / "model.gguf")
    metadata |= {"llama.rope.scaling.type": "none", "split.count": 1}
    for key in metadata:
        with open(tmp_path / "odd.gguf", "wb") as file:
            gguf_file.write(file, metadata | {key: odd}, tensors)
        opens_or_refuses((tmp_path / "odd.gguf").read_bytes(), tmp_path / "odd.gguf")


def test_what_is_switched_off_does_not_matter(tmp_path: Path) -> None:
    off = {"llama.expert_count": 0, "llama.rope.scaling.type": "none", "llama.use_parallel_residual": False}
    octavo.load(altered("llama", lambda m, t: m.update(off), tmp_path / "x.gguf"))


def test_a_copy_of_the_tied_head_is_left_out(tmp_path: Path) -> None:
    def copied(metadata: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors["output.weight"] = tensors["token_embd.weight"]

    def other(metadata: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors["output.weight"] = tensors["token_embd.weight"] + 1

    octavo.load(altered("gpt2", copied, tmp_path / "x.gguf"))
    assert "output.weight" in refusal(altered("gpt2", other, tmp_path / "y.gguf"))


def test_options_give_what_is_missing_and_contradict_nothing(tmp_path: Path) -> None:
    path = altered("llama", lambda m, t: m.pop("llama.context_length"), tmp_path / "x.gguf")
    assert octavo.load(path, max_position_embeddings=32).context == 32
    assert "contradicts" in refusal(path, max_position_embeddings=32, hidden_size=8)
    assert "of type llama, not gpt2" in refusal(GOLDEN / "gguf" / "llama.gguf", model_type="gpt2")


# ---------------------------------------------------------------- damaged files


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    octavo.save(build("llama", hidden_size=32, intermediate_size=32, num_hidden_layers=1), path, dtype="Q4_1")
    return path.read_bytes()


def opens_or_refuses(data: bytes, path: Path) -> None:
    """A model that computes, or one line; within a second either way."""
    path.unlink(missing_ok=True)  # a file that is mapped is not written over
    path.write_bytes(data)
    before = time.process_time()
    try:
        model = octavo.load(path)
        with np.errstate(all="ignore"):
            model.forward([0])
    except OctavoError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 1500
    assert time.process_time() - before < 1


def test_a_file_cut_anywhere_is_refused(whole: bytes, tmp_path: Path) -> None:
    end = len(whole) - 31  # the last bytes only fill up
    for keep in [*range(0, 1200, 13), *range(1200, end, 1709), end - 33]:
        (tmp_path / "x.gguf").write_bytes(whole[:keep])
        refusal(tmp_path / "x.gguf")


SPECIAL = (0, 1, 2, 8, 9, 31, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_numbers_in_the_header_that_are_replaced(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    mutated = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(4, 2400))
        form = data.draw(st.sampled_from(["<B", "<I", "<Q"]))
        value = data.draw(st.sampled_from(SPECIAL) | st.integers(0, 300)) % 2 ** (8 * struct.calcsize(form))
        struct.pack_into(form, mutated, place, value)
    opens_or_refuses(bytes(mutated), tmp_path_factory.getbasetemp() / "mutated.gguf")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_parts_that_are_left_out_repeated_or_swapped(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    start, end = sorted(data.draw(st.tuples(st.integers(0, 2400), st.integers(0, 2400))))
    part, at = whole[start:end], data.draw(st.integers(0, 2400))
    kept = data.draw(st.sampled_from([whole, whole[:start] + whole[end:]]))
    opens_or_refuses(kept[:at] + part + kept[at:], tmp_path_factory.getbasetemp() / "swapped.gguf")


@given(
    st.lists(
        st.one_of(
            st.text("a\u0120\u20ac", min_size=1, max_size=6).map(str.encode),
            st.binary(max_size=9),
            st.text("\0\1", max_size=9).map(str.encode),
            st.integers(250, 70_000).map(lambda n: b"x" * n),
        ),
        max_size=8,
    ),
    st.sampled_from([b"", bytes(30), b"abc" * 9]),
)
@settings(deadline=None)
def test_texts_are_read_at_once_as_they_are_one_by_one(texts: list[bytes], rest: bytes) -> None:
    content = b"".join(struct.pack("<Q", len(text)) + text for text in texts) + rest
    expected = [text.decode("utf-8", "surrogateescape") for text in texts]
    for read in (gguf_file._Reader.texts, gguf_file._Reader.texts_at_once):
        reader = gguf_file._Reader(content)  # type: ignore[arg-type]
        found = read(reader, len(texts))
        if found is None:
            assert reader.place == 0
        else:
            assert (found, reader.place) == (expected, len(content) - len(rest))


def test_an_ordinary_vocabulary_is_read_at_once() -> None:
    texts = ["a", "\u0120the", "x" * 255, "y" * 300, "\u20ac" * 100, *map(str, range(999))]
    content = b"".join(struct.pack("<Q", len(text.encode())) + text.encode() for text in texts)
    reader = gguf_file._Reader(content + b"rest" * 9)  # type: ignore[arg-type]
    assert reader.texts_at_once(len(texts)) == texts
    for damaged in (content[:-1], content[:-9], content[:7]):
        reader = gguf_file._Reader(damaged)  # type: ignore[arg-type]
        assert reader.texts_at_once(len(texts)) is None
        with pytest.raises(OctavoError, match="cut short"):
            reader.texts(len(texts))
