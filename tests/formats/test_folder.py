"""Octavo's own folder: what stands in it, that it appears whole or not at all, and damaged ones."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import octavo
from octavo import OctavoError
from octavo.formats import folder
from octavo.tokenizers import from_ranks

from ..conftest import build


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a small model in it."""
    octavo.save(build("plain"), tmp_path / "model")
    return tmp_path / "model"


def refusal(path: Path) -> str:
    with pytest.raises(OctavoError) as caught:
        octavo.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    return message


def test_a_folder_holds_three_files_that_others_can_read(saved: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    description = json.loads((saved / "config.json").read_text())
    sizes = {"vocab_size": 11, "d_model": 8, "n_layers": 2, "n_heads": 2, "d_ff": 12, "context": 16}
    assert description == {"model_type": "plain", **sizes}
    arrays = load_file(saved / "model.safetensors")
    assert {n: a.shape for n, a in arrays.items()} == {n: p.shape for n, p in build("plain").params.items()}
    assert (saved.stat().st_mode & 0o777) == 0o755
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_published_family_has_a_fourth_file(name: str, tmp_path: Path) -> None:
    octavo.save(build(name), tmp_path / "model")
    three = ["config.json", "model.safetensors", "tokenizer.json"]
    found = sorted(p.name for p in (tmp_path / "model").iterdir())
    assert found == [*three, "tokenizer_config.json"]
    config = build(name).config
    description = octavo.models.describe(name, config)
    assert (
        folder.read_config(tmp_path / "model" / "config.json") == description
    )  # and nothing of what is beside


def test_extras_are_written_as_they_are(tmp_path: Path) -> None:
    folder.write(tmp_path / "new" / "er", {"a": "é"}, {"w": np.zeros(2)}, None, {"notes.txt": "one\n"})
    assert (tmp_path / "new/er/notes.txt").read_text() == "one\n"
    assert folder.read_config(tmp_path / "new/er/config.json") == {"a": "é"}


# ---------------------------------------------------------------- whole or not at all


def test_nothing_is_replaced(saved: Path) -> None:
    before = {p: p.read_bytes() for p in saved.iterdir()}
    with pytest.raises(OctavoError, match="exists already"):
        octavo.save(build("gru"), saved)
    assert {p: p.read_bytes() for p in saved.iterdir()} == before
    (saved.parent / "file").write_text("")
    (saved.parent / "link").symlink_to(saved.parent / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(OctavoError, match="exists already"):
            octavo.save(build("gru"), saved.parent / name)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    octavo.save(build("gru"), tmp_path / "model")
    assert octavo.load(tmp_path / "model").model_type == "gru"


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OctavoError, match="no folder that may be written to"):
        octavo.save(build("gru"), tmp_path / "file" / "deep" / "model")
    with pytest.raises(OctavoError, match="cannot write"):
        octavo.save(build("gru"), tmp_path / ("n" * 300))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def fail(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("target", ["os.replace", "octavo.tokenizers.files.write", "pathlib.Path.write_text"])
def test_what_fails_leaves_nothing_behind(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, fail)
    with pytest.raises(OctavoError, match="No space left"):
        octavo.save(build("gru"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_under_the_weights_is_an_octavo_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OctavoError, match="No space left"):
        octavo.save(build("gru"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        octavo.save(build("gru"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- damaged folders


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, saved: Path) -> None:
    (saved / name).unlink()
    assert f"{name} is missing" in refusal(saved)


def test_without_a_tokenizer_a_model_takes_ids_only(saved: Path) -> None:
    (saved / "tokenizer.json").unlink()
    model = octavo.load(saved)
    assert model.tokenizer is None
    with pytest.raises(OctavoError, match="no tokenizer; load it with tokenizer="):
        octavo.generate(model, "a")
    assert len(list(octavo.tokens(model, [1], limit=2))) == 2


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"\x00" * 100, b"[1]", b'"a"', b"\xff\xfe", b"[" * 100_000, b"9" * 5000]
)
def test_files_of_something_else_are_refused(name: str, content: bytes, saved: Path) -> None:
    (saved / name).write_bytes(content)
    assert name in refusal(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_in_place_of_a_file_is_refused(name: str, saved: Path) -> None:
    (saved / name).unlink()
    (saved / name).mkdir()
    assert name in refusal(saved)


def test_a_config_of_megabytes_is_not_read(saved: Path) -> None:
    (saved / "config.json").write_text(" " * 2**20 + "{}")
    assert "larger than any config" in refusal(saved)


def edit(saved: Path, **changes: Any) -> None:
    description = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(description | changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": None}, "no model_type"),
        ({"model_type": 5}, "no model_type"),
        ({"model_type": "bert\n" * 500}, "is not supported; there are"),
        ({"d_model": 10}, "has the shape"),
        ({"n_layers": 3}, "is missing"),
        ({"n_layers": 1}, "is unexpected"),
        ({"vocab_size": 12}, "has the shape"),
        ({"n_heads": 3}, "n_heads"),
        ({"hidden_size": 8}, "hidden_size"),
        ({"d_model": 1e30}, "d_model"),
        ({"d_model": "8" * 4000}, "d_model"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changes: dict[str, Any], named: str, saved: Path) -> None:
    edit(saved, **changes)
    assert named in refusal(saved)


def test_a_size_that_the_config_leaves_out_is_asked_for(saved: Path) -> None:
    description = json.loads((saved / "config.json").read_text())
    del description["n_heads"]  # which no weight tells, and whose default is another model's
    (saved / "config.json").write_text(json.dumps(description))
    assert "config.json does not tell n_heads; add it, or give it: n_heads=..." in refusal(saved)
    assert octavo.load(saved, n_heads=2).config == build("plain").config


def test_a_hostile_config_allocates_nothing(saved: Path, peak_memory: Callable[..., int]) -> None:
    edit(saved, d_model=2**24, d_ff=2**24, vocab_size=2**24, n_layers=1000, context=2**24)
    assert peak_memory(lambda: refusal(saved)) < 2**23
    layers = [{"kind": "gru", "units": 2**24}] * 5000
    edit(saved, model_type="gru", layers=layers)
    assert peak_memory(lambda: refusal(saved)) < 2**23


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda a: a.astype(np.int32), "I32"),
        (lambda a: np.full_like(a, np.nan), "NaN"),
        (lambda a: a[:-1], "has the shape"),
        (lambda a: a.astype(np.complex64), "C64"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: Any, named: str, saved: Path) -> None:
    arrays = load_file(saved / "model.safetensors")
    arrays["fc_out.bias"] = np.ascontiguousarray(change(arrays["fc_out.bias"]))
    save_file(arrays, saved / "model.safetensors")
    message = refusal(saved)
    assert "fc_out.bias" in message
    assert named in message


def test_bfloat16_is_widened_without_help_from_another_library(saved: Path) -> None:
    expected = {n: (a.view(np.uint32) >> 16) for n, a in load_file(saved / "model.safetensors").items()}
    header, data = {}, b""
    for name, upper in expected.items():
        part = upper.astype("<u2").tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(upper.shape),
            "data_offsets": [len(data), len(data) + len(part)],
        }
        data += part
    text = json.dumps(header).encode()
    (saved / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    for name, found in octavo.load(saved).params.items():
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.view(np.uint32), expected[name] << 16)


def test_a_folder_has_the_modes_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        octavo.save(build("gru"), tmp_path / "mine")
        os.umask(0o022)
        octavo.save(build("gru"), tmp_path / "ours")
    finally:
        os.umask(before)
    for name, mode in (("mine", 0o700), ("ours", 0o755)):
        folder = tmp_path / name
        assert folder.stat().st_mode & 0o777 == mode
        assert {f.stat().st_mode & 0o777 for f in folder.iterdir()} == {mode & 0o666}


def test_what_the_config_says_is_not_contradicted(saved: Path) -> None:
    with pytest.raises(OctavoError, match="contradicts"):
        octavo.load(saved, vocab_size=7)


# ---------------------------------------------------------------- what stands beside a model


def test_a_chat_template_and_a_generation_config_are_read_and_written_back(tmp_path: Path) -> None:
    template, told = (
        "{{ messages[0].content }}\r\n",
        {"eos_token_id": [3, 5], "temperature": 0.6, "new": {"a": 1}},
    )
    model = replace(build("llama"), chat_template=template, generation_config=told)
    octavo.save(model, tmp_path / "model")
    assert (tmp_path / "model/chat_template.jinja").read_bytes() == template.encode()
    wrapper = json.loads((tmp_path / "model/tokenizer_config.json").read_text())
    assert wrapper["chat_template"] == template
    assert json.loads((tmp_path / "model/generation_config.json").read_text()) == told
    again = octavo.load(tmp_path / "model")
    assert (again.chat_template, again.generation_config) == (template, told)
    assert again.ends == (3, 5)
    (tmp_path / "model/chat_template.jinja").unlink()
    assert octavo.load(tmp_path / "model").chat_template == template


def test_a_family_of_octavo_s_own_keeps_them_too(tmp_path: Path) -> None:
    octavo.save(replace(build("folio"), chat_template="a", generation_config={}), tmp_path / "model")
    again = octavo.load(tmp_path / "model")
    assert (again.chat_template, again.generation_config, again.ends) == ("a", {}, ())


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("b", "b"),
        ([{"name": "tool_use", "template": "c"}, {"name": "default", "template": "d"}], "d"),
        ([{"name": "tool_use", "template": "c"}], None),
        ([], None),
        (None, None),
    ],
)
def test_a_chat_template_is_found_as_transformers_4_wrote_it(told: Any, expected: Any, saved: Path) -> None:
    (saved / "tokenizer_config.json").write_text(json.dumps({"chat_template": told}))
    assert octavo.load(saved).chat_template == expected


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("tokenizer_config.json", b"{", "not readable as JSON"),
        ("tokenizer_config.json", b'{"chat_template": 3}', "chat_template is text, not 3"),
        ("tokenizer_config.json", b'{"chat_template": [{"name": "default"}]}', None),
        ("tokenizer_config.json", b" " * (2**24 + 1), "larger than any tokenizer_config.json"),
        ("chat_template.jinja", b"\xff", "not UTF-8"),
        ("generation_config.json", b"[]", "holds no JSON object"),
        ("generation_config.json", b'{"eos_token_id": "</s>"}', "eos_token_id must be the id of a token"),
        ("generation_config.json", b'{"eos_token_id": [-1]}', "eos_token_id must be the id of a token"),
    ],
)
def test_damaged_companions_are_refused(name: str, content: bytes, named: str | None, saved: Path) -> None:
    (saved / name).write_bytes(content)
    if named is None:
        assert octavo.load(saved).chat_template is None
        return
    message = refusal(saved)
    assert named in message
    assert name in message


def test_a_text_ends_where_its_files_say_so() -> None:
    model = build("llama", eos_token_id=4)
    assert model.ends == (4,)
    assert replace(model, generation_config={"eos_token_id": [1, 2]}).ends == (1, 2)
    assert replace(model, generation_config={"eos_token_id": None}).ends == (4,)
    byte = from_ranks({bytes([i]): i for i in range(256)}, special_tokens={"<|endoftext|>": 256})
    assert build("folio", vocab_size=257, tokenizer=byte).ends == (256,)
    assert build("folio").ends == ()


def test_what_a_header_says_stays_in_its_line(tmp_path: Path) -> None:
    octavo.save(build("gru"), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    content = weights.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].replace(b'"F32"', b'"\\n\\u0000"', 1)
    weights.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    with pytest.raises(OctavoError, match="not floating-point numbers") as refusal:
        octavo.load(tmp_path / "model")
    assert str(refusal.value).isprintable()
