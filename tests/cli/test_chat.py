"""`octavo chat`: turns from a pipe and from a terminal, the commands, and Ctrl-C."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import octavo
from octavo import templates

from ..test_chat import made, user

TALK = ["chat", "-m", "talker", "-n", "8", "--seed", "0"]
LONG = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.fixture
def talker(run: Any) -> octavo.Model:
    """A model with a template of its own, in the folder `talker`; answers in ASCII are not to be expected."""
    model = made(context=4096, template=LONG)
    octavo.save(model, "talker")
    return octavo.load("talker")


def expected(model: octavo.Model, messages: list[Any]) -> str:
    return "".join(octavo.chat(model, messages, limit=8, seed=0))


def test_each_line_of_a_pipe_is_a_turn(run: Any, talker: octavo.Model) -> None:
    first = expected(talker, [user("hi")])
    second = expected(talker, [user("hi"), {"role": "assistant", "content": first}, user("é?")])
    result = run(*TALK, stdin="hi\n\né?\r\n")
    assert result.stdout == f"{first}\n{second}\n"
    assert result.stderr == ""


def test_the_mark_of_utf_8_is_no_part_of_the_first_turn(run: Any, talker: octavo.Model) -> None:
    lines = run(*TALK, "--json", stdin=b"\xef\xbb\xbfhi\r\nso").stdout.splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == ["hi", "so"]


def test_json_is_an_object_a_turn(run: Any, talker: octavo.Model) -> None:
    lines = run(*TALK, "--json", "--system", "be brief", stdin="hi\nso").stdout.splitlines()
    first, second = map(json.loads, lines)
    assert list(first) == ["prompt", "text", "tokens", "tokens_per_second", "finish_reason"]
    assert first["text"] == expected(talker, [{"role": "system", "content": "be brief"}, user("hi")])
    assert (first["prompt"], second["prompt"]) == ("hi", "so")
    assert (first["tokens"], first["finish_reason"]) == (8, "length")


def test_commands_and_turns_of_several_lines(run: Any, talker: octavo.Model) -> None:
    script = [
        "/help", "/system be brief", "a\\", "b", '"""', "c", "", '"""', "/save talk.json",
        "/reset", " /said", "/save! talk.json", "/system", "/save bare.json", "/quit", "never",
    ]  # fmt: skip
    result = run(*TALK, stdin="\n".join(script))
    assert "/save FILE" in result.stdout
    assert "never" not in result.stdout
    assert "4 messages" not in result.stderr
    assert "5 messages are in talk.json" in result.stderr
    saved = json.loads(Path("talk.json").read_text())["messages"]
    assert [m["content"] for m in saved[:2]] == ["be brief", " /said"]
    assert saved[2] == {"role": "assistant", "content": expected(talker, saved[:2])}
    assert json.loads(Path("bare.json").read_text())["messages"] == saved[1:]


def test_several_lines_are_one_turn(run: Any, talker: octavo.Model) -> None:
    found = [
        json.loads(line)
        for line in run(*TALK, "--json", stdin='a\\\nb\n"""\nc\n\n"""\nd\\').stdout.splitlines()
    ]
    assert [turn["prompt"] for turn in found] == ["a\nb", "c\n", "d"]


def test_another_template_and_a_text_that_ends_an_answer(run: Any, talker: octavo.Model) -> None:
    Path("my.jinja").write_text("<s>{{ messages[-1].content }}")
    found = json.loads(run(*TALK, "--json", "--template", "my.jinja", stdin="hi").stdout)["text"]
    asked = octavo.chat(talker, [user("hi")], template="<s>{{ messages[-1].content }}", limit=8, seed=0)
    assert found == "".join(asked)
    cut = json.loads(run(*TALK, "--json", "--template", "my.jinja", "--stop", found[2], stdin="hi").stdout)
    assert cut["text"] == found[: found.index(found[2])]


def test_the_sampling_of_the_models_own_files_holds_where_no_option_speaks(run: Any) -> None:
    told = {"do_sample": True, "temperature": 0.5, "top_k": 3, "repetition_penalty": 1.2}
    octavo.save(replace(made(context=4096, template=LONG), generation_config=told), "told")
    model = octavo.load("told")

    def answer(*options: str) -> str:
        return str(run("chat", "-m", "told", "-n", "8", "--seed", "0", *options, stdin="hi").stdout)

    def verb(**options: Any) -> str:
        return "".join(octavo.chat(model, [user("hi")], limit=8, seed=0, **options)) + "\n"

    options = {"temperature": 0.5, "top_k": 3, "repetition_penalty": 1.2}
    assert answer() == verb(**options) != verb()  # the verb samples as it is told, no more
    assert answer("--temperature", "2", "--top-k", "9") == verb(**options | {"temperature": 2.0, "top_k": 9})
    shown = run("chat", "-m", "told", "--top-p", "0.9", stdin="/help").stdout
    assert "Sampling: temperature 0.5, top_k 3, top_p 0.9, repetition_penalty 1.2." in shown


def test_a_model_that_says_not_to_sample_is_greedy(run: Any) -> None:
    told = {"do_sample": False, "temperature": 0.7}
    octavo.save(replace(made(context=4096, template=LONG), generation_config=told), "greedy")
    greedy = "".join(octavo.chat(octavo.load("greedy"), [user("hi")], limit=8, temperature=0)) + "\n"
    assert run("chat", "-m", "greedy", "-n", "8", stdin="hi").stdout == greedy


def test_a_generation_config_that_nobody_can_sample_by_is_refused(run: Any, refused: Any) -> None:
    for name, value in {"temperature": "hot", "top_k": -1, "top_p": 2, "do_sample": "yes"}.items():
        octavo.save(replace(made(template=LONG), generation_config={name: value}), f"bad-{name}")
        message = refused("chat", "-m", f"bad-{name}", stdin="hi")
        assert "generation_config.json" in message
        assert name in message


def test_a_full_context_is_told(run: Any) -> None:
    octavo.save(made(context=64, template=LONG), "small")
    result = run("chat", "-m", "small", "--seed", "1", "--logit-bias", "257=-inf", stdin="hi")
    assert "the context of 64 tokens is full: /reset begins anew" in result.stderr


@pytest.mark.parametrize(
    ("args", "stdin", "message"),
    [
        (["-m", "shelf/gru"], "hi", "no chat template"),
        (["-m", "talker", "--template", "none.jinja"], "hi", "none.jinja cannot be read"),
        (["-m", "talker", "--template", "talker/model.safetensors"], "hi", "not UTF-8"),
        (["-m", "talker"], "/nothing", "no command /nothing"),
        (["-m", "talker"], "/save", "name of a file"),
        (["-m", "talker"], "/save talker/config.json", "/save! talker/config.json replaces it"),
        (["-m", "talker"], "/save none/a.json", "cannot be written"),
        (["-m", "talker"], b"a\xff", "line 1 of standard input is not UTF-8"),
        (["-m", "talker", "--system", "a\udcff"], "hi", "the system message is not UTF-8 text: byte 1"),
        (["-m", "talker"], "x" * 5000, "begin anew (/reset)"),
        (["-m", "talker", "--temperature", "-1"], "hi", "temperature"),
        ([], "hi", "--model"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    refused: Any, talker: octavo.Model, args: list[str], stdin: Any, message: str
) -> None:
    assert message in refused("chat", *args, stdin=stdin)


def test_without_jinja_it_is_said_before_anything_is_typed(
    refused: Any, talker: octavo.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "find_spec", lambda name: None)
    assert "pip install 'octavo[chat]'" in refused(*TALK, stdin="hi")


# ---------------------------------------------------------------- at a terminal


class Terminal:
    """A process at a terminal of its own, and what it has written so far."""

    def __init__(self, *args: str) -> None:
        import pty

        self.master, slave = pty.openpty()
        env = os.environ | {
            "PYTHONPATH": str(Path(octavo.__file__).parents[1]),
            "TERM": "dumb",
            "NO_COLOR": "1",
        }
        command = [sys.executable, "-m", "octavo", *args]
        streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
        self.process = subprocess.Popen(command, env=env, start_new_session=True, **streams)
        os.close(slave)
        self.seen = ""

    def type(self, text: str) -> None:
        """Send keys."""
        os.write(self.master, text.encode())

    def until(self, done: Callable[[str], bool]) -> str:
        """Read until what has come since the last time is enough; return that."""
        since = ""
        while not done(since):
            assert select.select([self.master], [], [], 120)[0], f"nothing more comes after {since!r}"
            since += os.read(self.master, 4096).decode("utf-8", "replace")
        self.seen += since
        return since

    def interrupt(self) -> None:
        """Ctrl-C: the terminal is not the process's own, so the signal is sent."""
        self.process.send_signal(signal.SIGINT)

    def interrupt_prompt(self) -> str:
        """Ctrl-C where `input` waits, and what comes then up to the end or the next prompt.

        A signal that comes between the prompt and the waiting is heard at the next one.
        """
        since = ""
        while not asks(since) and self.process.poll() is None:
            time.sleep(0.3)
            if not since:
                self.interrupt()
            with suppress(OSError):  # the other end is closed
                while select.select([self.master], [], [], 2)[0] and not asks(since):
                    since += os.read(self.master, 4096).decode("utf-8", "replace")
        self.seen += since
        return since

    def end(self) -> int:
        """Wait for the end."""
        code = self.process.wait(300)
        os.close(self.master)
        return code


