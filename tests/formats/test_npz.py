"""The course's archives: layouts against PyTorch's numbers, and everything that can be wrong with a file."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import octavo
from octavo import OctavoError

from ..conftest import GOLDEN, golden

OPTIONS = {"plain": {"n_heads": 2, "context": 16}, "prenorm": {}}
both = pytest.mark.parametrize("name", OPTIONS)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(OctavoError) as caught:
        octavo.load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    return message


@both
def test_an_archive_of_the_course_computes_what_torch_does(name: str) -> None:
    model = octavo.load(GOLDEN / f"torch_{name}.npz", model_type=name, **OPTIONS[name])
    expected = golden(f"torch_{name}_expected")
    assert model.model_type == name
    logits, _ = model.forward(expected["windows"][0, :, :-1])
    np.testing.assert_allclose(logits, expected["logits"], rtol=1e-4, atol=1e-5)


def test_sizes_come_from_the_shapes() -> None:
    plain = octavo.load(GOLDEN / "torch_plain.npz", n_heads=4).config
    assert (plain.vocab_size, plain.d_model, plain.n_layers, plain.n_heads, plain.d_ff) == (11, 8, 2, 4, 12)
    assert plain.context == 128
    prenorm = octavo.load(GOLDEN / "torch_prenorm.npz", context=64).config
    assert (prenorm.vocab_size, prenorm.d_model, prenorm.n_layers, prenorm.d_ff) == (11, 8, 2, 12)
    assert (prenorm.n_heads, prenorm.d_head, prenorm.context) == (3, 3, 64)


def test_the_number_of_heads_must_be_told_and_fit() -> None:
    assert "n_heads=8" in refusal(GOLDEN / "torch_plain.npz")
    assert "n_heads" in refusal(GOLDEN / "torch_plain.npz", n_heads=3)
    assert "n_heads" in refusal(GOLDEN / "torch_plain.npz", n_heads=0)
    assert "no option heads" in refusal(GOLDEN / "torch_plain.npz", n_heads=2, heads=2)
    assert "n_heads" in refusal(GOLDEN / "torch_prenorm.npz", n_heads="3")
    assert "type plain, not prenorm" in refusal(GOLDEN / "torch_plain.npz", n_heads=2, model_type="prenorm")


@both
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_arrays_of_any_precision_order_and_compression(name: str, dtype: str, tmp_path: Path) -> None:
    arrays = {n: np.asfortranarray(a.astype(dtype)) for n, a in golden(f"torch_{name}").items()}
    np.savez_compressed(tmp_path / "model.npz", **arrays)
    model = octavo.load(tmp_path / "model.npz", **OPTIONS[name])
    expected = np.float64 if dtype == "<f8" else np.float32
    assert {p.dtype for p in model.params.values()} == {np.dtype(expected)}
    assert all(p.dtype.isnative for p in model.params.values())
    ids = golden(f"torch_{name}_expected")["windows"][0, 0]
    reference, _ = octavo.load(GOLDEN / f"torch_{name}.npz", **OPTIONS[name]).forward(ids)
    np.testing.assert_allclose(model.forward(ids)[0], reference, atol=2e-2 if dtype == "<f2" else 1e-4)


def test_what_is_missing_unexpected_or_misshapen_is_listed_at_once(tmp_path: Path) -> None:
    arrays = golden("torch_plain")
    del arrays["layers.1.attention.wq.weight"], arrays["fc_out.bias"]
    arrays["extra\n"] = arrays["layers.0.attention.wk.weight"]
    arrays["layers.0.attention.wv.weight"] = arrays["layers.0.attention.wv.weight"][:3]
    arrays["layers.1.attention.wo.weight"][0, 0] = np.nan
    np.savez(tmp_path / "model.npz", **arrays)
    message = refusal(tmp_path / "model.npz", n_heads=2)
    for part in (
        "layers.1.attention.wq.weight (8, 8) is missing",
        "fc_out.bias (11,) is missing",
        r"'extra\n' (8, 8) is unexpected",
        "layers.0.attention.wv.weight has the shape (3, 8), not (8, 8)",
        "layers.1.attention.wo.weight holds values that are NaN",
    ):
        assert part in message


def test_prenorm_arrays_of_the_wrong_shape_are_named(tmp_path: Path) -> None:
    arrays = golden("torch_prenorm")
    arrays["blocks.1.W_Q"] = arrays["blocks.1.W_Q"].reshape(8, 9)
    arrays["blocks.0.W_O"] = arrays["blocks.0.W_O"].T
    del arrays["blocks.1.b_2"]
    np.savez(tmp_path / "model.npz", **arrays)
    message = refusal(tmp_path / "model.npz")
    assert "blocks.1.W_Q" in message
    assert "blocks.0.W_O" in message
    assert "blocks.1.b_2 (8,) is missing" in message
    arrays["blocks.0.W_Q"] = arrays["blocks.1.W_Q"]
    np.savez(tmp_path / "model.npz", **arrays)
    assert "blocks.0.W_Q should have 3 axes and has the shape (8, 9)" in refusal(tmp_path / "model.npz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@both
def test_weights_that_are_no_numbers_are_refused(name: str, value: float, tmp_path: Path) -> None:
    arrays = golden(f"torch_{name}")
    last = list(arrays)[-1]
    arrays[last].flat[0] = value
    np.savez(tmp_path / "model.npz", **arrays)
    assert f"{last} holds values that are NaN or infinite" in refusal(tmp_path / "model.npz", **OPTIONS[name])


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.array([{"a": 1}], object), "object"),
        (np.zeros((11, 8), np.int32), "int32"),
        (np.zeros((11, 8), np.complex64), "complex64"),
        (np.zeros((11, 8), "U4"), "U4"),
        (np.zeros((11, 8), [("a", "f4")]), "a"),
    ],
)
def test_objects_and_other_types_are_refused_and_never_unpickled(
    array: Any, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpickle(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was opened")

    np.savez(tmp_path / "model.npz", **{**golden("torch_plain"), "word_embedding.weight": array})
    monkeypatch.setattr("pickle.load", unpickle)
    monkeypatch.setattr("pickle.loads", unpickle)
    message = refusal(tmp_path / "model.npz", n_heads=2)
    assert named in message
    assert "word_embedding.weight" in message


# ---------------------------------------------------------------- damaged files


def npy(array: Any, *, shape: Any = None, version: bytes = b"\x01\x00") -> bytes:
    """A .npy member whose header may claim another shape than it has."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape or array.shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + array.tobytes()


