"""The bytes of weights that a step reads: counted, so that no clock is needed to see that more are read."""

import numpy as np
import pytest

from octavo.model import Model
from octavo.quant import Quantized, quantise
from octavo.traffic import weights_read

from .conftest import CONFIGS, V, build


def whole(model: Model) -> int:
    return sum(int(p.nbytes) for p in model.params.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_reads_every_weight_once_but_for_tables(name: str) -> None:
    model = build(name)
    read = weights_read(model)
    assert 0 < read <= whole(model) + max(4 * p.shape[-1] for p in model.params.values())
    tables = [n for n, p in model.params.items() if "embed" in n or n.endswith(("wte.weight", "wpe.weight"))]
    if name in ("llama", "plain", "qwen2"):
        (table,) = (n for n in tables if model.params[n].ndim == 2)
        unread = (V - 1) * model.params[table].shape[1] * 4
        assert read == whole(model) - unread
    if name in ("llama-tied", "prenorm"):  # the table is the output too: a row of it is read twice
        assert read == whole(model) + model.params[next(iter(model.params))].shape[1] * 4


def test_one_hot_layers_read_a_column() -> None:
    model = build("gru")
    assert weights_read(model) == whole(model) - (V - 1) * 18 * 4


def test_blocks_count_as_they_are_held() -> None:
    model = build("llama", hidden_size=64, intermediate_size=96)
    small = model.with_params({n: quantise(p, "Q8_0") if p.ndim == 2 else p for n, p in model.params.items()})
    unread = (V - 1) * small.params["model.embed_tokens.weight"].nbytes // V
    assert weights_read(small) == whole(small) - unread
    assert all(isinstance(p, Quantized | np.ndarray) for p in small.params.values())
