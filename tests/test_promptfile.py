"""Files of prompts: what a line may say, answers in order, and going on after any kind of end."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo import OctavoError
from octavo.promptfile import ROWS, Answering, parsed
from octavo.tokenizers.chars import Char

from .conftest import build
from .test_chat import made, user

LINES: list[dict[str, Any]] = [
    {"prompt": "abc", "limit": 9, "seed": 1},
    {"prompt": "b", "id": "second", "stop": "k"},
    {"prompt": "kj", "temperature": 0, "metadata": {"a": [1, None]}, "id": None},
    {"prompt": "abc", "seed": 2, "top_k": 3, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.1},
    {"prompt": "abc", "logit_bias": {"3": "-inf", "4": 1.5}, "limit": None, "stop": ["zz", 4]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where there is a file `in.jsonl` of the prompts above, with an empty line among them."""
    rows = [json.dumps(line) for line in LINES]
    (tmp_path / "in.jsonl").write_text("\n".join([*rows[:2], "", *rows[2:]]) + "\n")
    return tmp_path


def answering(folder: Path, model: Any = None, **usual: Any) -> Answering:
    usual = usual or {"limit": 6, "options": {"seed": 5}}
    return Answering(model or build("gru"), folder / "in.jsonl", folder / "out.jsonl", **usual)


def run(job: Answering, batch: int = 2) -> list[dict[str, Any]]:
    """Answer what is left -> all that is in the file then."""
    list(job.run(job.prepare(), batch))
    return [json.loads(line) for line in job.out.read_bytes().splitlines()]


def test_answers_are_in_order_with_what_was_asked_of_each(folder: Path) -> None:
    found = run(answering(folder))
    model = build("gru")
    for index, (answer, line) in enumerate(zip(found, LINES, strict=True)):
        options = {k: v for k, v in line.items() if k not in ("prompt", "id", "metadata") and v is not None}
        if "logit_bias" in options:
            options["logit_bias"] = {3: float("-inf"), 4: 1.5}
        text = octavo.generate(model, line["prompt"], **{"limit": 6, "seed": 5, **options})
        assert (answer["index"], answer["text"]) == (index, text)
        assert answer["prompt_tokens"] == len(line["prompt"])
        assert answer["finish_reason"] in ("stop", "length")
        assert answer["tokens"] >= len(text)
        assert {k: v for k, v in answer.items() if k in ("id", "metadata")} == {
            k: v for k, v in line.items() if k in ("id", "metadata")
        }
    assert (folder / "out.jsonl").read_bytes().endswith(b"}\n")


def test_who_was_stopped_anywhere_goes_on(folder: Path) -> None:
    whole = run(answering(folder))
    data, out = (folder / "out.jsonl").read_bytes(), folder / "out.jsonl"
    for end in range(0, len(data), 7):
        out.write_bytes(data[:end])
        job = answering(folder)
        assert job.answered == data[:end].count(b"\n")
        assert run(job, batch=1 + end % 4) == whole
        assert out.read_bytes() == data
    done = answering(folder)
    assert done.answered == len(LINES)
    assert run(done) == whole


def test_what_was_written_when_it_was_closed_is_whole(folder: Path) -> None:
    job = answering(folder)
    made_so_far = job.run(job.prepare(), 2)
    next(made_so_far)
    first = (folder / "out.jsonl").read_bytes()
    assert first.endswith(b"\n")
    other = answering(folder)
    with pytest.raises(OctavoError, match="being written by another command"):
        list(other.run(other.prepare()))
    made_so_far.close()
    assert answering(folder).answered == (folder / "out.jsonl").read_bytes().count(b"\n") >= 1
    assert len(run(answering(folder))) == len(LINES)


