"""The options of sampling, which every command that writes text has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

from octavo.cli.options import Option
from octavo.errors import OctavoError
from octavo.sample import RECOMMENDED, recommended

if TYPE_CHECKING:
    from octavo.decoding import SamplingOptions
    from octavo.model import Model

PANEL = "Sampling"

TemperatureOption = Annotated[
    float, Option(help="Divides the logits; 0 takes the likeliest token.", rich_help_panel=PANEL)
]
OwnTemperatureOption = Annotated[
    float | None,
    Option(
        help="Divides the logits; 0 takes the likeliest token. \\[default: the model's own, else 1]",
        metavar="FLOAT",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
TopKOption = Annotated[
    int | None,
    Option(help="Draw from the K likeliest tokens.", metavar="K", rich_help_panel=PANEL),
]
TopPOption = Annotated[
    float | None,
    Option(help="Draw from the fewest tokens of total probability P.", metavar="P", rich_help_panel=PANEL),
]
MinPOption = Annotated[
    float | None,
    Option(help="Drop tokens below P times the likeliest one.", metavar="P", rich_help_panel=PANEL),
]
PenaltyOption = Annotated[
    float | None,
    Option(help="Above 1: less of what was written.", metavar="X", rich_help_panel=PANEL),
]
BiasOption = Annotated[
    list[str] | None,
    Option(
        help="Add to a token's logit; -inf bans it. Repeatable.",
        metavar="ID=VALUE",
        rich_help_panel=PANEL,
    ),
]
SeedOption = Annotated[
    int | None, Option(help="The same seed, the same text.", metavar="N", rich_help_panel=PANEL)
]

READING = "Long texts"
SlideOption = Annotated[
    bool,
    Option(
        "--slide",
        help="Past the context, drop the oldest half and read the rest again.",
        rich_help_panel=READING,
    ),
]
CacheOption = Annotated[
    str | None,
    Option(
        help="Keep keys and values as float32 or float16, which is half as large.",
        metavar="TYPE",
        rich_help_panel=READING,
    ),
]
LookupOption = Annotated[
    bool,
    Option(
        "--lookup",
        help="Guess from what the text contains: the same text, sooner if it repeats itself.",
        rich_help_panel=READING,
    ),
]


def chosen(model: Model, **said: Any) -> SamplingOptions:
    """What options say, and where they say nothing (None) the model's own files."""
    options = {name: value for name, value in said.items() if value is not None}
    return cast("SamplingOptions", {**recommended(model.generation_config), **options})


def described(options: SamplingOptions) -> str:
    """The options that shape the distribution, for a person.

    Examples
    --------
    >>> described({"top_p": 0.9, "seed": 1})
    'temperature 1, top_p 0.9'
    """
    shown = {"temperature": 1.0, **options}
    return ", ".join(f"{name} {shown[name]:g}" for name in RECOMMENDED if name in shown)


def biases(items: list[str] | None) -> dict[int, float] | None:
    """The mapping that ``ID=VALUE`` items spell.

    Examples
    --------
    >>> biases(["3=-inf", "4=1.5"])
    {3: -inf, 4: 1.5}
    """
    found = {}
    for item in items or ():
        token, _, bias = item.partition("=")
        try:
            found[int(token)] = float(bias)
        except ValueError:
            raise OctavoError(
                f"--logit-bias takes ID=VALUE, a token's id and a number, not {item!r}"
            ) from None
    return found or None
