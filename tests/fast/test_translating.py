"""Python as machine code: it computes what Python computes, or says why it cannot."""

import ctypes
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from octavo.fast import code, compiling, expressions
from octavo.fast.calls import Untranslatable, carray, literally
from octavo.fast.compiling import compiled
from octavo.fast.machine import doubles, longs, singles
from octavo.fast.packed import address

HALF, TABLE = np.float32(0.5), np.array([3, 5, 8])
NUMBERS = (-7, -2, -1, 0, 1, 3, 6, 100)


def run(function: Callable[[int, int, int], Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The function as machine code."""
    monkeypatch.setitem(compiling.MADE, "tried", function)
    at = code.loaded(compiling.compile_named("tried", "tried", copied=False), "tried")
    found: Callable[..., int] = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 4)(at)
    return found


def whole_numbers(a: int, b: int, c: int) -> int:
    d = b if b != 0 else 2
    bits = (a << 2) + (a >> 1) + 5 * (a & b) + 7 * (a | c) + 11 * ~b
    return (a // d) * 1000003 + (a % d) * 1009 + bits - b * c + (a - -3) + int(a < b)


def comparisons(a: int, b: int, c: int) -> int:
    found = (a < b) + 2 * (a <= b) + 4 * (a > b) + 8 * (a >= b) + 16 * (a == b) + 32 * (a != b)
    found += 64 * (a < b and b < c) + 128 * (a < b or b < c) + 256 * (not a)
    return found + 512 * min(a, b, c) + 4096 * max(a, b, c)


def branches(a: int, b: int, c: int) -> int:
    if a < b:
        found = 1
    elif a == b:
        found = 2
        if c:
            return -found
    else:
        found = 3
    return found * (10 if c > 0 else 20)


def loops(a: int, b: int, c: int) -> int:
    total = 0
    for i in range(a, b):
        if i % 3 == 1:
            continue
        if i > 50:
            break
        for j in range(i, 0, -2):
            total += i * j
    for i in range(c):
        total += i
    steps = 0
    while True:
        steps += 1
        if steps * steps > a:
            break
    while steps < 20:
        steps *= 2
    return total * 100 + steps


def names_of_several_types(a: int, b: int, c: int) -> int:
    x, y = a, b
    x, y = y, x + 1
    found = x * 10 + y
    for i in range(3):
        z = found + i
        if z > c:
            found -= z
    return found


@compiled
def sign(x: int) -> int:
    if x < 0:
        return -1
    return 1 if x else 0


@compiled
def twice(which: int, x: Any, pair: Any) -> Any:
    which = literally(which)
    if which == 0:
        return x + pair[0]
    if which == 1:
        return x * pair[1]
    return TABLE[which] + x


def functions_of_others(a: int, b: int, c: int) -> int:
    pair = a, sign(b)
    return twice(0, c, pair) * 100 + twice(1, c, pair) * 10 + twice(2, c, pair) + sign(a) * sign(c)


FUNCTIONS = (whole_numbers, comparisons, branches, loops, names_of_several_types)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_whole_numbers_are_those_of_python(
    function: Callable[[int, int, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = run(function, monkeypatch)
    for given in product(NUMBERS, repeat=3):
        assert machine(*given) == function(*given), given


def test_functions_are_written_out_in_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = run(functions_of_others, monkeypatch)
    for a, b, c in product(NUMBERS, repeat=3):
        signs = [(n > 0) - (n < 0) for n in (a, b, c)]
        expected = (c + a) * 100 + c * signs[1] * 10 + (8 + c) + signs[0] * signs[2]
        assert machine(a, b, c) == expected


def test_fractions_have_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """A float32 beside its like stays one; beside a whole number or what is written out it does not."""

    def fractions(a: int, b: int, c: int) -> None:
        x, y, z = carray(singles(a), (c,)), singles(b)[0], doubles(b + 8)
        z[0] = x[0] * y + HALF
        z[1] = x[0] * y + 0.1
        z[2] = x[1] / c
        z[3] = c / (c + 1)
        z[4] = np.sqrt(x[1]) + np.exp(y)
        z[5] = np.float32(c) - np.log(x[1])
        z[6] = np.int32(x[2] * np.float32(1000)) + -y
        z[7] = max(x[0], x[3]) + min(x[3], x[0])  # the latter is no number
        x[1:3] = HALF
        x[0] -= x[2:].size

    x = np.array([1 / 3, 7.3, -2.2, np.nan, 9], np.float32)
    y, z = np.zeros(10), np.zeros(8)
    y.view(np.float32)[0] = 0.7
    a, b, c = x.copy(), y.view(np.float32)[0], len(x)
    assert run(fractions, monkeypatch)(address(x), address(y), c) == 0
    z[:6] = a[0] * b + HALF, float(a[0] * b) + 0.1, float(a[1]) / c, c / (c + 1), np.sqrt(a[1]) + np.exp(b), 0
    z[5] = np.float32(c) - np.log(a[1])
    z[6] = -2200 + float(-b)
    np.testing.assert_array_equal(y[1:5], z[:4])
    np.testing.assert_allclose(y[5:8], z[4:7], rtol=2e-7)
    assert y[8] != y[8]
    np.testing.assert_array_equal(x, np.array([a[0] - 3, 0.5, 0.5, np.nan, 9], np.float32))


def test_a_slice_ends_where_the_array_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def sizes(a: int, b: int, c: int) -> int:
        x = carray(longs(a), (5,))
        return x[b:c].size * 10 + x[1:][:c].size

    compiled_sizes, x = run(sizes, monkeypatch), np.zeros(5, np.int64)
    for b, c in product(range(6), range(5, 9)):
        assert compiled_sizes(address(x), b, c) == len(x[b:c]) * 10 + len(x[1:][:c])


def test_an_index_outside_is_a_failure_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(a: int, b: int, c: int) -> int:
        x = carray(longs(a), (3,))
        x[b] += 1
        return x[c]

    monkeypatch.setattr(expressions.place, "__defaults__", (True,))
    x = np.arange(3)
    found = run(read, monkeypatch)
    assert [found(address(x), b, c) for b, c in ((0, 2), (2, 2), (3, 0), (0, 3), (-1, 0))] == [
        2,
        3,
        -1,
        -1,
        -1,
    ]


def test_what_is_not_reached_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def careful(a: int, b: int, c: int) -> int:
        found = longs(a)[0] if a else 5
        if a and longs(a)[1] > 2:
            found += 1
        if not a or longs(a)[0] > 0:
            found += 10
        return found

    machine, numbers = run(careful, monkeypatch), np.array([4, 3])
    assert (machine(0, 0, 0), machine(address(numbers), 0, 0)) == (15, 15)


def test_what_fails_gives_minus_one(monkeypatch: pytest.MonkeyPatch) -> None:
    @compiled
    def refuse(x: int) -> int:
        if x > 2:
            raise ValueError("no")
        return x

    def fails(a: int, b: int, c: int) -> int:
        return refuse(a) + 7

    machine = run(fails, monkeypatch)
    assert (machine(1, 0, 0), machine(3, 0, 0)) == (8, -1)


def test_what_has_no_meaning_is_refused_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def maybe(a: int, b: int, c: int) -> int:
        if a:
            found = 1
        return found

    def two_types(a: int, b: int, c: int) -> int:
        x = a
        if b:
            x = 0.5
        return x

    def two_types_in_a_loop(a: int, b: int, c: int) -> int:
        x = a
        for _ in range(b):
            c += x
            x = 0.5
        return c

    def a_list(a: int, b: int, c: int) -> int:
        return sum([a, b, c])

    def powers(a: int, b: int, c: int) -> int:
        return a**b  # type: ignore[no-any-return]

    def foreign(a: int, b: int, c: int) -> int:
        return len(str(a))

    def itself(a: int, b: int, c: int) -> int:
        return recursive(a)

    def returns_of_two_types(a: int, b: int, c: int) -> float:
        if a:
            return 0
        return 0.5 * b

    def else_of_a_loop(a: int, b: int, c: int) -> int:
        while a < b:
            a += 1
        else:
            a = 7
        return a

    def size_of_an_array(a: int, b: int, c: int) -> int:
        x = carray(longs(a), (b,))
        x.size += 1
        return int(x.size)

    refused = {
        maybe: "found may have no value",
        two_types: "x may have no value",
        two_types_in_a_loop: "x has several types in a loop",
        a_list: "there is no sum",
        powers: r"a \*\* b has no meaning",
        foreign: "there is no len",
        itself: "with 1 values, in 5",
        returns_of_two_types: "returns_of_two_types returns numbers of several types",
        else_of_a_loop: "a while that has an else",
        size_of_an_array: "x.size takes no value",
    }
    for function, why in refused.items():
        with pytest.raises(Untranslatable, match=why) as caught:
            run(function, monkeypatch)
        assert "test_translating.py, line " in caught.value.__notes__[0]


@compiled
def recursive(a: int) -> int:
    return recursive(a)