def test_answers_to_other_prompts_are_not_mixed_with_these(folder: Path) -> None:
    run(answering(folder))
    before = (folder / "out.jsonl").read_bytes()
    others: list[dict[str, Any]] = [
        {"limit": 7, "options": {"seed": 5}},
        {"limit": 6, "options": {"seed": 6}},
        {"limit": 6, "options": {"seed": 5, "temperature": 0.5}},
        {"limit": 6, "options": {"seed": 5}, "model": build("gru", seed=1)},
        {"limit": 6, "options": {"seed": 5}, "stop": ["q"]},
    ]
    for usual in others:
        with pytest.raises(OctavoError, match=r"line \d of .*out.jsonl answers another prompt"):
            answering(folder, **usual)
    text = (folder / "in.jsonl").read_text()
    (folder / "in.jsonl").write_text(text.replace('"kj"', '"kk"'))
    with pytest.raises(OctavoError, match=r"line 3 of .*out.jsonl answers another prompt"):
        answering(folder)
    (folder / "in.jsonl").write_text("".join(text.splitlines(keepends=True)[:3]))
    with pytest.raises(OctavoError, match=r"line 3 of .*out.jsonl answers another"):  # there are fewer now
        answering(folder)
    (folder / "in.jsonl").write_text(text + '{"prompt": "a"}\n')
    assert answering(folder).answered == len(LINES)  # there are more
    for damage in (b"hello\n", b'{"index": 0}\n', b"[" * 9999 + b"\n", b"\xff\n", b"3\n"):
        (folder / "out.jsonl").write_bytes(damage + before)
        with pytest.raises(OctavoError, match=r"line 1 of .*out.jsonl is no answer"):
            answering(folder)
        assert (folder / "out.jsonl").read_bytes() == damage + before


class Begun(Char):
    """Characters before which a model expects a token."""

    begins_with = (3,)


def test_answers_of_other_tokens_or_weights_are_not_mixed_with_these(folder: Path) -> None:
    model = build("gru")
    alphabet = model.text_tokenizer().decode(range(model.vocab_size))
    run(answering(folder, model))
    name = next(name for name, p in model.params.items() if p.ndim == 2 and len(p) > ROWS)
    weight = model.params[name].copy()
    weight[-1, -1] += 1
    for other in (
        replace(model, tokenizer=Char(alphabet[:-2] + "yz")),
        replace(model, tokenizer=Begun(alphabet)),
        replace(model, tokenizer=Char(alphabet[:-1], ends=True)),
        model.with_params({**model.params, name: weight}),
    ):
        with pytest.raises(OctavoError, match=r"line 1 of .*out.jsonl answers another prompt"):
            answering(folder, other)
    assert answering(folder, replace(model, tokenizer=Char(alphabet))).answered == len(LINES)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_what_has_no_end_is_not_read_for_answers(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for out in (folder / "pipe", Path(os.devnull)):
        with pytest.raises(OctavoError, match=f"{out} is no regular file, which answers are kept in"):
            Answering(build("gru"), folder / "in.jsonl", out)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "line 3 of .* is not JSON"),
        ("[1]", "line 3 of .* is not a JSON object, but list"),
        ("[" * 9999, "line 3 of .* is not JSON"),
        ('{"prompt": "a", "seed": NaN}', "line 3 of .* is not JSON: NaN"),
        ('{"prompt": "a", "metadata": {"b": [1e999]}}', "line 3 of .* is not JSON: 1e999 is too large"),
        ('{"prompt": "a", "temperature": -1e999}', "line 3 of .* is not JSON: -1e999 is too large"),
        (
            '{"prompt": "a", "max_tokens": 3}',
            "line 3 of .* has the field max_tokens, which is none of prompt",
        ),
        ('{"text": "a"}', "line 3 of .* has the field text"),
        ('{"id": 3}', "line 3 of .* has either a prompt or messages"),
        ('{"prompt": "a", "messages": []}', "line 3 of .* has either a prompt or messages"),
        ('{"prompt": 3}', "line 3 of .*: a prompt is a text, not 3"),
        ('{"prompt": ""}', "line 3 of .*: the prompt is empty"),
        ('{"prompt": "aXb"}', "line 3 of .*: unknown character 'X'"),
        ('{"prompt": "a", "limit": 1.5}', "line 3 of .*: limit is the number"),
        ('{"prompt": "a", "limit": "9"}', "line 3 of .*: limit is the number"),
        ('{"prompt": "a", "temperature": "hot"}', "line 3 of .*: temperature must be"),
        ('{"prompt": "a", "temperature": true}', "line 3 of .*: temperature must be"),
        ('{"prompt": "a", "seed": -1}', "line 3 of .*: seed must be"),
        ('{"prompt": "a", "stop": 3}', "line 3 of .*: stop is a text or a list"),
        ('{"prompt": "a", "stop": [3.5]}', "line 3 of .*: stop is a text or a list"),
        ('{"prompt": "a", "stop": [null]}', r"line 3 of .*: stop is a text or a list .* not \[None\]"),
        ('{"prompt": "a", "stop": ["b", true]}', "line 3 of .*: stop is a text or a list"),
        ('{"prompt": "a", "stop": ""}', "line 3 of .*: a stop string"),
        ('{"prompt": "a", "logit_bias": [1]}', "line 3 of .*: logit_bias is an object"),
        ('{"prompt": "a", "logit_bias": {"x": 1}}', "line 3 of .*: logit_bias is an object"),
        ('{"prompt": "a", "logit_bias": {"3": "x"}}', "line 3 of .*: logit_bias gives a token a number"),
        ('{"prompt": "a", "logit_bias": {"999": 1}}', "line 3 of .*: logit_bias names token 999"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "line 3 of .*: this model has no chat template"),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_computed(folder: Path, line: str, named: str) -> None:
    path = folder / "in.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:2], line, *rows[2:]]))
    with pytest.raises(OctavoError, match=named):
        list(answering(folder).prepare())
    assert not (folder / "out.jsonl").exists()


