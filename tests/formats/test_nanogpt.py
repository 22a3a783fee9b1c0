"""nanoGPT's checkpoints: the numbers of PyTorch, and files that lie."""

import io
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octavo
from octavo import OctavoError
from octavo.formats import pickles

from ..conftest import GOLDEN
from .damage import EDITS, damaged

FOLDER = GOLDEN / "karpathy"
FILES = {name: (FOLDER / f"{name}.pt").read_bytes() for name in ("compiled", "unbiased")}


def expected() -> dict[str, Any]:
    with np.load(FOLDER / "expected.npz") as archive:
        return dict(archive)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(OctavoError) as caught:
        octavo.load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    return message


@pytest.mark.parametrize("name", FILES)
def test_computes_what_torch_does(name: str) -> None:
    model = octavo.load(FOLDER / f"{name}.pt", model_type="gpt2")
    numbers = expected()
    logits, _ = model.forward(numbers["ids"])
    np.testing.assert_allclose(logits, numbers[name], atol=1e-5)
    assert logits.dtype == np.float32
    assert (model.config.n_positions, model.config.n_head) == (16, 2)
    assert model.config.activation_function == "gelu"


def test_the_first_versions_approximated_gelu(tmp_path: Path) -> None:
    model = octavo.load(FOLDER / "compiled.pt", activation_function="gelu_new")
    assert not np.allclose(model.forward(expected()["ids"])[0], expected()["compiled"], atol=1e-5)
    octavo.save(octavo.load(FOLDER / "compiled.pt"), tmp_path / "model")  # and which one it is, is kept
    again = octavo.load(tmp_path / "model")
    np.testing.assert_allclose(again.forward(expected()["ids"])[0], expected()["compiled"], atol=1e-5)
    assert "activation_function" in refusal(FOLDER / "compiled.pt", activation_function="relu")
    assert "contradicts" in refusal(FOLDER / "compiled.pt", n_head=4)


def test_it_writes_and_trains(tmp_path: Path) -> None:
    (tmp_path / "meta.pkl").write_bytes(
        pickle.dumps(
            {"itos": dict(enumerate("abcdefghijk")), "stoi": {c: i for i, c in enumerate("abcdefghijk")}}
        )
    )
    model = octavo.load(FOLDER / "compiled.pt", tokenizer=tmp_path / "meta.pkl")
    assert len(octavo.generate(model, "abc", limit=5, seed=0)) == 5


def test_a_file_of_old_is_said_to_be_one() -> None:
    assert "before 1.6" in refusal(FOLDER / "old.pt")


# ---------------------------------------------------------------- files that lie


def rewritten(path: Path, change: Callable[[dict[str, bytes]], Any], **options: Any) -> Path:
    """The archive with members changed."""
    with zipfile.ZipFile(io.BytesIO(FILES["compiled"])) as archive:
        members = {m.filename: archive.read(m) for m in archive.infolist()}
    change(members)
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_the_helper_makes_readable_files(tmp_path: Path) -> None:
    model = octavo.load(rewritten(tmp_path / "a.pt", lambda members: None))
    np.testing.assert_allclose(model.forward(expected()["ids"])[0], expected()["compiled"], atol=1e-5)


