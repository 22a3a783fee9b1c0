"""What quantising costs in perplexity, by the block format of the matrices.

    python bench/quantised.py [MODEL] [--text NAME] [--tokens 2048] [--shuffle]

Each row reads the same tokens of the same text with the matrices held in another way: as they are in float32,
by `quantize="q8"` and ``"q4"``, and in one format throughout, as llama.cpp's own pure conversions have it
(``Q4_1, all`` is what its Q4_1 loses). What is quantised in the file is widened first. A change of perplexity
may be luck where it is small; the divergence (Kullback and Leibler's, of the next token) from float32 is not.

A published model that is only at hand quantised has few values a block, and quantising it once more in the
same blocks loses nothing. `--shuffle` says what it would lose: the channels of a Llama and its kin are put in
another order, at random, which changes no logit and puts numbers of 32 blocks into each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

import octavo
from octavo import nn
from octavo.data import read_text
from octavo.model import Model
from octavo.nn import Array
from octavo.quant import Quantized, quantise, widened
from octavo.quantising import quantised

FORMATS = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")


def ways(model: Model) -> dict[str, Callable[[], dict[str, Array]]]:
    """The parameters in each way, named; made when they are asked for."""

    def kind(name: str) -> dict[str, Array]:
        return quantised(model.model_type, model.config, dict(model.params), name)

    def pure(format: str) -> dict[str, Array]:
        held = {name: p for name, p in kind("q8").items() if isinstance(p, Quantized)}
        return model.params | {name: quantise(model.params[name], format) for name in held}

    return (
        {"float32": lambda: model.params}
        | {name: partial(kind, name) for name in ("q8", "q4")}
        | {f"{format}, all": partial(pure, format) for format in FORMATS}
    )


def shuffled(
    params: dict[str, Array], heads: int, grouped: int, rng: np.random.Generator
) -> dict[str, Array]:
    """A Llama with its channels in another order: of the stream, of the hidden units, within heads."""
    stream = rng.permutation(params["model.norm.weight"].size)
    made = {}
    for name, p in params.items():
        if name.endswith(("norm.weight", "o_proj.weight", "down_proj.weight")):
            p = p[stream]
        elif not name.endswith("bias"):
            p = p[:, stream]
        made[name] = p
    for prefix in (
        name.removesuffix("mlp.up_proj.weight") for name in params if name.endswith("up_proj.weight")
    ):
        gate, up, down = (f"{prefix}mlp.{n}_proj.weight" for n in ("gate", "up", "down"))
        units = rng.permutation(len(made[up]))
        made |= {gate: made[gate][units], up: made[up][units], down: made[down][:, units]}
        value, out = (f"{prefix}self_attn.{n}_proj.weight" for n in "vo")
        width = len(made[value]) // grouped
        order = rng.permutation(width)
        made[value] = made[value][(np.arange(grouped)[:, None] * width + order).reshape(-1)]
        made[out] = made[out][:, (np.arange(heads)[:, None] * width + order).reshape(-1)]
    return {name: np.ascontiguousarray(p) for name, p in made.items()}


def logits_of(model: Model, ids: Array, window: int) -> Array:
    """Log-probabilities [T, V] of what follows each id, each window read alone."""
    parts = [model.forward(ids[at : at + window])[0] for at in range(0, len(ids), window)]
    return nn.log_softmax(np.concatenate(parts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="bard")
    parser.add_argument("--text", nargs="+", default=["tinyshakespeare"])
    parser.add_argument("--end", type=int, default=60_000, help="characters of the text's end that are read")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--ways", type=int, help="only so many of the rows")
    parser.add_argument("--shuffle", action="store_true")
    options = parser.parse_args()
    model = octavo.load(options.model)
    model = model.with_params({n: np.asarray(p, np.float32) for n, p in widened(model.params).items()})
    ids = np.array(
        model.text_tokenizer().encode(read_text(options.text)[-options.end :])[: options.tokens + 1]
    )
    window = min(options.window, model.context or options.window)
    if options.shuffle:
        c, probe = model.config, model.forward(ids[:3])[0]
        heads = c.num_attention_heads, c.num_key_value_heads
        model = model.with_params(shuffled(model.params, *heads, np.random.default_rng(0)))
        print(f"shuffled: logits differ by at most {abs(model.forward(ids[:3])[0] - probe).max():.1e}")
    print("| weights | MB | perplexity | against float32 | nats of divergence |")
    print("|---|---|---|---|---|")
    base: Array = None
    for name, make in list(ways(model).items())[: options.ways]:
        params = make()
        size = sum(p.nbytes for p in params.values()) / 1e6
        found = logits_of(model.with_params(widened(params)), ids[:-1], window)
        base = found if base is None else base
        losses = [-np.take_along_axis(x, ids[1:, None], -1).mean(dtype=np.float64) for x in (found, base)]
        divergence = (np.exp(base) * (base - found)).sum(-1).mean(dtype=np.float64)
        change = np.exp(losses[0] - losses[1]) - 1
        print(
            f"| {name} | {size:.1f} | {np.exp(losses[0]):.4f} | {change:+.3%} | {divergence:.5f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