def test_files_that_cannot_be_used(folder: Path) -> None:
    for content, named in (
        (b'{"prompt": "\xff"}', "line 1 of .* is not UTF-8 text: byte 12"),
        (b"", "has no prompts"),
        (b"\n \n", "has no prompts"),
    ):
        (folder / "in.jsonl").write_bytes(content)
        with pytest.raises(OctavoError, match=named):
            answering(folder)
    (folder / "in.jsonl").write_text('{"prompt": "a"}')
    model = build("gru")
    for prompts, out, named in (
        ("none.jsonl", "out.jsonl", "none.jsonl cannot be read"),
        ("in.jsonl", "in.jsonl", "holds the prompts"),
        ("in.jsonl", "none/out.jsonl", "no such folder"),
        ("in.jsonl", ".", "is no regular file"),
        ("none.jsonl", ".", "is no regular file"),
    ):
        with pytest.raises(OctavoError, match=named):
            Answering(model, folder / prompts, folder / out)
    with pytest.raises(OctavoError, match="lookup is for one text"):
        answering(folder, options={"lookup": True})


def test_messages_are_answered_as_in_a_conversation(folder: Path) -> None:
    model = made()
    talks = [[user("hi")], [{"role": "system", "content": "be brief"}, user("é"), user("x")]]
    rows = [json.dumps({"messages": talk, "limit": 12, "seed": 3}) for talk in talks]
    (folder / "in.jsonl").write_text("\n".join(rows))
    found = run(answering(folder, model, options={}))
    for answer, talk in zip(found, talks, strict=True):
        assert answer["text"] == "".join(octavo.chat(model, talk, limit=12, seed=3))
    other = replace(model, chat_template="{{ messages[0].content }}")
    with pytest.raises(OctavoError, match="another model"):
        answering(folder, other, options={})
    (folder / "in.jsonl").write_text('{"messages": ["hi"]}')
    (folder / "out.jsonl").unlink()
    with pytest.raises(OctavoError, match=r"line 1 of .*: a message is a role"):
        list(answering(folder, model).prepare())


def test_the_mark_of_utf_8_is_no_part_of_the_first_line(folder: Path) -> None:
    (folder / "in.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "a", "limit": 1}\r\n')
    assert [line.fields["prompt"] for line in parsed(folder / "in.jsonl")] == ["a"]


def test_what_is_no_character_comes_back_as_it_was(folder: Path) -> None:
    (folder / "in.jsonl").write_text('{"prompt": "a", "id": "\\ud800é", "limit": 1}')
    (answer,) = run(answering(folder))
    assert answer["id"] == "\ud800é"
    assert len(list(parsed(folder / "in.jsonl"))) == 1