def replaced(old: bytes, new: bytes, name: str = "compiled/data.pkl") -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        assert old in members[name]
        members[name] = members[name].replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m.update({"compiled/data.pkl": pickle.dumps(print)}), "builtins print"),
        (lambda m: m.update({"compiled/data.pkl": pickle.dumps({"a": 1})}), "no model and model_args"),
        (lambda m: m.update({"compiled/data.pkl": pickle.dumps([1])}), "no model and model_args"),
        (lambda m: m.update({"compiled/data.pkl": b""}), "damaged or truncated"),
        (lambda m: m.update({"compiled/byteorder": b"big"}), "not little-endian"),
        (lambda m: m.update({"other/data.pkl": b""}), "not laid out"),
        (lambda m: m.pop("compiled/data/0"), "lacks data/0"),
        (lambda m: m.update({"compiled/data/0": b"\0" * 8}), "has 8 bytes, fewer than 352"),
        (lambda m: m.update({"compiled/data/0": b"\0" * 9}), "has 9 bytes, fewer than"),
        (lambda m: m.update({"compiled/data/0": b"\0" * 4000}), "more than 352"),
        (lambda m: m.update({"compiled/data/0": b"\xff" * 352}), "NaN or infinite"),
        (replaced(b"ctorch\nFloatStorage", b"ctorch\nIntStorage"), "int32, not floating-point"),
        (replaced(b"ctorch\nFloatStorage", b"cos\nsystem"), "os system"),
        (replaced(b"ctorch._utils\n_rebuild_tensor_v2", b"cnumpy\n_rebuild_tensor_v2"), "numpy _rebuild"),
        (replaced(b"wpe.weight", b"wpx.weight"), "is missing"),
        (replaced(b"block_size", b"block_sizf"), "lack block_size"),
        (replaced(b"n_layer", b"n_layes"), "lack n_layer"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(change: Any, named: str, tmp_path: Path) -> None:
    assert named in refusal(rewritten(tmp_path / "a.pt", change))


def test_compressed_members_are_refused_unread(tmp_path: Path, peak_memory: Callable[..., int]) -> None:
    def bomb(members: dict[str, bytes]) -> None:
        members["compiled/data.pkl"] = b"\0" * 2**27

    path = rewritten(tmp_path / "a.pt", bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**18
    assert peak_memory(lambda: refusal(path)) < 2**22
    assert "compressed" in refusal(path)


@pytest.mark.parametrize(
    ("storage", "arguments", "named"),
    [
        (("FloatStorage", "0", 4), (0, (2, 3), (3, 1)), "past the 4 numbers"),
        (("FloatStorage", "0", 4), (2, (3,), (1,)), "past the 4 numbers"),
        (("FloatStorage", "0", 4), (0, (2**40, 2**40), (0, 0)), "past the 4 numbers"),
        (("FloatStorage", "0", 4), (0, (2,), (-1,)), "whole numbers from 0"),
        (("FloatStorage", "0", 4), (0, (2**80,), (1,)), "whole numbers from 0"),
        (("FloatStorage", "0", 4), (0, (2,), (1, 1)), "as many strides"),
        (("FloatStorage", "0", 4), (0, (1,) * 40, (1,) * 40), "as many strides"),
        (("FloatStorage", "0", -4), (0, (2,), (1,)), "cannot be"),
        (("FloatStorage", "0", 2**70), (0, (2,), (1,)), "cannot be"),
        (("QUInt8Storage", "0", 4), (0, (2,), (1,)), "QUInt8Storage"),
    ],
)
def test_tensors_that_reach_too_far(storage: Any, arguments: Any, named: str, tmp_path: Path) -> None:
    """A pickle written by hand, as `torch.save` would."""
    kind, key, size = storage

    def text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    def number(value: int) -> bytes:
        return b"I%d\n" % value

    def whole(values: Any) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    pid = (
        b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(size) + b"tQ"
    )
    offset, shape, strides = arguments
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + number(offset) + whole(shape) + whole(strides)
    tensor += b"\x89Ntr"[:-1] + b"R"
    args = {"n_layer": 1, "n_head": 1, "n_embd": 2, "block_size": 2, "vocab_size": 2}
    table = b"}(" + b"".join(text(n) + number(v) for n, v in args.items()) + b"u"
    model = b"}(" + text("transformer.other") + tensor + b"u"
    program = b"\x80\x02}(" + text("model_args") + table + text("model") + model + b"u."
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/data/0", np.zeros(4, np.float32).tobytes())
    assert named in refusal(tmp_path / "a.pt")


def test_an_archive_that_goes_on_elsewhere_is_none(tmp_path: Path) -> None:
    data = bytearray(FILES["unbiased"])
    data[data.index(b"PK\x06\x07") + 16] = 2  # of how many files
    (tmp_path / "a.pt").write_bytes(data)
    assert "no model that octavo reads" in refusal(tmp_path / "a.pt")


@given(st.sampled_from(sorted(FILES)), EDITS)
@settings(max_examples=200, deadline=None)
def test_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    path.write_bytes(damaged(FILES[name], edits))
    message, began = "", time.process_time()
    try:
        model = octavo.load(path)
        with np.errstate(all="ignore"):
            model.forward(np.array([1, 2]) % model.vocab_size)
    except OctavoError as error:
        message = str(error)
    assert "\n" not in message
    assert time.process_time() - began < 2


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_of_every_protocol(protocol: int) -> None:
    value = {"a": [1, -(2**70), 2.5, None, True, (), ("é", b"\xff"), [], {}], 3: {"b": (1, 2, 3, 4)}}
    assert pickles.read(pickle.dumps(value, protocol), pickles.Grammar("plain", {"a b": "c"})) == value


def test_a_list_in_itself_ends() -> None:
    inner: list[Any] = []
    inner.append(inner)
    found = pickles.read(pickle.dumps(inner), pickles.PLAIN)
    assert found[0] is found
