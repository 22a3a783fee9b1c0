"""Block formats against the `gguf` package: every number and every bit that is written."""

import numpy as np
import pytest

from octavo.blocks import FORMATS
from octavo.quant import Quantized, quantise

from .conftest import golden

WRITTEN = [name for name, format in FORMATS.items() if format.quantise]


@pytest.mark.parametrize("name", FORMATS)
def test_the_numbers_of_a_format(name: str) -> None:
    known, format = golden("gguf/blocks"), FORMATS[name]
    w = Quantized(known[name].view(format.record), format)
    np.testing.assert_array_equal(np.asarray(w), known[f"{name} numbers"])


@pytest.mark.parametrize("name", WRITTEN)
def test_quantising_rounds_as_the_reference_does(name: str) -> None:
    known = golden("gguf/blocks")
    np.testing.assert_array_equal(quantise(known["matrix"], name).blocks.view(np.uint8), known[name])


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_quantising_halves_loses_nothing_that_they_can_hold(name: str) -> None:
    numbers = golden("gguf/blocks")[f"{name} numbers"]
    np.testing.assert_array_equal(np.asarray(quantise(numbers, name)), numbers)


def test_a_block_has_the_bits_it_is_named_after() -> None:
    bits = {name: 8 * format.record.itemsize / format.items for name, format in FORMATS.items()}
    assert bits == {
        "F16": 16,
        "BF16": 16,
        "Q4_0": 4.5,
        "Q4_1": 5,
        "Q5_0": 5.5,
        "Q5_1": 6,
        "Q8_0": 8.5,
        "Q2_K": 2.625,
        "Q3_K": 3.4375,
        "Q4_K": 4.5,
        "Q5_K": 5.5,
        "Q6_K": 6.5625,
    }
