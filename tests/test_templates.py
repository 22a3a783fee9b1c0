"""Chat templates: as transformers renders them, and what hostile ones come to."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from octavo import OctavoError, templates

from .conftest import GOLDEN

CHAT = json.loads((GOLDEN / "chat.json").read_text(encoding="utf-8"))
CONVERSATIONS, CASES = CHAT["conversations"], CHAT["cases"]
NAMES = sorted({case["template"] for case in CASES})
HELLO = [{"role": "user", "content": "hello"}]


def source(name: str) -> str:
    return (GOLDEN / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_renders_what_transformers_does(name: str) -> None:
    cases = [case for case in CASES if case["template"] == name]
    variables = [
        templates.variables_of(CONVERSATIONS[case["conversation"]], case["prompting"], "<s>", "</s>")
        for case in cases
    ]
    for case, found in zip(cases, templates.renderings(source(name), variables), strict=True):
        if "error" in case:
            assert isinstance(found, OctavoError)
            assert case["error"] in str(found)
        else:
            assert found == case["text"], case


def refusal(template: str, messages: Any = HELLO) -> str:
    with pytest.raises(OctavoError) as caught:
        templates.render(template, messages)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1200
    return message


FORBIDDEN = [
    ("{{ ().__class__.__bases__ }}", "'__class__' of a tuple"),
    ("{{ ''['__class__'] }}", "'__class__'"),
    ("{{ ''|attr('__class__') }}", "'__class__'"),
    ("{{ '{0.__class__}'.format(1) }}", "'__class__'"),
    ("{{ [1]|map(attribute='__class__')|list }}", "'__class__'"),
    ("{{ cycler.__init__.__globals__ }}", "'__init__'"),
    ("{% set f = '{0.__class__}'.format %}{{ f(1) }}", "'__class__'"),
    ("{{ messages.append(1) }}", "'append'"),
    ("{% include 'x' %}", "cannot be used"),
    ("{{ missing.name }}", "'missing' is undefined"),
    ("{{ raise_exception('no\nnever ' ~ 'x' * 5000) }}", "no never"),
    ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    ("{{ 'a' * 10**10 }}", "512 MiB"),
    ("{{ '%10000000000d' % 1 }}", "512 MiB"),
    ("{{ 'a'|center(10**10) }}", "512 MiB"),
    ("{{ 'a' * 2**23 }}", "4,194,304 characters"),
    ("{{ f(1) }}", "calls itself without end"),
    ("{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}", "without end"),
]


def test_what_a_template_must_not_do() -> None:
    """All of them in one process: each stands in a branch of its own, and is an error of its own."""
    branches = "".join(
        f"{{% elif n == {n} %}}{template}" for n, (template, _) in enumerate(FORBIDDEN)
    )  # fmt: skip
    template = "{% macro f(n) %}{{ f(n) }}{% endmacro %}{% if n < 0 %}fine" + branches + "{% endif %}"
    found = templates.renderings(
        template, [{"n": n, "messages": HELLO} for n in range(-1, len(FORBIDDEN))]
    )  # fmt: skip
    assert found[0] == "fine"
    for (source, named), error in zip(FORBIDDEN, found[1:], strict=True):
        assert isinstance(error, OctavoError), source
        assert named in str(error), source
        assert "\n" not in str(error)
        assert len(str(error)) < 1200


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{% if %}", "line 1"),
        ("{{" + "(" * 5000 + "}}", "nested too deeply"),
        ("x" * (2**20 + 1), "1,048,577 characters"),
    ],
)
def test_what_is_no_template(template: str, named: str) -> None:
    assert named in refusal(template)


FOREVER = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "powers": "{{ 1|round(10**9, 'ceil') }}",
    "lists": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
    "{% endfor %}{{ ns.x|tojson }}",
}


@pytest.mark.parametrize("name", FOREVER)
def test_a_template_without_end_is_ended(name: str) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "does not come to an end" in refusal(FOREVER[name])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_nothing_is_written_by_a_template_that_gets_out(tmp_path: Path, monkeypatch: Any) -> None:
    """Were the sandbox to fail, the process could still not write a file."""
    program = tmp_path / "program.py"
    inner = templates.PROGRAM.read_text(encoding="utf-8")
    target = tmp_path / "trace"
    escape = f"    limit()\n    open({str(target)!r}, 'w').write('x' * 100000)\n"
    program.write_text(inner.replace("    limit()\n", escape, 1), encoding="utf-8")
    monkeypatch.setattr(templates, "PROGRAM", program)
    assert "breaks the process" in refusal("a")
    assert target.stat().st_size == 0


@pytest.mark.parametrize(
    "messages",
    [
        *("hello", None, [], [3], {"role": "user"}, [{"role": "user"}]),
        [{"role": "user", "content": None}],
        [{"role": "user", "content": "a", "tool_calls": []}],
    ],
)
def test_what_is_no_conversation(messages: Any) -> None:
    assert "message" in refusal("a", messages)


def test_a_process_that_does_not_answer_is_given_up(monkeypatch: Any, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(templates, "PROGRAM", program)
    monkeypatch.setattr(templates, "PATIENCE", 0.2)
    began = time.monotonic()
    assert "does not come to an end" in refusal("a")
    assert time.monotonic() - began < 20


def test_without_jinja_it_says_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setattr(templates, "find_spec", lambda name: None)
    assert refusal("a") == "a chat template needs Jinja: pip install 'octavo[chat]'"


def test_text_of_any_kind_goes_through() -> None:
    content = "é🙂\u2028\x00\ud800 \"'\\ {{ 1 }} {% raw %}"
    messages = [{"role": "user", "content": content}]
    assert templates.render("{{ messages[0].content }}", messages) == content
