"""The process in which chat templates are rendered; `octavo.templates` starts one for each rendering.

A template is a program that came with a model. Jinja's sandbox keeps it from attributes and from changing
what it is given; that it ends, and in how much memory, only the operating system can promise. So this
process gives itself little of both and then reads what it is to do. It needs nothing but Jinja: one JSON
object in, one out.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

SECONDS = 1.0  # of processor time, after the imports
MEMORY = 512 * 2**20  # bytes of address space; Python and Jinja take a fifth of it
LONGEST = 2**22  # characters of a rendering


def limit() -> None:
    """Let the operating system end this process when it takes too long, and refuse it all but a little."""
    try:
        import resource
    except ImportError:  # Windows: the process that waits ends this one
        return
    for name, most in {"AS": MEMORY, "CORE": 0, "FSIZE": 0, "NPROC": 0}.items():  # no files, no processes
        with contextlib.suppress(ValueError, OSError):  # a lower limit stands already, or there is none
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # nobody handles its signal: that ends a process


def environment() -> Any:
    """Jinja as chat templates expect it (transformers, `apply_chat_template`)."""
    from jinja2 import TemplateError, nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):  # type: ignore[misc, unused-ignore]
        """Jinja's, with an error at once where it would go on with nothing."""

        def unsafe_undefined(self, obj: object, attribute: str) -> Any:
            raise SecurityError(f"it reaches for {attribute!r} of a {type(obj).__name__}")

    class Generation(Extension):
        """``{% generation %}`` marks what an assistant says, for training; here it is only its content."""

        tags = {"generation"}  # noqa: RUF012 - Jinja reads it from the class

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("said"), [], [], body).set_lineno(line)

        def said(self, caller: Any) -> Any:
            return caller()

    def raise_exception(message: object) -> None:
        raise TemplateError(str(message))

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """Not Jinja's own, which escapes what HTML would read."""
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    made = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def answered(work: Callable[[], Any]) -> dict[str, Any]:
    """What a piece of work gives, or in a line why it gives nothing."""
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        return {"value": work()}
    except MemoryError:
        reason = f"it needs more memory than a template gets ({MEMORY // 2**20} MiB)"
    except RecursionError:
        reason = "it is nested too deeply, or calls itself without end"
    except TemplateSyntaxError as error:
        reason = f"line {error.lineno}: {error.message}"
    except TemplateError as error:
        reason = str(error.message or type(error).__name__)
    except Exception as error:  # a template runs operators and methods, which raise what they like
        reason = f"{type(error).__name__}: {error}"
    return {"error": reason[:1000]}


def rendered(template: Any, variables: dict[str, Any]) -> str:
    """The text of a template, unless it is too long."""
    text: str = template.render(**variables)
    if len(text) > LONGEST:
        raise ValueError(f"it writes more than {LONGEST:,} characters")
    return text


def main() -> None:
    """One request, from standard input to standard output."""
    request = json.loads(sys.stdin.buffer.readline())
    sys.path[:0] = request["path"]
    made = environment()
    limit()
    compiled = answered(lambda: made.from_string(request["template"]))
    answers = [
        compiled if "error" in compiled else answered(partial(rendered, compiled["value"], variables))
        for variables in request["variables"]
    ]
    sys.stdout.write(json.dumps(answers))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
