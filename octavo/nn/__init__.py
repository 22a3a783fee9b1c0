"""The vocabulary: the operations of the field, each a few lines that read as the published equation.

Every function takes NumPy or JAX arrays and computes with the library that its inputs belong to, so
that one source is the readable NumPy model, the function that JAX differentiates and compiles, and
the specification of every faster kernel. Nothing here knows a model, a file or a device.

Axis letters, used in every shape comment of the package:
B batch, T time (new tokens), S seen positions (slots of a cache), V vocabulary, D width,
H heads, G groups of heads that share keys and values, K width of one head, P learned positions,
U units of a recurrent layer.
"""

from octavo.nn.attending import (
    Cache,
    attention,
    empty_cache,
    extend,
    grow,
    local_attention,
    split_heads,
    stored_as,
    token_positions,
)
from octavo.nn.operations import (
    Array,
    Params,
    Tap,
    View,
    causal_conv,
    embed,
    follow,
    gelu_tanh,
    layer_norm,
    linear,
    log_softmax,
    namespace,
    normal,
    ones,
    orthogonal,
    relu,
    rms_norm,
    sigmoid,
    soft_cap,
    softmax,
    tanh,
    view,
    zeros,
)
from octavo.nn.positions import (
    embed_positions,
    frequencies,
    require_positions,
    rotary,
    rotate,
    sinusoids,
    slowed,
)
from octavo.nn.recurring import recur, scan
from octavo.nn.states import copy_state, first_rows, join_states, write_row

__all__ = [
    "Array",
    "Cache",
    "Params",
    "Tap",
    "View",
    "attention",
    "causal_conv",
    "copy_state",
    "embed",
    "embed_positions",
    "empty_cache",
    "extend",
    "first_rows",
    "follow",
    "frequencies",
    "gelu_tanh",
    "grow",
    "join_states",
    "layer_norm",
    "linear",
    "local_attention",
    "log_softmax",
    "namespace",
    "normal",
    "ones",
    "orthogonal",
    "recur",
    "relu",
    "require_positions",
    "rms_norm",
    "rotary",
    "rotate",
    "scan",
    "sigmoid",
    "sinusoids",
    "slowed",
    "soft_cap",
    "softmax",
    "split_heads",
    "stored_as",
    "tanh",
    "token_positions",
    "view",
    "write_row",
    "zeros",
]
