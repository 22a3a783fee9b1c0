"""GPT-2 (Radford et al. 2019): a pre-norm decoder Transformer with learned positions.

    x = E[tokens] + P[positions]
    x = x + attention(norm(x));  x = x + mlp(norm(x))     (per layer; LayerNorm with gain and bias)
    mlp(x) = W_2 gelu(W_1 x + b_1) + b_2                  (GELU, published by its tanh approximation; biases)
    logits = E norm(x)                                    (tied to the embedding)

Names are those of the first published checkpoint. Its files hold matrices (in, out), and today's put
"transformer." before each name; here they are (out, in) as everywhere, and the prefix is left out. The text
ends where the learned positions do.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from octavo import nn
from octavo.activations import gelu
from octavo.checks import DEEPEST, require_positive, require_sizes, require_token_ids
from octavo.errors import OctavoError
from octavo.models import published
from octavo.nn import Array

if TYPE_CHECKING:
    from numpy.random import Generator

FIXED = ()
WHOLE = ("wpe.weight",)  # which other programs have in floats
BUFFERS = (".attn.bias", ".attn.masked_bias")
PUBLISHED = {
    "architectures": ["GPT2LMHeadModel"],
    "add_cross_attention": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
}
GELU = {"gelu_new": nn.gelu_tanh, "gelu": gelu}
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # (in, out) in files


@dataclass(frozen=True)
class Config:
    """The fields of a published config.json that say what is computed, and which tokens frame a text."""

    vocab_size: int = 1024
    n_positions: int = 128
    n_embd: int = 128
    n_layer: int = 4
    n_head: int = 4
    n_inner: int | None = None  # 4 n_embd unless said
    activation_function: str = "gelu_new"  # its tanh approximation; "gelu" is GELU itself
    layer_norm_epsilon: float = 1e-5
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require_sizes(self, "vocab_size", "n_positions", "n_embd", "n_head")
        require_sizes(self, "n_layer", most=DEEPEST)
        require_positive(self, "layer_norm_epsilon")
        require_token_ids(self, "bos_token_id", "eos_token_id")
        known = isinstance(self.activation_function, str)
        name = published.SAME.get(self.activation_function, self.activation_function) if known else None
        if name not in GELU:
            found = reprlib.repr(self.activation_function)
            raise OctavoError(
                f"activation_function {found} is not supported, only {', '.join(map(repr, GELU))}"
            )
        object.__setattr__(self, "activation_function", name)
        if self.n_embd % self.n_head:
            raise OctavoError(f"n_embd {self.n_embd} must be a multiple of n_head ({self.n_head})")
        if self.n_inner is None:
            object.__setattr__(self, "n_inner", 4 * self.n_embd)
        require_sizes(self, "n_inner")

    @property
    def context(self) -> int:
        """The length it was trained on."""
        return self.n_positions

    @property
    def longest(self) -> int:
        """How many tokens it can read: the positions are learned one by one."""
        return self.n_positions


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter and its shape."""
    width, inner = c.n_embd, int(c.n_inner or 0)
    table: dict[str, tuple[int, ...]] = {"wte.weight": (c.vocab_size, width)}
    table |= {"wpe.weight": (c.n_positions, width)}
    for i in range(c.n_layer):
        block = f"h.{i}."
        table |= {block + "ln_1.weight": (width,), block + "ln_1.bias": (width,)}
        table |= {block + "attn.c_attn.weight": (3 * width, width), block + "attn.c_attn.bias": (3 * width,)}
        table |= {block + "attn.c_proj.weight": (width, width), block + "attn.c_proj.bias": (width,)}
        table |= {block + "ln_2.weight": (width,), block + "ln_2.bias": (width,)}
        table |= {block + "mlp.c_fc.weight": (inner, width), block + "mlp.c_fc.bias": (inner,)}
        table |= {block + "mlp.c_proj.weight": (width, inner), block + "mlp.c_proj.bias": (width,)}
    return table | {"ln_f.weight": (width,), "ln_f.bias": (width,)}


