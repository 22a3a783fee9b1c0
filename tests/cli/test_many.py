"""`octavo generate --prompts`: what it prints, how it is stopped, and the options that go with it."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import octavo

ARGS = [
    "generate",
    "-m",
    "shelf/gru",
    "--prompts",
    "in.jsonl",
    "--out",
    "out.jsonl",
    "--seed",
    "3",
    "-n",
    "8",
]


def prompts(count: int, **options: Any) -> None:
    rows = [json.dumps({"prompt": "It was"[: 1 + i % 6], "id": i, **options}) for i in range(count)]
    Path("in.jsonl").write_text("\n".join(rows))


def answers() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_file_of_prompts_is_answered_in_another(run: Any, narrow: Any) -> None:
    prompts(7)
    result = run(*ARGS, "--batch", "3")
    assert "out.jsonl: 7 answers; 56 tokens" in result.stdout
    assert "100% 7 of 7 answered" in result.stdout
    narrow(result.stdout)
    assert result.stderr == ""
    model, found = octavo.load("shelf/gru"), answers()
    assert [answer["id"] for answer in found] == list(range(7))
    for answer in found:
        prompt = "It was"[: 1 + answer["id"] % 6]
        assert answer["text"] == octavo.generate(model, prompt, limit=8, seed=3)
    again = run(*ARGS)
    assert "7 answers, 7 of them by an earlier command; 0 tokens" in again.stdout
    assert answers() == found


def test_json_is_one_object_at_the_end(run: Any) -> None:
    prompts(2)
    found = json.loads(run(*ARGS, "--json").stdout)
    assert found.pop("seconds") > 0
    assert found == {"prompts": 2, "answered": 2, "tokens": 16, "out": "out.jsonl", "finish_reason": "done"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["It"], "say a prompt or --prompts FILE, not both"),
        (["--lookup"], "--lookup is for one text at a time"),
        (["--batch", "0"], "--batch"),
        (["--cache", "float16"], "has no cache to keep in float16"),
        (["--prompts", "none.jsonl"], "none.jsonl cannot be read"),
    ],
)
def test_what_does_not_go_with_it(run: Any, refused: Any, args: list[str], message: str) -> None:
    prompts(2)
    assert message in refused(*ARGS, *args)
    assert not Path("out.jsonl").exists()


def test_out_and_batch_go_with_prompts_and_prompts_with_out(run: Any, refused: Any) -> None:
    assert "go with --prompts" in refused("generate", "-m", "shelf/gru", "It", "--out", "x")
    assert "go with --prompts" in refused("generate", "-m", "shelf/gru", "It", "--batch", "2")
    assert "--prompts needs --out" in refused("generate", "-m", "shelf/gru", "--prompts", "in.jsonl")


def test_a_wrong_line_and_other_answers_are_said_in_a_line(run: Any, refused: Any) -> None:
    Path("in.jsonl").write_text('{"prompt": "It"}\n{"prompt": "It", "best_of": 3}\n')
    assert "line 2 of in.jsonl has the field best_of" in refused(*ARGS)
    prompts(2)
    run(*ARGS)
    assert "line 1 of out.jsonl answers another prompt" in refused(*ARGS, "--temperature", "0.5")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_it_is_stopped_and_goes_on(run: Any, start: Any, sent: signal.Signals) -> None:
    prompts(24, limit=200)
    process = start([*ARGS, "--batch", "4"])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (Path("out.jsonl").exists() and len(answers_so_far()) > 2):
        time.sleep(0.02)
    process.send_signal(sent)
    _, complaints = process.communicate(timeout=60)
    before = len(answers_so_far())
    if sent is signal.SIGINT and before < 24:
        assert process.returncode == 130
        assert b"the same command goes on" in complaints
        assert b"Traceback" not in complaints
    result = run(*ARGS)
    assert before == 24 or f"24 answers, {before} of them by an earlier command" in result.stdout
    assert [answer["index"] for answer in answers()] == list(range(24))
    model = octavo.load("shelf/gru")
    for answer in answers()[::8]:
        prompt = "It was"[: 1 + answer["id"] % 6]
        assert answer["text"] == octavo.generate(model, prompt, limit=200, seed=3)


def answers_so_far() -> list[bytes]:
    return [line for line in Path("out.jsonl").read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


# ---------------------------------------------------------------- the options of one text


def test_lookup_is_counted_and_changes_nothing(run: Any) -> None:
    args = ["generate", "-m", "shelf/plain", "It was the best of times, it was the", "-n", "9", "--json"]
    args += ["--temperature", "0", "--slide"]
    plain, found = (json.loads(run(*args, *more).stdout) for more in ([], ["--lookup"]))
    counted = found.pop("lookup")
    assert 0 <= counted["accepted"] <= counted["guessed"]
    assert found["ids"] == plain["ids"]
    assert "lookup" not in plain


def test_a_text_slides_without_a_note(run: Any) -> None:
    result = run("generate", "-m", "shelf/plain", "It was", "-n", "60", "--seed", "0", "--slide")
    assert result.stderr == ""
    halves = run("generate", "-m", "shelf/plain", "It was", "-n", "9", "--seed", "0", "--cache", "float16")
    assert halves.stdout.startswith("It was")


def test_what_a_model_cannot_do_is_said(refused: Any) -> None:
    gru = ["generate", "-m", "shelf/gru", "It"]
    assert "lookup needs a cache" in refused(*gru, "--lookup")
    assert "has no cache to keep in float16" in refused(*gru, "--cache", "float16")
    assert "float32 or float16, not 'int8'" in refused(
        "generate", "-m", "shelf/plain", "It", "--cache", "int8"
    )
