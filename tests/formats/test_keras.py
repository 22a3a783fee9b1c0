"""Keras files against the outputs of real Keras 2 and 3, and everything that can be wrong with one."""

import contextlib
import json
import random
import shutil
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import OctavoError, nn
from octavo.formats import keras
from octavo.models import recurrent

from ..conftest import GOLDEN, golden
from ..damage import disturbed, disturbed_archive, disturbed_json

KERAS2, KERAS3 = GOLDEN / "keras2", GOLDEN / "keras3"
SUPPORTED = {"rnn", "gru", "gru_before", "lstm", "embedding", "functional", "old_gru"}


def sources() -> list[Any]:
    """Every golden model in every form in which it was saved: (file, weights or None)."""
    found = []
    for path in sorted(GOLDEN.glob("keras?/*")):
        name = path.name.split(".")[0].removesuffix("_weights")
        if name not in SUPPORTED or path.suffix == ".npz" or "weights" in path.name:
            continue
        partners: list[Path | None] = [None]
        if path.suffix == ".json":
            partners = [
                p
                for p in sorted(path.parent.glob("*.h5"))
                if p.name.split(".")[0].removesuffix("_weights") == name
            ]
        found += [
            pytest.param(
                path, weights, id=f"{path.parent.name}/{path.name}{'+' + weights.name if weights else ''}"
            )
            for weights in partners
        ]
    return found


def refusal(path: Path, weights: Path | None = None) -> str:
    with pytest.raises(OctavoError) as caught:
        keras.read(path, weights)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    return message


# ---------------------------------------------------------------- right