@pytest.fixture
def terminal(talker: octavo.Model) -> Iterator[Callable[..., Terminal]]:
    """Start commands at terminals; what still runs in the end is killed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    made_here: list[Terminal] = []

    def begin(*args: str) -> Terminal:
        made_here.append(Terminal(*args))
        return made_here[-1]

    yield begin
    for each in made_here:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
    signal.signal(signal.SIGINT, before)


def asks(text: str) -> bool:
    """Whether a prompt is the last thing written."""
    return text.endswith("> ")


def test_control_c_stops_an_answer_and_keeps_the_session(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("chat", "-m", "talker", "--seed", "0")
    begun = screen.until(asks)
    assert "/help" in begun
    assert "sampling: temperature 1\r\n" in begun
    screen.type("tell me\n")
    screen.until(lambda text: len(text.partition("tell me\r\n")[2]) > 40)
    screen.interrupt()
    screen.until(lambda text: text.endswith("\n> "))
    screen.type("/save talk.json\n")
    screen.until(lambda text: "2 messages are in talk.json" in text and asks(text))
    said = json.loads(Path("talk.json").read_text())["messages"]
    assert said[0] == user("tell me")
    assert len(said[1]["content"]) > 10
    screen.type("/save talk.json\n")
    assert "exists already" in screen.until(asks)  # what is refused ends nothing
    screen.type("\x04")
    assert screen.end() == 0
    assert "Traceback" not in screen.seen


def test_control_c_at_the_prompt_clears_the_line_and_a_second_leaves(
    terminal: Callable[..., Terminal],
) -> None:
    screen = terminal("chat", "-m", "talker", "--seed", "0", "-n", "3")
    screen.until(asks)
    screen.type("never sent")
    screen.until(lambda text: "never sent" in text)
    assert "Ctrl-C once more" in screen.interrupt_prompt()
    screen.type("hi\n")
    screen.until(asks)
    screen.type("/save talk.json\n")
    screen.until(lambda text: "messages are in" in text and asks(text))
    assert json.loads(Path("talk.json").read_text())["messages"][0] == user("hi")
    for _ in range(2):
        screen.interrupt_prompt()
    assert screen.end() == 0
    assert "Traceback" not in screen.seen


def test_control_c_ends_a_script(talker: octavo.Model, start: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "octavo", "chat", "-m", "talker", "--seed", "0"],
        env=os.environ | {"PYTHONPATH": str(Path(octavo.__file__).parents[1])},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"hi\nagain\n")
    process.stdin.flush()
    assert len(process.stdout.read(20)) == 20
    process.send_signal(signal.SIGINT)
    rest, complaints = process.communicate(timeout=300)
    assert process.returncode == 130
    assert rest.endswith(b"\n")
    assert complaints == b""
