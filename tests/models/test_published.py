"""Published families: against transformers (tests/golden/make_transformers.py), and other people's files."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import octavo
from octavo import Model, OctavoError, models, recipe
from octavo.tokenizers import char, from_ranks

from ..conftest import ALPHABET, GOLDEN, V, build

HUGGINGFACE = GOLDEN / "huggingface"
NAMES = sorted(path.name for path in HUGGINGFACE.iterdir())
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 2.0,
    "original_max_position_embeddings": 8,
}
every = pytest.mark.parametrize("name", NAMES)
SPECIAL = from_ranks({bytes([i]): i for i in range(256)}, special_tokens={"<|endoftext|>": 256})


def expected(name: str) -> dict[str, Any]:
    with np.load(HUGGINGFACE / name / "expected.npz") as archive:
        return dict(archive)


# ---------------------------------------------------------------- against transformers


def test_there_is_a_checkpoint_of_every_kind() -> None:
    kinds = {octavo.load(HUGGINGFACE / name).model_type for name in NAMES}
    assert kinds == {name for name, module in models.ARCHITECTURES.items() if hasattr(module, "PUBLISHED")}
    assert len(NAMES) == 18


@every
def test_the_logits_are_those_of_transformers(name: str) -> None:
    model, e = octavo.load(HUGGINGFACE / name), expected(name)
    logits, _ = model.forward(e["ids"])
    assert logits.dtype == e["logits"].dtype == np.float32
    np.testing.assert_allclose(logits, e["logits"], rtol=1e-4, atol=1e-5)


@every
def test_the_logits_with_a_cache_are_those_of_transformers(name: str) -> None:
    model, e = octavo.load(HUGGINGFACE / name), expected(name)
    found, state = model.forward(e["ids"][:, :5])
    steps = [found]
    for t in range(5, e["ids"].shape[1]):
        found, state = model.forward(e["ids"][:, t : t + 1], state)
        steps.append(found)
    np.testing.assert_allclose(np.concatenate(steps, 1), e["cached"], rtol=1e-4, atol=1e-5)


@every
def test_the_logits_of_jax_are_those_of_transformers(name: str) -> None:
    model, e = octavo.load(HUGGINGFACE / name), expected(name)
    logits = jax.jit(lambda p, x: model.with_params(p).forward(x)[0])(model.params, e["ids"])
    np.testing.assert_allclose(logits, e["logits"], rtol=1e-4, atol=1e-5)


@every
def test_a_checkpoint_is_written_tensor_for_tensor_as_transformers_wrote_it(
    name: str, tmp_path: Path
) -> None:
    octavo.save(octavo.load(HUGGINGFACE / name), tmp_path / "model")
    theirs = load_file(HUGGINGFACE / name / "model.safetensors")
    text = "language_model."  # of a model that sees pictures too, we keep the part that writes
    theirs = {n.replace(text, ""): a for n, a in theirs.items() if name != "gemma3-pictures" or text in n}
    ours = load_file(tmp_path / "model" / "model.safetensors")
    assert {n: (a.shape, a.dtype) for n, a in ours.items()} == {
        n: (a.shape, a.dtype) for n, a in theirs.items()
    }
    for tensor, value in theirs.items():
        np.testing.assert_array_equal(ours[tensor], value)
    header = (tmp_path / "model" / "model.safetensors").read_bytes()[:200]
    assert b'"__metadata__":{"format":"pt"}' in header  # transformers 4 opens nothing else


@every
def test_the_config_says_what_transformers_wrote(name: str, tmp_path: Path) -> None:
    octavo.save(octavo.load(HUGGINGFACE / name), tmp_path / "model")
    theirs = json.loads((HUGGINGFACE / name / "config.json").read_text())
    ours = json.loads((tmp_path / "model" / "config.json").read_text())
    theirs |= {"torch_dtype": theirs["dtype"]} | theirs.get("text_config", {})
    if name == "gpt2":
        assert theirs["n_inner"] is None
        theirs["n_inner"] = 4 * theirs["n_embd"]
    rope = theirs.get("rope_parameters", {})
    if "full_attention" in rope:
        theirs["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    scaling = {n: v for n, v in rope.items() if n != "rope_theta"}
    default = scaling in ({}, {"rope_type": "default"})
    theirs |= {"rope_theta": rope.get("rope_theta"), "rope_scaling": None if default else scaling}
    if name == "gemma3-pictures":
        theirs["architectures"] = ["Gemma3ForCausalLM"]
    if "num_attention_heads" in theirs:  # what transformers 5 leaves out where it follows from the rest
        theirs = {"head_dim": theirs["hidden_size"] // theirs["num_attention_heads"]} | theirs
    theirs.setdefault("sliding_window_pattern", None)
    assert ours == {field: theirs[field] for field in ours}


def test_the_published_names_and_shapes_of_llama(tmp_path: Path) -> None:
    octavo.save(build("llama-wide"), tmp_path / "model")
    layer = {
        "input_layernorm.weight": (8,),
        "self_attn.q_proj.weight": (24, 8),
        "self_attn.k_proj.weight": (6, 8),
        "self_attn.v_proj.weight": (6, 8),
        "self_attn.o_proj.weight": (8, 24),
        "post_attention_layernorm.weight": (8,),
        "mlp.gate_proj.weight": (12, 8),
        "mlp.up_proj.weight": (12, 8),
        "mlp.down_proj.weight": (8, 12),
    }
    table = {f"model.layers.{i}.{n}": shape for i in range(2) for n, shape in layer.items()}
    table |= {"model.embed_tokens.weight": (V, 8), "model.norm.weight": (8,), "lm_head.weight": (V, 8)}
    found = load_file(tmp_path / "model" / "model.safetensors")
    assert {n: a.shape for n, a in found.items()} == table


def test_the_published_names_and_shapes_of_gpt2(tmp_path: Path) -> None:
    octavo.save(build("gpt2"), tmp_path / "model")
    block = {
        "ln_1.weight": (8,),
        "ln_1.bias": (8,),
        "attn.c_attn.weight": (8, 24),  # (in, out), as Conv1D holds them
        "attn.c_attn.bias": (24,),
        "attn.c_proj.weight": (8, 8),
        "attn.c_proj.bias": (8,),
        "ln_2.weight": (8,),
        "ln_2.bias": (8,),
        "mlp.c_fc.weight": (8, 32),
        "mlp.c_fc.bias": (32,),
        "mlp.c_proj.weight": (32, 8),
        "mlp.c_proj.bias": (8,),
    }
    table = {f"transformer.h.{i}.{n}": shape for i in range(2) for n, shape in block.items()}
    table |= {"transformer.wte.weight": (V, 8), "transformer.wpe.weight": (48, 8)}
    table |= {"transformer.ln_f.weight": (8,), "transformer.ln_f.bias": (8,)}
    found = load_file(tmp_path / "model" / "model.safetensors")
    assert {n: a.shape for n, a in found.items()} == table
    square = build("gpt2").params["h.0.attn.c_proj.weight"]
    np.testing.assert_array_equal(found["transformer.h.0.attn.c_proj.weight"], square.T)


# ---------------------------------------------------------------- other people's files


@pytest.fixture
def copy(tmp_path: Path) -> Any:
    """A function from a name to a copy of its checkpoint, with changes in the config and the arrays."""

    def make(name: str, arrays: Any = None, without: tuple[str, ...] = (), **config: Any) -> Path:
        path = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(HUGGINGFACE / name, path)
        told = json.loads((path / "config.json").read_text())
        told = {n: v for n, v in (told | config).items() if n not in without}
        (path / "config.json").write_text(json.dumps(told))
        if arrays is not None:
            save_file(arrays(load_file(path / "model.safetensors")), path / "model.safetensors")
        return path

    return make


def assert_reads_as(path: Path, name: str) -> None:
    np.testing.assert_array_equal(
        octavo.load(path).forward(expected(name)["ids"])[0],
        octavo.load(HUGGINGFACE / name).forward(expected(name)["ids"])[0],
    )


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(OctavoError) as caught:
        octavo.load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    assert path.name in message
    return message


def test_gpt2_is_read_as_it_was_first_published(copy: Any) -> None:
    def first(arrays: dict[str, Any]) -> dict[str, Any]:
        found = {n.removeprefix("transformer."): a for n, a in arrays.items()}
        mask = np.tril(np.ones((1, 1, 16, 16)))
        found |= {f"h.{i}.attn.bias": mask.astype(np.uint8) for i in range(2)}
        return found | {f"h.{i}.attn.masked_bias": np.array(-1e4, np.float32) for i in range(2)}

    told = {"n_ctx": 16, "task_specific_params": {"text-generation": {"max_length": 50}}}
    assert_reads_as(copy("gpt2", first, ("dtype", "n_inner"), **told), "gpt2")


@pytest.mark.parametrize(
    ("name", "original"), [("gpt2", "transformer.wte.weight"), ("llama-tied", "model.embed_tokens.weight")]
)
def test_a_copy_of_the_tied_head_is_left_out_and_another_head_is_refused(
    name: str, original: str, copy: Any
) -> None:
    assert_reads_as(copy(name, lambda arrays: arrays | {"lm_head.weight": arrays[original]}), name)
    other = copy(name, lambda arrays: arrays | {"lm_head.weight": 2 * arrays[original]})
    assert "lm_head.weight (11, 16) is unexpected" in refusal(other)
    shorter = copy(name, lambda arrays: arrays | {"lm_head.weight": arrays[original][:-1]})
    assert "lm_head.weight (10, 16) is unexpected" in refusal(shorter)


def test_llama_is_read_as_it_was_first_published(copy: Any) -> None:
    def first(arrays: dict[str, Any]) -> dict[str, Any]:
        rates = np.ones(2, np.float32)
        return arrays | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": rates for i in range(2)}

    before = {"rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "float16", "pretraining_tp": 1}
    newer = ("rope_parameters", "dtype", "head_dim", "num_key_value_heads", "attention_bias", "mlp_bias")
    assert_reads_as(copy("llama", first, newer, **before), "llama")
    assert_reads_as(copy("llama", None, (*newer, "rope_theta", "tie_word_embeddings", "hidden_act")), "llama")


def test_half_precision_is_widened(copy: Any) -> None:
    path = copy("gpt2", lambda arrays: {n: a.astype(np.float16) for n, a in arrays.items()})
    assert {p.dtype for p in octavo.load(path).params.values()} == {np.dtype(np.float32)}
    logits, _ = octavo.load(path).forward(expected("gpt2")["ids"])
    np.testing.assert_allclose(logits, expected("gpt2")["logits"], atol=0.02)


def test_a_parameter_that_is_there_under_both_names_is_refused(copy: Any) -> None:
    path = copy("gpt2", lambda arrays: arrays | {"wte.weight": arrays["transformer.wte.weight"]})
    assert "twice, with and without 'transformer.'" in refusal(path)


@pytest.mark.parametrize(
    "harmless",
    [
        {"_name_or_path": "me/mine", "transformers_version": "4.1"},
        {"architectures": ["LlamaModel"]},
        {"rope_scaling": {"type": "default"}},
        {"rope_scaling": {"rope_type": "default", "rope_theta": 10000.0}},
        {"rope_theta": 10000.0},
        {"rope_parameters": None, "rope_theta": 10000.0},
        {"rope_interleaved": False, "quantization_config": None, "pruned_heads": {}},
        {"hidden_act": "swish"},
        {"eos_token_id": [1, 2], "bos_token_id": None},
    ],
    ids=str,
)
def test_what_does_not_touch_the_logits_is_taken(harmless: dict[str, Any], copy: Any) -> None:
    assert_reads_as(copy("llama", **harmless), "llama")


def test_older_spellings_are_read(copy: Any) -> None:
    scaling = {n: v for n, v in LLAMA3.items() if n != "rope_theta"}
    older = {"rope_theta": 100.0, "rope_scaling": scaling, "torch_dtype": "bfloat16"}
    assert_reads_as(copy("llama-llama3", None, ("rope_parameters", "dtype"), **older), "llama-llama3")
    told = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None, "sliding_window_pattern": 6}
    assert_reads_as(
        copy("gemma3", None, ("rope_parameters", "layer_types", "tie_word_embeddings"), **told), "gemma3"
    )
    told = {
        "rope_theta": 100.0,
        "rope_local_base_freq": 50.0,
        "rope_scaling": {"type": "linear", "factor": 3.0},
    }
    assert_reads_as(copy("gemma3-capped", None, ("rope_parameters",), **told), "gemma3-capped")
    assert_reads_as(copy("qwen2-window", None, ("layer_types",)), "qwen2-window")
    assert_reads_as(copy("qwen2", None, ("layer_types", "max_window_layers")), "qwen2")


def test_a_model_that_sees_pictures_is_read_under_either_of_its_names(copy: Any) -> None:
    def newer(arrays: dict[str, Any]) -> dict[str, Any]:
        return {
            n.replace("language_model.model.", "model.language_model.")
            if n.startswith("language_model.")
            else f"model.{n}": a
            for n, a in arrays.items()
        }

    assert_reads_as(copy("gemma3-pictures", newer), "gemma3-pictures")


def test_an_architecture_that_is_not_supported_is_named_with_those_that_are(copy: Any) -> None:
    message = refusal(copy("llama", model_type="mamba", architectures=["MambaForCausalLM"]))
    assert "model type 'mamba' (MambaForCausalLM) is not supported; there are rnn, gru" in message
    assert "qwen3" in message
    assert "'ma\\nmba' is not supported" in refusal(copy("llama", model_type="ma\nmba", architectures=3))


def test_gelu_itself_is_taken_and_other_activations_are_not(copy: Any) -> None:
    assert octavo.load(copy("gpt2", activation_function="gelu")).config.activation_function == "gelu"
    for name in ("relu", None, ["gelu"]):
        with pytest.raises(
            OctavoError, match=r"activation_function .* is not supported, only 'gelu_new', 'gelu'"
        ):
            octavo.load(copy("gpt2", activation_function=name))


@pytest.mark.parametrize("name", ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"])
def test_other_names_of_the_same_activation_are_taken(name: str, copy: Any) -> None:
    assert_reads_as(copy("gpt2", activation_function=name), "gpt2")


@pytest.mark.parametrize(
    ("name", "harmful", "named"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported, only 'silu'"),
        ("llama", {"hidden_act": None}, "hidden_act None"),
        ("llama", {"hidden_act": ["silu"]}, "hidden_act"),
        ("llama", {"attention_bias": True}, "attention_bias True is not supported, only False"),
        ("llama", {"mlp_bias": True}, "mlp_bias True"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope_scaling {'factor': 2.0"),
        ("llama", {"rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "rope_scaling"),
        ("llama", {"rope_scaling": "linear"}, "rope_scaling 'linear' is not supported"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 0}}, "factor must be a number above 0"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2, "beta": 1}}, "not known to have beta"),
        ("llama", {"rope_scaling": {"type": ["linear"], "factor": 2}}, "rope_scaling"),
        (
            "llama",
            {"rope_scaling": {"type": "linear", "factor": 2, "rope_theta": 9}},
            "rope_theta is told twice",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8}},
            "rope_scaling of type llama3 does not tell low_freq_factor",
        ),
        ("llama-llama3", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling is told twice"),
        (
            "llama-llama3",
            {"rope_parameters": LLAMA3 | {"high_freq_factor": 1.0}},
            "below its high_freq_factor",
        ),
        ("mistral", {"sliding_window": 0}, "sliding_window must be a whole number"),
        ("mistral", {"attention_bias": True}, "attention_bias True is not known here"),
        (
            "qwen2-window",
            {"layer_types": ["full_attention"]},
            "layer_types tells of 1 layers, and there are 3",
        ),
        (
            "qwen2-window",
            {"layer_types": ["chunked_attention"] * 3},
            "layer_types is a list of full_attention",
        ),
        ("qwen2-window", {"layer_types": 3}, "layer_types is a list of"),
        ("qwen2-window", {"sliding_window": None}, "sliding_window must be a whole number"),
        ("qwen2-window", {"layer_types": None, "max_window_layers": None}, "max_window_layers"),
        ("qwen3", {"attention_bias": True}, "attention_bias True is not supported, only False"),
        ("gemma3", {"hidden_activation": "gelu"}, "hidden_activation 'gelu' is not supported"),
        (
            "gemma3",
            {"attn_logit_softcapping": 50.0},
            "attn_logit_softcapping 50.0 is not supported, only None",
        ),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention True"),
        (
            "gemma3",
            {"rope_parameters": {"full_attention": {}, "sliding_attention": {"type": "linear", "factor": 2}}},
            "rope_parameters of sliding_attention",
        ),
        ("gemma3", {"final_logit_softcapping": -1}, "final_logit_softcapping must be a number above 0"),
        ("gemma3-pictures", {"text_config": 3}, "does not fit its model"),
        ("olmo2", {"clip_qkv": 8.0}, "clip_qkv 8.0 is not known here"),
        ("llama", {"rope_theta": 500.0}, "rope_theta is told twice"),
        ("llama", {"sliding_window": 4096}, "sliding_window 4096 is not known here"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"rope_interleaved": True}, "rope_interleaved True"),
        ("llama", {"a\nb" * 900: 1}, "is not known here"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights False"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention True"),
        ("gpt2", {"tie_word_embeddings": False}, "tie_word_embeddings False is not supported, only True"),
    ],
)
def test_what_may_change_the_logits_is_refused(
    name: str, harmful: dict[str, Any], named: str, copy: Any
) -> None:
    assert named in refusal(copy(name, **harmful))


@pytest.mark.parametrize(
    ("name", "field"),
    [("llama", "num_attention_heads"), ("llama", "max_position_embeddings"), ("gpt2", "n_head")],
)
def test_a_size_that_no_weight_tells_must_be_in_the_config(name: str, field: str, copy: Any) -> None:
    path = copy(name, None, (field,))
    assert f"does not tell {field}" in refusal(path)
    told = json.loads((HUGGINGFACE / name / "config.json").read_text())[field]
    np.testing.assert_array_equal(
        octavo.load(path, **{field: told}).forward([1, 2])[0],
        octavo.load(HUGGINGFACE / name).forward([1, 2])[0],
    )


# ---------------------------------------------------------------- for transformers to open


def test_without_special_tokens_the_config_says_that_there_are_none(tmp_path: Path) -> None:
    octavo.save(build("llama"), tmp_path / "model")
    told = json.loads((tmp_path / "model" / "config.json").read_text())
    assert told["bos_token_id"] is told["eos_token_id"] is None  # or transformers would take 1 and 2
    assert told["architectures"] == ["LlamaForCausalLM"]
    assert told["torch_dtype"] == "float32"
    assert json.loads((tmp_path / "model" / "tokenizer_config.json").read_text()) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 16,
    }


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_config_tells_the_precision_that_is_stored(dtype: str, tmp_path: Path) -> None:
    octavo.save(build("gpt2"), tmp_path / "model", dtype=dtype)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["torch_dtype"] == dtype


def with_special(name: str, **config: Any) -> Model:
    return build(name, tokenizer=SPECIAL, vocab_size=257, **config)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_special_tokens_of_the_tokenizer_are_told(name: str, tmp_path: Path) -> None:
    octavo.save(with_special(name), tmp_path / "model")
    told = json.loads((tmp_path / "model" / "config.json").read_text())
    assert told["bos_token_id"] == told["eos_token_id"] == 256
    wrapper = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    assert wrapper["bos_token"] == wrapper["eos_token"] == "<|endoftext|>"
    config = octavo.load(tmp_path / "model").config
    assert (config.bos_token_id, config.eos_token_id) == (256, 256)


@pytest.mark.parametrize("ids", [7, (256, 9), (9, 256), ()])
def test_special_tokens_of_the_config_come_first(ids: Any, tmp_path: Path) -> None:
    octavo.save(with_special("llama", eos_token_id=ids, bos_token_id=3), tmp_path / "model")
    config = octavo.load(tmp_path / "model").config
    assert (config.bos_token_id, config.eos_token_id) == (3, ids)
    wrapper = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    assert "bos_token" not in wrapper  # token 3 is text
    assert wrapper.get("eos_token") == ("<|endoftext|>" if ids == (256, 9) else None)


def test_a_model_without_a_tokenizer_has_no_tokenizer_config(tmp_path: Path) -> None:
    model = build("llama")
    octavo.save(Model(model.model_type, model.config, model.params), tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("value", [0, -1, 2**24 + 1, 8.0, "8", True, [8], {}, float("nan")], ids=str)
@pytest.mark.parametrize(
    ("model_type", "field"),
    [
        ("llama", "vocab_size"),
        ("llama", "hidden_size"),
        ("llama", "intermediate_size"),
        ("llama", "num_hidden_layers"),
        ("llama", "num_attention_heads"),
        ("llama", "num_key_value_heads"),
        ("llama", "head_dim"),
        ("llama", "max_position_embeddings"),
        ("gpt2", "vocab_size"),
        ("gpt2", "n_positions"),
        ("gpt2", "n_embd"),
        ("gpt2", "n_layer"),
        ("gpt2", "n_head"),
        ("gpt2", "n_inner"),
    ],
)
def test_impossible_sizes_are_refused(model_type: str, field: str, value: Any) -> None:
    with pytest.raises(OctavoError, match=field) as caught:
        models.configure(model_type, {field: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "options", "named"),
    [
        ("llama", {"hidden_size": 10, "num_attention_heads": 4}, "multiple of num_attention_heads"),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ("llama", {"head_dim": 7}, "head_dim must be even"),
        ("llama", {"hidden_size": 12, "num_attention_heads": 4}, "head_dim must be even"),
        ("llama", {"num_hidden_layers": 1001}, "1000"),
        ("llama", {"rope_theta": 0}, "rope_theta must be a number above 0"),
        ("llama", {"rope_theta": float("inf")}, "rope_theta"),
        ("llama", {"rope_theta": 10**400}, "rope_theta"),
        ("llama", {"rms_norm_eps": True}, "rms_norm_eps"),
        ("llama", {"rms_norm_eps": "small"}, "rms_norm_eps must be a number above 0"),
        ("llama", {"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false"),
        ("llama", {"bos_token_id": "1"}, "bos_token_id must be the id of a token"),
        ("llama", {"eos_token_id": [1, -1]}, "eos_token_id"),
        ("gpt2", {"n_embd": 10, "n_head": 4}, "multiple of n_head"),
        ("gpt2", {"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon"),
        ("gpt2", {"color": 1}, "no option color"),
    ],
)
def test_impossible_configs_are_refused(model_type: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(OctavoError, match=named) as caught:
        models.configure(model_type, options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_what_is_left_out_follows_from_the_rest() -> None:
    config = models.configure("llama", {"hidden_size": 48, "num_attention_heads": 6})
    assert (config.num_key_value_heads, config.head_dim, config.context) == (6, 8, 128)
    assert models.configure("gpt2", {"n_embd": 8}).n_inner == 32
    qwen, gemma = models.configure("qwen2", {}), models.configure("gemma3_text", {"num_hidden_layers": 7})
    assert (qwen.max_window_layers, set(qwen.layer_types)) == (4, {"full_attention"})
    assert [kind.removesuffix("_attention") for kind in gemma.layer_types] == [
        *["sliding"] * 5,
        "full",
        "sliding",
    ]


@pytest.mark.parametrize(
    ("model_type", "field"),
    [("llama", "max_position_embeddings"), ("gpt2", "n_positions"), ("plain", "context")],
)
def test_a_design_takes_the_context_whatever_the_family_calls_it(model_type: str, field: str) -> None:
    config = models.design(model_type, 9, context=24)
    assert getattr(config, field) == config.context == 24
    assert Model(model_type, config, {}).context == 24
    if field != "context":
        with pytest.raises(OctavoError, match=f"{field} is the context; say one of them"):
            models.design(model_type, 9, context=24, **{field: 24})


# ---------------------------------------------------------------- where learned positions end


def test_past_the_learned_positions_a_text_is_refused_in_a_line() -> None:
    model, ids = build("gpt2", n_positions=8), [1] * 9
    assert (model.longest, build("llama").longest) == (8, None)
    problem = "the model has learned 8 positions; a text of 9 tokens is too long"
    with pytest.raises(OctavoError, match=problem):
        model.forward(ids)
    _, state = model.forward(ids[:8])
    with pytest.raises(OctavoError, match=problem):
        model.forward([1], state)
    on_jax = model.with_params(jax.device_put(model.params))
    with pytest.raises(OctavoError, match=problem):
        on_jax.forward(ids)
    with pytest.raises(OctavoError, match=problem):
        model.architecture.forward(model.params, model.config, np.array([ids]))


def test_generating_past_the_learned_positions_is_an_octavo_error() -> None:
    model = build("gpt2", n_positions=8)
    assert len(list(octavo.tokens(model, [1, 2, 3], limit=5, seed=0))) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the context ends, which comes before
        with pytest.raises(OctavoError, match="context of 8 tokens"):
            list(octavo.tokens(model, [1, 2, 3], limit=7, seed=0))


def test_past_the_learned_positions_jit_gives_nan_rather_than_nonsense() -> None:
    model = build("gpt2", n_positions=4)
    run = jax.jit(lambda x: model.forward(x)[0])
    assert np.isfinite(run(np.array([1, 2, 3, 1]))).all()
    assert np.isnan(run(np.array([1, 2, 3, 1, 2]))[4]).all()


# ---------------------------------------------------------------- before training


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("gpt2", {}),
        *((name, {"tie_word_embeddings": tied}) for name in recipe.LLAMA_LINE for tied in (True, False)),
    ],
)
def test_a_new_model_begins_near_the_uniform_distribution(model_type: str, sizes: dict[str, Any]) -> None:
    config = models.design(model_type, 64, **sizes)
    params = models.initial_params(model_type, config, np.random.default_rng(0))
    model = Model(model_type, config, params, char(ALPHABET))
    ids = np.random.default_rng(1).integers(0, 64, (4, 65))
    logits, _ = model.forward(ids[:, :-1])
    nats = -np.take_along_axis(octavo.nn.log_softmax(logits), ids[:, 1:, None], -1).mean()
    assert nats == pytest.approx(np.log(64), abs=0.7)