def archive(path: Path, members: list[tuple[str, bytes]], *, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


W = np.ones((11, 8), np.float32)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (npy(W, shape=(2**40, 8)), "more than it holds"),
        (npy(W, shape=(10**30, 10**30)), "more than it holds"),
        (npy(W, shape=(-11, -8)), "more than it holds"),
        (npy(W, shape=(2**62, 4, 0)), ""),
        (npy(W, shape="(11, 8.0)"), "not a readable"),
        (npy(W, shape="(11, __import__('os'))"), "not a readable"),
        (npy(W, shape="(" * 3000), "not a readable"),
        (npy(W, shape="9" * 9000), "not a readable"),
        (npy(W, version=b"\x07\x00"), "unknown .npy version"),
        (npy(W)[:-1], ""),
        (npy(W)[:20], "not a readable"),
        (b"", "not a readable"),
        (b"not an array", "not a readable"),
    ],
)
def test_headers_that_lie_are_refused(content: bytes, named: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "model.npz", [("word_embedding.weight.npy", content)])
    assert named in refusal(path, n_heads=2)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, peak_memory: Callable[..., int]) -> None:
    bomb = npy(np.zeros((2**22, 8), np.float32))  # 128 MB
    path = archive(tmp_path / "bomb.npz", [("W_E.npy", bomb)], method=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**18
    del bomb
    assert peak_memory(lambda: refusal(path)) < 2**22
    assert "times its own size" in refusal(path)


def test_a_size_that_lies_in_the_directory_does_not_help_a_bomb(
    tmp_path: Path, peak_memory: Callable[..., int]
) -> None:
    content = npy(np.zeros((2**20, 8), np.float32))
    path = archive(tmp_path / "bomb.npz", [("W_E.npy", content)], method=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    real, fake = struct.pack("<I", len(content)), struct.pack("<I", 5000)
    assert data.count(real) >= 2
    path.write_bytes(data.replace(real, fake))
    assert peak_memory(lambda: refusal(path)) < 2**22


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    members = [("W_E.npy", npy(W)), ("W_E.npy", npy(2 * W))]
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path / "model.npz", members)
    assert "two arrays of one name" in refusal(path)


@pytest.mark.parametrize(
    "members",
    [
        [],
        [("a\nb.npy", npy(W))],
        [("W_E.npy", npy(W))],
        [("word_embedding.weight.npy", npy(W))],
        [("word_embedding.weight.npy", npy(W[0]))],
        [("word_embedding.weight.npy", npy(W)), ("layers.99999.x.npy", npy(W))],
        [
            ("W_E.npy", npy(W)),
            ("blocks.0.W_Q.npy", npy(np.zeros((0, 0, 0), "f4"))),
            ("blocks.0.W_1.npy", npy(W)),
        ],
    ],
)
def test_archives_of_something_else_are_refused(members: list[tuple[str, bytes]], tmp_path: Path) -> None:
    message = refusal(archive(tmp_path / "model.npz", members), n_heads=2)
    assert any(part in message for part in ("model.npz", "must be a whole number from 1", "contradicts"))


@pytest.mark.parametrize("keep", [0, 1, 100, 3000, -1, -30])
def test_a_truncated_or_empty_file_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes((GOLDEN / "torch_plain.npz").read_bytes()[:keep])
    assert "model.npz" in refusal(path, n_heads=2)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.npz", [("W_E.npy", npy(W))])
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert "not a readable .npz" in refusal(path)


def test_a_bare_npy_is_no_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, W)
    (tmp_path / "model.npz").write_bytes(buffer.getvalue())
    assert "no model that octavo reads" in refusal(tmp_path / "model.npz")
