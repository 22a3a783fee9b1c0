"""Quantising a model: which of its matrices are held in blocks, and in blocks of which format.

`octavo.quant` holds one matrix in blocks, `octavo.blocks` says what they mean. Of a model every matrix is
quantised that is asked for nothing but ``x @ w.T`` and ``w[ids]``; an architecture names the others in
`WHOLE`. Norms, biases and matrices whose rows are no whole number of blocks stay as they are.
"""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

from octavo import models
from octavo.blocks import FORMATS, Format
from octavo.errors import OctavoError
from octavo.nn import Array
from octavo.quant import Quantized, quantise


class Kind(NamedTuple):
    """The block formats of a model."""

    matrices: str
    tables: str  # with a row for each token: embeddings and the output, where an error touches every logit


KINDS = {"q8": Kind("Q8_0", "Q8_0"), "q4": Kind("Q4_1", "Q8_0")}
"""What `quantize` may say."""


def require_kind(kind: Any) -> None:
    """Refuse a `quantize` that is neither None nor one of `KINDS`."""
    if kind is not None and not (isinstance(kind, str) and kind in KINDS):
        raise OctavoError(f"quantize is {' or '.join(map(repr, KINDS))}, not {reprlib.repr(kind)}")


def bits(format: Format) -> float:
    """The bits that a weight takes, its share of the scales included.

    Examples
    --------
    >>> {name: bits(FORMATS[name]) for name in ("Q8_0", "Q4_1", "Q4_0", "Q6_K")}
    {'Q8_0': 8.5, 'Q4_1': 5.0, 'Q4_0': 4.5, 'Q6_K': 6.5625}
    """
    return 8 * format.record.itemsize / format.items


def quantised(model_type: str, config: Any, params: dict[str, Array], kind: str) -> dict[str, Array]:
    """The parameters with their matrices in blocks.

    Parameters
    ----------
    model_type : str
        A key of `octavo.models.ARCHITECTURES`.
    config
        Its config.
    params : dict of arrays
        Is emptied, so that the memory of each matrix is free once it stands in blocks. What is quantised
        already is left as it is, if it takes no more bits than it would then; otherwise it is quantised
        from its numbers, with the losses of both.
    kind : {"q8", "q4"}
        8 bits for every matrix (Q8_0), or 4 (Q4_1) but for the tables with a row for each token.

    Raises
    ------
    OctavoError
        If there is no such kind, no matrix can be held in blocks, or a number is too large for them.

    Examples
    --------
    >>> import octavo
    >>> bard = octavo.load("bard")
    >>> small = quantised(bard.model_type, bard.config, dict(bard.params), "q4")
    >>> small["layers.0.attention.wq.weight"], small["fc_out.weight"]
    (Quantized(Q4_1, (512, 512)), Quantized(Q8_0, (1024, 512)))
    """
    require_kind(kind)
    whole = getattr(models.architecture(model_type), "WHOLE", ())
    made: dict[str, Array] = {}
    for name in list(params):
        array = params.pop(name)
        if array.ndim == 2 and not name.endswith(whole):
            is_table = array.shape[0] == config.vocab_size
            array = _narrowed(name, array, KINDS[kind].tables if is_table else KINDS[kind].matrices)
        made[name] = array
    if not any(isinstance(array, Quantized) for array in made.values()):
        raise OctavoError(
            f"no matrix of this {model_type} model can be quantised: octavo holds those in blocks whose rows "
            "are a multiple of 32; leave quantize out"
        )
    return made


def _narrowed(name: str, array: Array, format: str) -> Array:
    """A matrix in a format, unless it is in as few bits already or its rows are no whole number of blocks."""
    target = FORMATS[format]
    if array.shape[1] % target.items:
        return array
    if isinstance(array, Quantized) and bits(array.format) <= bits(target):
        return array
    try:
        return quantise(array, format)
    except OctavoError as error:
        raise OctavoError(f"{name}: {error}") from None
