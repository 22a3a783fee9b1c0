"""What is refused in the same words everywhere: impossible sizes, and weights that are not a model's own."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np

from octavo.errors import OctavoError
from octavo.quant import Quantized

Shape: TypeAlias = tuple[int, ...]

SHOWN, LONGEST = 8, 80  # problems that one message names, and characters of a name
LARGEST, DEEPEST = 2**24, 1000  # no published model comes near; a larger number is a damaged file


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, Python's or NumPy's; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a real number that can be compared: not NaN, and neither True nor False."""
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


def is_token_ids(value: Any) -> bool:
    """Whether a value is the id of a token, a list of them, or None."""
    ids = value if isinstance(value, list | tuple) else [0 if value is None else value]
    return all(is_whole(id) and 0 <= id <= LARGEST for id in ids)


def require_sizes(config: Any, *names: str, most: int = LARGEST) -> None:
    """Refuse a field that is not a whole number from 1 to `most`."""
    for name in names:
        value = getattr(config, name)
        if not is_whole(value) or not 1 <= value <= most:
            raise OctavoError(f"{name} must be a whole number from 1 to {most}, not {reprlib.repr(value)}")


def require_positive(config: Any, *names: str) -> None:
    """Refuse a field that is not a number above 0, or that float32 cannot hold and multiply."""
    for name in names:
        value = getattr(config, name)
        if not is_number(value) or not 1e-30 <= value <= 1e30:
            raise OctavoError(f"{name} must be a number above 0 (1e-30 to 1e30), not {reprlib.repr(value)}")


def require_flags(config: Any, *names: str) -> None:
    """Refuse a field that is neither true nor false."""
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise OctavoError(f"{name} must be true or false, not {reprlib.repr(getattr(config, name))}")


def require_token_ids(config: Any, *names: str) -> None:
    """Refuse a field that is no id, no list of ids and not None; lists become tuples."""
    for name in names:
        value = getattr(config, name)
        if not is_token_ids(value):
            raise OctavoError(
                f"{name} must be the id of a token or a list of them, not {reprlib.repr(value)}"
            )
        if isinstance(value, list):
            object.__setattr__(config, name, tuple(value))


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_threads(threads: Any) -> None:
    """Refuse a number of threads that is neither None nor a whole number from 1 to `cores`."""
    if threads is not None and not (is_whole(threads) and 1 <= threads <= cores()):
        raise OctavoError(
            f"threads is a whole number from 1 to {cores()}, the processors that there are, "
            f"not {reprlib.repr(threads)}"
        )


def mismatches(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> list[str]:
    """What is missing, unexpected or misshapen in `found`, a phrase each."""
    missing = [f"{n} {expected[n]} is missing" for n in expected if n not in found]
    unexpected = [f"{printable(n)} {found[n]} is unexpected" for n in found if n not in expected]
    misshapen = [
        f"{n} has the shape {found[n]}, not {expected[n]}"
        for n in expected
        if n in found and tuple(found[n]) != tuple(expected[n])
    ]
    return missing + unexpected + misshapen


def unusable(name: str, weight: Any) -> list[str]:
    """What keeps an array from being a weight: its dtype, or values that are no numbers."""
    if weight.dtype.kind != "f":
        return [f"{name} holds {weight.dtype} values, not floating point numbers"]
    if isinstance(weight, Quantized):  # mapped, as a rule: it is not read through before it is used
        return []
    return [] if np.isfinite(weight).all() else [f"{name} holds values that are NaN or infinite"]


def refuse(source: str, problems: list[str]) -> None:
    """Raise one error of one line that names the problems, if there are any."""
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise OctavoError(f"{source} does not fit its model: {'; '.join(problems[:SHOWN])}{more}")


def require_params(
    shapes: Mapping[str, Shape], params: Mapping[str, np.ndarray[Any, Any]], source: str
) -> None:
    """Refuse params that are not exactly those of `shapes`, in floating point and finite.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        What the architecture's table asks for.
    params : mapping of str to array
        What a file gave.
    source : str
        The file's name, for the message.

    Raises
    ------
    OctavoError
        One line with all that is missing, unexpected, misshapen, of another dtype or not finite;
        after the first eight, their number.

    Examples
    --------
    >>> require_params({"weight": (2, 1)}, {"bias": np.zeros(2)}, "a.npz")
    Traceback (most recent call last):
    octavo.errors.OctavoError: a.npz does not fit its model: weight (2, 1) is missing; bias (2,) is unexpected
    """
    problems = mismatches(shapes, {name: weight.shape for name, weight in params.items()})
    for name in shapes:
        if name in params:
            problems += unusable(name, params[name])
    refuse(source, problems)


def printable(name: str) -> str:
    """A name out of a file, fit for a line of text."""
    name = name if len(name) <= LONGEST else name[:LONGEST] + "..."
    return name if name.isprintable() else ascii(name)
