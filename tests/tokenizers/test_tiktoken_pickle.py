"""The pickled tiktoken.Encoding: read in every protocol, and nothing else ever run."""

import os
import pickle
import pickletools
import time
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import tokenizers
from octavo.errors import OctavoError
from octavo.tokenizers import tiktoken_pickle

from .strategies import damaged_bytes

RANKS = {bytes([i]): i for i in range(256)} | {b"th": 256, b"the": 257}
ENCODING = tiktoken.Encoding(
    "course", pat_str=tokenizers.GPT2, mergeable_ranks=RANKS, special_tokens={"<|endoftext|>": 258}
)
PICKLES = [pickle.dumps(ENCODING, protocol) for protocol in range(6)]
PICKLES.append(pickle.dumps(ENCODING, 2, fix_imports=False))
PICKLES.append(pickletools.optimize(PICKLES[4]))


@pytest.mark.parametrize("data", PICKLES)
def test_every_protocol(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "encoding.pkl"
    path.write_bytes(data)
    tok = tokenizers.open(path)
    assert tok == tokenizers.from_ranks(RANKS, special_tokens={"<|endoftext|>": 258})
    assert tok.encode("the theme <|endoftext|>") == ENCODING.encode_ordinary("the theme <|endoftext|>")
    assert tiktoken_pickle.read(data) == ENCODING.__getstate__()


class Malicious:
    """What unpickling would run."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave a trace."""
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_run(protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Malicious(str(trace)), protocol))
    with pytest.raises(OctavoError, match=r"posix system|nt system"):
        tokenizers.open(tmp_path / "evil.pkl")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps([1, 2]), "holds a list"),
        (pickle.dumps(print), "builtins print"),
        (pickle.dumps({"a": 1}), "holds a dict"),
        (pickle.dumps({1, 2}), "instruction EMPTY_SET"),
        (b"\x80\x04.", "damaged"),
        (b"\x80\x04K\x01K\x02.", "damaged"),
        (b"\x80\x04h\x05.", "damaged"),
        (b"\x80\x04", "damaged"),
        (b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.", "damaged"),
        (b"\x80\x04\x8e" + (2**64 - 1).to_bytes(8, "little") + b"x.", "damaged"),
        (b"\x80\x04}}K\x01s.", "key of type dict"),
        (b"\x80\x04K\x01K\x02\x93.", "something other than text"),
        (b"cos\nsystem\n(S'x'\ntR.", "os system"),
    ],
)
def test_other_pickles_are_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(OctavoError, match=message):
        tiktoken_pickle.read(data)


def state(**changes: Any) -> bytes:
    """A pickle of the class with another state."""
    inner = pickle.dumps(ENCODING.__getstate__() | changes, 4)[11:-1]  # less its header and STOP
    return b"\x80\x04ctiktoken.core\nEncoding\n)\x81" + inner + b"b."


def test_the_helper_makes_readable_pickles() -> None:
    assert tiktoken_pickle.read(state()) == ENCODING.__getstate__()


@pytest.mark.parametrize(
    "changes",
    [
        {"pat_str": 3},
        {"pat_str": "(a+)+$"},
        {"mergeable_ranks": {"a": 1}},
        {"mergeable_ranks": {b"a": True}},
        {"mergeable_ranks": {b"a": 10**40}},
        {"mergeable_ranks": {}},
        {"mergeable_ranks": RANKS | {b"hole": 300}},
        {"mergeable_ranks": {k: v for k, v in RANKS.items() if k != b"z"}},
        {"special_tokens": {"<a>": 3}},
        {"special_tokens": None},
        {"explicit_n_vocab": 3},
    ],
)
def test_states_that_no_encoding_has(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "t.pkl").write_bytes(state(**changes))
    with pytest.raises(OctavoError):
        tokenizers.open(tmp_path / "t.pkl")


@pytest.mark.parametrize("protocol", range(6))
def test_nanogpt_s_table_of_characters(protocol: int, tmp_path: Path) -> None:
    letters = "\n !abcé"
    meta = {"vocab_size": 7, "itos": dict(enumerate(letters)), "stoi": {c: i for i, c in enumerate(letters)}}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta, protocol))
    assert tokenizers.open(tmp_path / "meta.pkl") == tokenizers.char(letters)


@pytest.mark.parametrize(
    "changes",
    [
        *({"itos": table} for table in ({}, {0: "a", 2: "b"}, {0: "b", 1: "a"}, {0: "a", 1: None})),
        *({"itos": {0: "a", 1: "bc"}}, {"stoi": [1]}, {"stoi": {"a": 0}}),
    ],
)
def test_tables_that_are_none(changes: dict[str, Any], tmp_path: Path) -> None:
    meta = {"itos": {0: "a", 1: "b"}, "stoi": {"a": 0, "b": 1}} | changes
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    with pytest.raises(OctavoError, match="stoi and itos"):
        tokenizers.open(tmp_path / "meta.pkl")


def test_an_encoding_pickled_by_name_holds_no_ranks() -> None:
    data = b"\x80\x04ctiktoken.core\nEncoding\n)\x81\x8c\x04gpt2b."
    with pytest.raises(OctavoError, match=r"'gpt2'.*holds no ranks"):
        tiktoken_pickle.read(data)


def test_bombs_stay_small() -> None:
    nested = b"\x80\x04)" + b"\x94h\x00\x86" * 10_000 + b"."  # pairs of pairs of pairs
    with pytest.raises(OctavoError):
        tiktoken_pickle.read(nested)
    doubling = b"\x80\x04N" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b")R."
    with pytest.raises(OctavoError, match="call"):
        tiktoken_pickle.read(doubling)
    call = b"h\x00h\x01h\x02\x86R"
    copies = (
        b"\x80\x04c_codecs\nencode\nq\x00X" + (10_000).to_bytes(4, "little") + b"x" * 10_000
        + b"q\x01X\x06\x00\x00\x00latin1q\x02" + call * 10_000 + b"."
    )  # fmt: skip
    with pytest.raises(OctavoError, match="more bytes than it has"):
        tiktoken_pickle.read(copies)


@given(st.sampled_from(PICKLES).flatmap(damaged_bytes))
@settings(max_examples=400)
def test_damage_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(data)
    message, began = "", time.process_time()
    try:
        tokenizers.open(path).encode("the")
    except OctavoError as error:
        message = str(error)
    assert "\n" not in message
    assert time.process_time() - began < 1


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(OctavoError):
        tiktoken_pickle.read(b"\x80\x04" + data)