def initial(c: Config, name: str, shape: tuple[int, ...], rng: Generator) -> Array:
    """A parameter before training: fan-in scaled, each residual branch by the depth besides."""
    if len(shape) == 1:
        return nn.zeros(shape) if name.endswith(".bias") else nn.ones(shape)
    branch_end = name.endswith("c_proj.weight")
    return nn.normal(rng, shape, shape[1] ** -0.5 * ((2 * c.n_layer) ** -0.5 if branch_end else 1))


def init_state(c: Config, batch: int, length: int, like: Array) -> nn.Cache:
    """An empty cache with room for `length` tokens a row."""
    return nn.empty_cache(c.n_layer, batch, length, c.n_head, c.n_embd // c.n_head, like)


def forward(
    p: nn.Params | nn.View, c: Config, tokens: Array, state: nn.Cache | None = None
) -> tuple[Array, nn.Cache]:
    """Tokens [B, T] -> logits [B, T, V] and the cache with the new tokens in it."""
    p = nn.view(p)
    positions = nn.token_positions(tokens, state)  # [B, T]
    x = nn.embed(tokens, p["wte.weight"]) + nn.embed_positions(positions, p["wpe.weight"])  # [B, T, D]
    x = p.tap("embedding", x)
    keys, values = [], []
    for i, block in enumerate(p.each("h.", c.n_layer)):
        past = (state.keys[i], state.values[i]) if state else (None, None)
        h, k, v = attention(block.at("attn."), c, norm(block.at("ln_1."), c, x), positions, past)
        x = x + block.tap("attention", h)
        x = x + block.tap("mlp", mlp(block.at("mlp."), c, norm(block.at("ln_2."), c, x)))
        keys.append(k)
        values.append(v)
    logits = nn.linear(norm(p.at("ln_f."), c, x), p["wte.weight"])  # [B, T, V]
    return logits, nn.Cache(tuple(keys), tuple(values), positions[:, -1] + 1)


def norm(p: nn.View, c: Config, x: Array) -> Array:
    """LayerNorm with the gain and the bias of `p`."""
    return nn.layer_norm(x, c.layer_norm_epsilon, p["weight"], p["bias"])


def attention(
    p: nn.View, c: Config, x: Array, positions: Array, past: tuple[Array | None, Array | None]
) -> tuple[Array, Array, Array]:
    """X [B, T, D] -> what the heads bring [B, T, D], and the keys and values of the cache."""
    heads = nn.split_heads(p.linear("c_attn", x), 3 * c.n_head)  # [B, T, 3 H, K]
    q, k, v = (heads[:, :, i * c.n_head : (i + 1) * c.n_head] for i in range(3))  # [B, T, H, K]
    k, v = nn.extend(past[0], k, positions), nn.extend(past[1], v, positions)  # [B, S, H, K]
    return p.linear("c_proj", nn.attention(q, k, v, positions, p.tap)), k, v


def mlp(p: nn.View, c: Config, x: Array) -> Array:
    """``W_2 gelu(W_1 x + b_1) + b_2``."""
    return p.linear("c_proj", p.tap("hidden", GELU[c.activation_function](p.linear("c_fc", x))))


def from_published(params: dict[str, Array], c: Config) -> dict[str, Array]:
    """The parameters of a file, with or without the prefix and a copy of the tied head."""
    named = {name.removeprefix("transformer."): array for name, array in params.items()}
    if len(named) < len(params):
        raise OctavoError("a parameter is there twice, with and without 'transformer.' before its name")
    named = published.without_copy(named, "lm_head.weight", "wte.weight")
    return {name: turned(name, array) for name, array in named.items()}


def to_published(params: dict[str, Array], c: Config) -> dict[str, Array]:
    """The parameters as today's files hold them."""
    return {f"transformer.{name}": turned(name, array) for name, array in params.items()}


def turned(name: str, array: Array) -> Array:
    """A matrix transposed where files hold it (in, out)."""
    return array.T.copy() if name.endswith(TRANSPOSED) else array