@pytest.mark.parametrize(("path", "weights"), sources())
def test_the_outputs_are_those_of_keras_at_every_step(path: Path, weights: Path | None) -> None:
    kind, config, params = keras.read(path, weights)
    expected = golden(f"{path.parent.name}/{path.stem}")
    assert kind == {"rnn": "rnn", "lstm": "lstm", "functional": "lstm"}.get(path.stem, "gru")
    assert {name: x.shape for name, x in params.items()} == recurrent.shapes(config)
    assert all(x.dtype == np.float32 and x.flags.c_contiguous for x in params.values())
    logits, _ = recurrent.forward(params, config, expected["ids"])
    np.testing.assert_allclose(nn.softmax(logits), expected["outputs"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stem", ["keras2/gru_before", "keras3/embedding", "keras3/lstm"])
def test_the_outputs_are_those_of_keras_under_jit(stem: str) -> None:
    path = GOLDEN / f"{stem}.json"
    weights = next(p for p in path.parent.glob(f"{path.stem}*.h5") if "weights" in p.name)
    _, config, params = keras.read(path, weights)
    expected = golden(stem)
    logits, _ = jax.jit(partial(recurrent.forward, c=config))(params, tokens=expected["ids"])
    np.testing.assert_allclose(jax.nn.softmax(logits), expected["outputs"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("path", "weights"), sources())
def test_files_are_recognised_by_content(path: Path, weights: Path | None, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "a.txt")
    assert keras.recognise(tmp_path / "a.txt")


def test_what_is_no_keras_is_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"model_type": "gru"}')
    (tmp_path / "b.json").write_text("")
    np.savez(tmp_path / "c.npz", x=np.zeros(3))
    (tmp_path / "d.npz").write_bytes(b"PK\3\4 no archive")
    for path in (*tmp_path.iterdir(), tmp_path, tmp_path / "missing"):
        assert not keras.recognise(path)


def test_whole_models_take_other_weights_and_give_theirs_to_others() -> None:
    expected = keras.read(KERAS3 / "gru.keras")[2]
    for path, weights in (("gru.keras", "gru.h5"), ("gru.json", "gru.keras"), ("gru.h5", "gru.weights.h5")):
        params = keras.read(KERAS3 / path, KERAS3 / weights)[2]
        for name, weight in expected.items():
            np.testing.assert_array_equal(params[name], weight)


def test_hard_sigmoid_is_the_one_of_the_version() -> None:
    for folder, name in ((KERAS2, "hard_sigmoid_keras2"), (KERAS3, "hard_sigmoid")):
        weights = next(folder.glob("lstm*.h5"))
        _, config, _ = keras.read(folder / "lstm.json", weights)
        assert config.layers[0].recurrent_activation == name


# ---------------------------------------------------------------- changed architectures

Edit = Callable[[dict[str, Any]], Any]


def edited(tmp_path: Path, edit: Edit, source: Path = KERAS3 / "gru.json") -> Path:
    """A golden architecture after an edit."""
    architecture = json.loads(source.read_text())
    edit(architecture)
    (tmp_path / "model.json").write_text(json.dumps(architecture))
    return tmp_path / "model.json"


def layer(architecture: dict[str, Any], kind: str) -> Any:
    return next(x for x in architecture["config"]["layers"] if x["class_name"] == kind)


def option(kind: str, **options: Any) -> Edit:
    """An edit that sets options of the first layer of a kind."""
    return lambda architecture: layer(architecture, kind)["config"].update(options)


def rename(kind: str, new: str, **options: Any) -> Edit:
    """An edit that makes the first layer of a kind one of another kind."""

    def edit(architecture: dict[str, Any]) -> None:
        found = layer(architecture, kind)
        found["class_name"] = new
        found["config"] = {"name": "odd"} | options

    return edit


HARMLESS: dict[str, Edit] = {
    "unroll": option("GRU", unroll=True, stateful=True, implementation=1, dropout=0.5, return_state=False),
    "a list of layers": lambda a: a.update(config=a["config"]["layers"]),
    "no modules": lambda a: [x.pop("module") for x in a["config"]["layers"]],
    "idle layers": rename("Dropout", "GaussianNoise", stddev=0.1),
    "softmax layer": rename("Activation", "Softmax", axis=-1),
    "idle layers after the softmax": lambda a: a["config"]["layers"].extend(
        {"class_name": kind, "config": {"name": f"{kind}{i}", "activation": "linear"}}
        for i, kind in enumerate(("Activation", "Dropout", "Activation"))
    ),
    "function object": option(
        "GRU",
        activation={
            "module": "keras.activations",
            "class_name": "function",
            "config": "tanh",
            "registered_name": "tanh",
        },
    ),
    "no declared width": lambda a: layer(a, "InputLayer")["config"].update(batch_shape=[None, None, None]),
    "sequences at the end": lambda a: [
        x["config"].update(return_sequences=True) for x in a["config"]["layers"] if x["class_name"] == "GRU"
    ],
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_changes_no_number_is_accepted(change: str, tmp_path: Path) -> None:
    expected = keras.read(KERAS3 / "gru.keras")
    found = keras.read(edited(tmp_path, HARMLESS[change]), KERAS3 / "gru.weights.h5")
    assert found[:2] == expected[:2]
    assert all(np.array_equal(found[2][name], weight) for name, weight in expected[2].items())


def test_a_closing_activation_other_than_softmax_is_kept(tmp_path: Path) -> None:
    path = edited(tmp_path, option("Activation", activation="log_softmax"))
    _, config, params = keras.read(path, KERAS3 / "gru.weights.h5")
    expected = golden("keras3/gru")
    logits, _ = recurrent.forward(params, config, expected["ids"])
    assert config.layers[-1].activation == "log_softmax"
    np.testing.assert_allclose(np.exp(logits), expected["outputs"], rtol=1e-5, atol=1e-6)


def branch(architecture: dict[str, Any]) -> None:
    node = layer(architecture, "Dense")["inbound_nodes"][0]
    node["args"][0]["config"]["keras_history"][0] = "input_layer_1"


REFUSED: dict[str, tuple[Edit, str]] = {
    "Bidirectional": (
        rename("GRU", "Bidirectional"),
        "layer odd is a Bidirectional, which octavo does not read",
    ),
    "Lambda": (rename("Dropout", "Lambda", function=["4wAAAA==", None, None]), "is a Lambda"),
    "TimeDistributed": (rename("Dense", "TimeDistributed"), "is a TimeDistributed"),
    "Conv1D": (rename("GRU", "Conv1D"), "is a Conv1D"),
    "Masking": (rename("Dropout", "Masking"), "is a Masking"),
    "CuDNNGRU": (rename("GRU", "CuDNNGRU"), "is a CuDNNGRU"),
    "nested": (rename("Dropout", "Sequential", layers=[]), "is a Sequential"),
    "softmax over time": (rename("Activation", "Softmax", axis=1), "over axis 1"),
    "go_backwards": (option("GRU", go_backwards=True), "go_backwards=True"),
    "time_major": (option("GRU", time_major=True), "time_major=True"),
    "middle layer": (option("GRU", return_sequences=False), "return_sequences=False, yet gru_1 reads"),
    "custom function": (
        option("GRU", activation={"class_name": "function", "config": "mine", "module": "builtins"}),
        "activation mine",
    ),
    "lambda": (
        option("GRU", activation={"class_name": "__lambda__", "config": {"value": "4wA="}}),
        "custom activation",
    ),
    "foreign function": (
        option(
            "GRU",
            activation={"class_name": "function", "config": "tanh", "module": "mine", "registered_name": "x"},
        ),
        "custom activation",
    ),
    "sparsemax": (option("Dense", activation="sparsemax"), "computed wrongly"),
    "glu": (option("Dense", activation="glu"), "activation glu, which octavo does not have"),
    "our own name": (option("Dense", activation="gelu_tanh"), "gelu_tanh"),
    "recurrent softmax": (
        lambda a: (
            option("GRU", activation="softmax")(a),
            a["config"].update(layers=a["config"]["layers"][:2]),
        ),
        "probabilities by softmax",
    ),
    "closing sigmoid": (
        option("Activation", activation="sigmoid"),
        "by sigmoid, no distribution over the next token; train the model with a closing softmax",
    ),
    "custom class": (lambda a: layer(a, "GRU").update(registered_name="mine>GRU"), "custom class, GRU"),
    "foreign class": (lambda a: layer(a, "GRU").update(module="mine"), "custom class, GRU"),
    "custom model": (lambda a: a.update(registered_name="mine>Sequential"), "custom class"),
    "other model": (lambda a: a.update(class_name="Mine"), "the model is a Mine"),
    "no recurrence": (lambda a: a["config"].update(layers=a["config"]["layers"][4:]), "no recurrent layer"),
    "no list": (lambda a: a["config"].update(layers={}), "no list of layers"),
    "many layers": (lambda a: a["config"].update(layers=[{}] * 1001), "the model has 1001 layers"),
    "no layers": (lambda a: a["config"].update(layers=[]), "no recurrent layer"),
    "same names": (
        lambda a: [x["config"].update(name="x") for x in a["config"]["layers"]],
        "two layers are called x",
    ),
    "no name": (lambda a: layer(a, "GRU")["config"].pop("name"), "damaged"),
    "no units": (lambda a: layer(a, "GRU")["config"].pop("units"), "whole number of units, not None"),
    "half a unit": (option("GRU", units=7.5), "whole number of units, not 7.5"),
    "huge": (option("GRU", units=10**30), "units must be a whole number from 1"),
    "no activation": (lambda a: layer(a, "GRU")["config"].pop("activation"), "has no activation"),
    "odd flag": (option("GRU", use_bias="yes"), "use_bias true or false, not yes"),
    "Keras 1": (lambda a: a.update(keras_version="1.2.2"), "from Keras 1.2.2"),
    "line break": (option("GRU", activation="a\nb"), "'a\\nb'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_architectures_that_would_change_the_numbers_are_refused_by_name(case: str, tmp_path: Path) -> None:
    edit, reason = REFUSED[case]
    message = refusal(edited(tmp_path, edit), KERAS3 / "gru.weights.h5")
    assert "model.json: " in message
    assert reason in message


def test_masks_and_branches_are_refused(tmp_path: Path) -> None:
    masked = edited(tmp_path, option("Embedding", mask_zero=True), KERAS3 / "embedding.json")
    assert "mask_zero=True" in refusal(masked, KERAS3 / "embedding.weights.h5")
    for edit in (branch, lambda a: a["config"].update(output_layers=["memory", 0, 0])):
        path = edited(tmp_path, edit, KERAS3 / "functional.json")
        assert "Functional" in refusal(path, KERAS3 / "functional.weights.h5")


JSON = {
    "empty": (b"", "is empty"),
    "not JSON": (b"GRU, please", "no readable JSON"),
    "not UTF-8": (b'{"class_name": "\xff"}', "no readable JSON"),
    "no object": (b'["class_name"]', "expected an object"),
    "deep": (b'{"class_name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "long number": (b'{"class_name": ' + b"9" * 10_000 + b"}", "no readable JSON"),
    "key twice": (b'{"class_name": "Sequential", "class_name": "Model"}', "a key stands twice"),
    "too long": (b'{"class_name": "' + b"x" * 2**24 + b'"}', "no architecture is so long"),
}


@pytest.mark.parametrize("case", JSON)
def test_damaged_json_is_refused(case: str, tmp_path: Path) -> None:
    content, reason = JSON[case]
    (tmp_path / "model.json").write_bytes(content)
    assert reason in refusal(tmp_path / "model.json", KERAS3 / "gru.weights.h5")


# ---------------------------------------------------------------- changed weights


def reweighted(tmp_path: Path, edit: Callable[[Any], Any], source: Path = KERAS3 / "gru.weights.h5") -> Path:
    """Golden weights after an edit."""
    path = tmp_path / "edited.h5"
    shutil.copy(source, path)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def replace(path: str, change: Callable[[Any], Any], **options: Any) -> Callable[[Any], Any]:
    """An edit that puts another array in a place."""

    def edit(file: Any) -> None:
        array = change(file[path][()])
        del file[path]
        file.create_dataset(path, data=array, **options)

    return edit


KERNEL = "layers/gru/cell/vars/0"
WEIGHTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "missing": (lambda file: file.__delitem__("layers/gru/cell/vars/2"), "gru/bias (2, 24) is missing"),
    "unexpected": (
        lambda file: file.create_dataset("layers/dense_1/vars/0", data=np.ones(3)),
        "layers/dense_1/0 (3,) is unexpected",
    ),
    "misshapen": (replace(KERNEL, np.transpose), "gru/kernel has the shape (24, 11), not (11, 24)"),
    "not finite": (replace(KERNEL, lambda x: x * np.nan), "gru/kernel holds values that are NaN"),
    "beyond float32": (
        replace(KERNEL, lambda x: x + np.float64(1e300)),
        "gru/kernel holds values that are NaN or inf",
    ),
    "integers": (replace(KERNEL, lambda x: x.astype(int)), "gru/kernel holds int64 values"),
    "compressed": (replace(KERNEL, lambda x: x, compression="gzip"), "gru/kernel is compressed"),
    "a link": (
        lambda file: (
            file.__delitem__(KERNEL),
            file.__setitem__(KERNEL, h5py.SoftLink("/layers/gru/cell/vars/1")),
        ),
        "gru/kernel is a link",
    ),
    "no weights": (lambda file: file.__delitem__("layers"), "no Keras weights"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit_are_refused_by_name(case: str, tmp_path: Path) -> None:
    edit, reason = WEIGHTS[case]
    message = refusal(KERAS3 / "gru.json", reweighted(tmp_path, edit))
    assert "edited.h5: " in message
    assert reason in message


def test_all_that_is_wrong_is_listed_at_once(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        for case in ("missing", "unexpected", "misshapen"):
            WEIGHTS[case][0](file)
        replace("layers/dense/vars/1", lambda x: x * np.inf)(file)

    message = refusal(KERAS3 / "gru.json", reweighted(tmp_path, edit))
    for reason in ("gru/bias", "layers/dense_1/0", "gru/kernel", "dense_1/bias holds"):
        assert reason in message


def test_a_long_list_is_cut_and_counted() -> None:
    message = refusal(KERAS2 / "lstm.json", KERAS2 / "embedding_weights.h5")
    assert message.count(" is ") == 8
    assert message.endswith("; and 8 more")


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4"])
def test_other_floats_are_read_as_float32(dtype: str, tmp_path: Path) -> None:
    path = reweighted(tmp_path, replace(KERNEL, lambda x: x.astype(dtype)))
    weight = keras.read(KERAS3 / "gru.json", path)[2]["layers.0.weight_ih"]
    assert weight.dtype == np.dtype("f4")
    np.testing.assert_allclose(weight, keras.read(KERAS3 / "gru.keras")[2]["layers.0.weight_ih"], atol=1e-3)


def as_bytes(file: Any) -> None:
    """Older spellings: fixed-length bytes, several attributes, and no level of the cell."""
    names = [name.encode() for name in file.attrs.pop("layer_names")]
    file.attrs["layer_names0"], file.attrs["layer_names1"] = np.asarray(names[:2]), np.asarray(names[2:])
    for layer in ("gru", "gru_1"):
        group = file[layer]
        paths = list(group.attrs.pop("weight_names"))
        for path in paths:
            group.copy(path, path.rsplit("/")[-1])
        del group[paths[0].split("/")[0]]
        group.attrs["weight_names"] = np.asarray([path.rsplit("/")[-1].encode() for path in paths])


def other_names(file: Any) -> None:
    """As a model of the same layers writes that was built later in a session."""
    file.move("gru", "gru_7")
    file.attrs["layer_names"] = ["gru_7" if name == "gru" else name for name in file.attrs["layer_names"]]


@pytest.mark.parametrize("edit", [as_bytes, other_names])
def test_weights_under_other_spellings_are_found(edit: Callable[[Any], Any], tmp_path: Path) -> None:
    stem = next(KERAS2.glob("gru_weights.h5"))
    expected = keras.read(KERAS2 / "gru.json", stem)[2]
    params = keras.read(KERAS2 / "gru.json", reweighted(tmp_path, edit, stem))[2]
    assert all(np.array_equal(params[name], weight) for name, weight in expected.items())


def test_an_architecture_needs_weights_and_weights_an_architecture(tmp_path: Path) -> None:
    assert "give weights too" in refusal(KERAS3 / "gru.json")
    assert "give the architecture too" in refusal(KERAS3 / "gru.weights.h5")
    assert "there are no weights in it" in refusal(KERAS3 / "gru.json", KERAS3 / "gru.json")
    assert "missing.h5 cannot be read: No such file" in refusal(KERAS3 / "gru.json", tmp_path / "missing.h5")
    assert "cannot be read" in refusal(tmp_path)


# ---------------------------------------------------------------- changed archives


def archive(tmp_path: Path, edit: Callable[[dict[str, bytes]], Any], **options: Any) -> Path:
    """A golden `.keras` file after an edit of its members."""
    with zipfile.ZipFile(KERAS3 / "gru.keras") as source:
        members = {name: source.read(name) for name in source.namelist()}
    edit(members)
    with zipfile.ZipFile(tmp_path / "model.keras", "w", **options) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return tmp_path / "model.keras"


def test_a_compressed_archive_is_read(tmp_path: Path) -> None:
    assert keras.read(archive(tmp_path, lambda _: None, compression=zipfile.ZIP_DEFLATED))[0] == "gru"


def test_archives_without_a_member_are_refused(tmp_path: Path) -> None:
    for name in ("config.json", "metadata.json", "model.weights.h5"):
        assert f"there is no {name} in it" in refusal(
            archive(tmp_path, lambda members, name=name: members.pop(name))
        )


def test_a_bomb_is_refused_unopened(tmp_path: Path, peak_memory: Callable[[Callable[[], Any]], int]) -> None:
    for name, size in (("config.json", 2**24 + 1), ("model.weights.h5", 2**25)):
        bomb = {name: bytes(size)}
        path = archive(tmp_path, partial(dict.update, **bomb), compression=zipfile.ZIP_DEFLATED)
        assert peak_memory(partial(refusal, path)) < 2_000_000
        assert "more than is believable" in refusal(path)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    content = (KERAS3 / "gru.keras").read_bytes()
    for damaged in (content[:-30], content[:5000] + bytes(20) + content[5020:], b"PK\3\4"):
        (tmp_path / "model.keras").write_bytes(damaged)
        assert "the .keras archive is damaged" in refusal(tmp_path / "model.keras")


# ---------------------------------------------------------------- damaged at random


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_damaged_file_raises_nothing_but_our_error_and_soon(data: Any, tmp_path_factory: Any) -> None:
    case = data.draw(st.sampled_from(sources()))
    path, weights = case.values
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    target = weights or path
    if path.suffix == ".json" and rng.random() < 0.5:
        target = path
    changes = {".json": [disturbed_json, disturbed], ".keras": [disturbed_archive, disturbed]}
    content = rng.choice(changes.get(target.suffix, [disturbed]))(target.read_bytes(), rng)
    damaged = tmp_path_factory.getbasetemp() / "damaged"
    damaged.write_bytes(content)
    start = time.process_time()
    with contextlib.suppress(OctavoError):
        keras.recognise(damaged)
        keras.read(damaged if target == path else path, damaged if target == weights else weights)
    assert time.process_time() - start < 1
