"""Make torch_*.npz: small models written again in PyTorch, their logits, losses, gradients and training.

Run from the repository root: ``python tests/golden/make_torch.py`` (PyTorch 2, no other package).
Nothing here imports octavo. Everything is computed in float64 from float32 weights.

torch_plain.npz and torch_prenorm.npz are archives in the course's own layout, the others hold weights
under octavo's names. Every `*_expected.npz` holds the windows of ids, and of the first batch of them the
logits, the loss and its gradients (`gradient/NAME`, in the layout of the weights); then the losses of a few
steps of training and where they lead (`trained/NAME`).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its customary name

HERE = Path(__file__).parent
V, D, FF, LAYERS, HEADS = 11, 8, 12, 2, 2
HEAD, PRE_HEADS = 3, 3  # the heads of prenorm together are wider than the model
LLAMA_HEADS, GROUPS, WIDTH = 4, 2, 6  # heads, those of keys and values, and the width of one
CONTEXT = 16  # positions that gpt2 learns
WINDOW, BIGRAMS, TRIGRAMS, TAPS = 3, 40, 30, 4  # of folio
STEPS, LR, DECAY, CLIP = 3, 0.01, 0.1, 0.05

Weights = dict[str, torch.Tensor]
Forward = Callable[[Weights, torch.Tensor], torch.Tensor]


def angles(time: int) -> torch.Tensor:
    """Positions times frequencies, [T, D/2]."""
    rates = 10000.0 ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
    return torch.arange(time, dtype=torch.float64)[:, None] * rates


def plain(w: Weights, ids: torch.Tensor) -> torch.Tensor:
    """The first of the course's Transformers."""
    batch, time = ids.shape
    a = angles(time)
    x = F.embedding(ids, w["word_embedding.weight"]) + torch.cat([a.sin(), a.cos()], -1)
    for i in range(LAYERS):
        q, k, v = (
            F.linear(x, w[f"layers.{i}.attention.{n}.weight"])
            .view(batch, time, HEADS, D // HEADS)
            .transpose(1, 2)
            for n in ("wq", "wk", "wv")
        )
        mixed = (
            F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, time, D)
        )
        x = x + F.linear(mixed, w[f"layers.{i}.attention.wo.weight"])
        hidden = F.relu(F.linear(x, w[f"layers.{i}.feed_forward.0.weight"]))
        x = x + F.linear(hidden, w[f"layers.{i}.feed_forward.2.weight"])
    return F.linear(x, w["fc_out.weight"], w["fc_out.bias"])


def prenorm(w: Weights, ids: torch.Tensor) -> torch.Tensor:
    """The second, written with the archive's three-axis projections."""
    batch, time = ids.shape
    a = angles(time)
    x = F.embedding(ids, w["W_E"]) + torch.stack([a.sin(), a.cos()], -1).flatten(1)
    for i in range(LAYERS):
        block = {n.split(".")[-1]: p for n, p in w.items() if n.startswith(f"blocks.{i}.")}
        h = F.rms_norm(x, (D,), eps=1e-9)
        q, k, v = (torch.einsum("btd,dkh->bhtk", h, block[n]) for n in ("W_Q", "W_K", "W_V"))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        x = x + mixed.reshape(batch, time, -1) @ block["W_O"]
        hidden = F.rms_norm(x, (D,), eps=1e-9) @ block["W_1"] + block["b_1"]
        x = x + F.gelu(hidden, approximate="tanh") @ block["W_2"] + block["b_2"]
    return x @ w["W_E"].T


def turned(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions on [B, T, H, K], each pair of columns as one complex number."""
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None, None] * rates
    z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([z.real, z.imag], -1)


def llama(w: Weights, ids: torch.Tensor) -> torch.Tensor:
    """Llama with grouped heads, each group's keys and values repeated."""
    batch, time = ids.shape
    x = F.embedding(ids, w["model.embed_tokens.weight"])
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        h = F.rms_norm(x, (D,), w[layer + "input_layernorm.weight"], 1e-6)
        q, k, v = (
            F.linear(h, w[f"{layer}self_attn.{n}_proj.weight"]).view(batch, time, -1, WIDTH) for n in "qkv"
        )
        k, v = (a.repeat_interleave(LLAMA_HEADS // GROUPS, 2) for a in (turned(k), v))
        q, k, v = (a.transpose(1, 2) for a in (turned(q), k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + F.linear(mixed, w[layer + "self_attn.o_proj.weight"])
        h = F.rms_norm(x, (D,), w[layer + "post_attention_layernorm.weight"], 1e-6)
        hidden = F.silu(F.linear(h, w[layer + "mlp.gate_proj.weight"]))
        hidden = hidden * F.linear(h, w[layer + "mlp.up_proj.weight"])
        x = x + F.linear(hidden, w[layer + "mlp.down_proj.weight"])
    return F.linear(F.rms_norm(x, (D,), w["model.norm.weight"], 1e-6), w["lm_head.weight"])


def gpt2(w: Weights, ids: torch.Tensor) -> torch.Tensor:
    """GPT-2, its matrices (out, in)."""
    batch, time = ids.shape
    x = F.embedding(ids, w["wte.weight"]) + w["wpe.weight"][:time]
    for i in range(LAYERS):
        p = {n.removeprefix(f"h.{i}."): a for n, a in w.items() if n.startswith(f"h.{i}.")}
        h = F.layer_norm(x, (D,), p["ln_1.weight"], p["ln_1.bias"], 1e-5)
        joined = F.linear(h, p["attn.c_attn.weight"], p["attn.c_attn.bias"])
        q, k, v = (a.view(batch, time, HEADS, -1).transpose(1, 2) for a in joined.split(D, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + F.linear(mixed, p["attn.c_proj.weight"], p["attn.c_proj.bias"])
        h = F.layer_norm(x, (D,), p["ln_2.weight"], p["ln_2.bias"], 1e-5)
        hidden = F.gelu(F.linear(h, p["mlp.c_fc.weight"], p["mlp.c_fc.bias"]), approximate="tanh")
        x = x + F.linear(hidden, p["mlp.c_proj.weight"], p["mlp.c_proj.bias"])
    return F.linear(F.layer_norm(x, (D,), w["ln_f.weight"], w["ln_f.bias"], 1e-5), w["wte.weight"])


def convolved(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """[B, T, D] and what a depthwise convolution of its past adds; the first tap is of the present."""
    padded = F.pad(x.transpose(1, 2), (TAPS - 1, 0))
    return x + F.conv1d(padded, taps.T.flip(1)[:, None], groups=D).transpose(1, 2)


def folio(w: Weights, ids: torch.Tensor) -> torch.Tensor:
    """Octavo's own, its window as a mask of the whole attention pattern."""
    batch, time = ids.shape
    last, before = F.pad(ids, (1, 0))[:, :-1], F.pad(ids, (2, 0))[:, :-2]
    pairs = ids * 31337 + last
    triples = (pairs * 31337 + before) % 2**32
    x = F.embedding(ids, w["word_embedding.weight"])
    x = x + F.embedding(pairs % BIGRAMS, w["bigram_embedding.weight"])
    x = x + F.embedding(triples % TRIGRAMS, w["trigram_embedding.weight"])
    x = said = F.rms_norm(x, (D,), eps=1e-6)
    seen = torch.ones(time, time, dtype=torch.bool).tril() & torch.ones(time, time).triu(1 - WINDOW).bool()
    for i in range(LAYERS):
        p = {n.removeprefix(f"layers.{i}."): a for n, a in w.items() if n.startswith(f"layers.{i}.")}
        x = x + p["skip"] * said
        h = convolved(F.rms_norm(x, (D,), eps=1e-6), p["attention.conv"])
        q, k, v = (F.linear(h, p[f"attention.w{n}.weight"]).view(batch, time, HEADS, -1) for n in "qkv")
        q, k = (turned(F.rms_norm(a, (D // HEADS,), eps=1e-6)) for a in (q, k))
        q = q * p["attention.scale"].view(HEADS, 1)
        if i == 0:
            first = v
        else:
            v = v + p["attention.mix"].view(HEADS, -1) * first
        q, k, v = (a.transpose(1, 2) for a in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        x = x + F.linear(mixed, p["attention.wo.weight"])
        h = convolved(F.rms_norm(x, (D,), eps=1e-6), p["feed_forward.conv"])
        x = x + F.linear(F.relu(F.linear(h, p["feed_forward.0.weight"])) ** 2, p["feed_forward.2.weight"])
    return 15 * torch.tanh(F.linear(F.rms_norm(x, (D,), eps=1e-6), w["fc_out.weight"]) / 15)


def plain_weights(draw: Callable[..., torch.Tensor]) -> Weights:
    """Random weights in the archive's layout, without the frequencies."""
    w = {"word_embedding.weight": draw(V, D)}
    for i in range(LAYERS):
        for n in ("wq", "wk", "wv", "wo"):
            w[f"layers.{i}.attention.{n}.weight"] = draw(D, D)
        w[f"layers.{i}.feed_forward.0.weight"] = draw(FF, D)
        w[f"layers.{i}.feed_forward.2.weight"] = draw(D, FF)
    return w | {"fc_out.weight": draw(V, D), "fc_out.bias": draw(V)}


def prenorm_weights(draw: Callable[..., torch.Tensor]) -> Weights:
    """Random weights in the archive's layout."""
    w = {"W_E": draw(V, D)}
    for i in range(LAYERS):
        b = f"blocks.{i}."
        w |= {b + n: draw(D, HEAD, PRE_HEADS) for n in ("W_Q", "W_K", "W_V")}
        w |= {b + "W_O": draw(PRE_HEADS * HEAD, D), b + "W_1": draw(D, FF), b + "b_1": draw(FF)}
        w |= {b + "W_2": draw(FF, D), b + "b_2": draw(D)}
    return w


def llama_weights(draw: Callable[..., torch.Tensor]) -> Weights:
    """Random weights under their published names."""
    w = {"model.embed_tokens.weight": draw(V, D)}
    for i in range(LAYERS):
        attention, mlp = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp."
        w[f"model.layers.{i}.input_layernorm.weight"] = 1 + draw(D)
        w[attention + "q_proj.weight"] = draw(LLAMA_HEADS * WIDTH, D)
        w |= {attention + n: draw(GROUPS * WIDTH, D) for n in ("k_proj.weight", "v_proj.weight")}
        w[attention + "o_proj.weight"] = draw(D, LLAMA_HEADS * WIDTH)
        w[f"model.layers.{i}.post_attention_layernorm.weight"] = 1 + draw(D)
        w |= {mlp + n: draw(FF, D) for n in ("gate_proj.weight", "up_proj.weight")}
        w[mlp + "down_proj.weight"] = draw(D, FF)
    return w | {"model.norm.weight": 1 + draw(D), "lm_head.weight": draw(V, D)}


def gpt2_weights(draw: Callable[..., torch.Tensor]) -> Weights:
    """Random weights under the names of the first published checkpoint, laid out (out, in)."""
    w = {"wte.weight": draw(V, D), "wpe.weight": draw(CONTEXT, D)}
    for i in range(LAYERS):
        b = f"h.{i}."
        w |= {b + "ln_1.weight": 1 + draw(D), b + "ln_1.bias": draw(D)}
        w |= {b + "attn.c_attn.weight": draw(3 * D, D), b + "attn.c_attn.bias": draw(3 * D)}
        w |= {b + "attn.c_proj.weight": draw(D, D), b + "attn.c_proj.bias": draw(D)}
        w |= {b + "ln_2.weight": 1 + draw(D), b + "ln_2.bias": draw(D)}
        w |= {b + "mlp.c_fc.weight": draw(FF, D), b + "mlp.c_fc.bias": draw(FF)}
        w |= {b + "mlp.c_proj.weight": draw(D, FF), b + "mlp.c_proj.bias": draw(D)}
    return w | {"ln_f.weight": 1 + draw(D), "ln_f.bias": draw(D)}


def folio_weights(draw: Callable[..., torch.Tensor]) -> Weights:
    """Random weights under octavo's names."""
    w = {"word_embedding.weight": draw(V, D), "bigram_embedding.weight": draw(BIGRAMS, D)}
    w["trigram_embedding.weight"] = draw(TRIGRAMS, D)
    for i in range(LAYERS):
        attention, mlp = f"layers.{i}.attention.", f"layers.{i}.feed_forward."
        w |= {attention + "conv": draw(TAPS, D), attention + "scale": 1 + draw(HEADS)}
        w |= {f"layers.{i}.skip": draw(D)} | ({attention + "mix": draw(D)} if i else {})
        w |= {attention + f"w{n}.weight": draw(D, D) for n in "qkvo"}
        w |= {mlp + "conv": draw(TAPS, D), mlp + "0.weight": draw(FF, D), mlp + "2.weight": draw(D, FF)}
    return w | {"fc_out.weight": 3 * draw(V, D)}  # large enough for the cap to matter


def stack(kind: str, draw: Callable[..., torch.Tensor]) -> tuple[Weights, Forward]:
    """Two recurrent layers of torch's own (5 and 4 units) and a dense one, on one-hot tokens.

    The weights are named and ordered as octavo's; `forward` reorders them for torch.
    """
    gates = {"rnn": 1, "gru": 3, "gru_before": 3, "lstm": 4}[kind]
    w: Weights = {}
    for i, (width, units) in enumerate([(V, 5), (5, 4)]):
        w[f"layers.{i}.weight_ih"] = draw(gates * units, width)
        w[f"layers.{i}.weight_hh"] = draw(gates * units, units)
        w[f"layers.{i}.bias_ih"] = draw(gates * units)
        if kind == "gru":
            w[f"layers.{i}.bias_hh"] = draw(gates * units)
    w |= {"layers.2.weight": draw(V, 4), "layers.2.bias": draw(V)}

    def forward(w: Weights, ids: torch.Tensor) -> torch.Tensor:
        x = F.one_hot(ids, V).to(torch.float64)
        for i, units in enumerate((5, 4)):
            p = {n.split(".")[-1]: a for n, a in w.items() if n.startswith(f"layers.{i}.")}
            x = reset_before(p, x, units) if kind == "gru_before" else torch_layer(kind, p, x, units)
        return F.linear(x, w["layers.2.weight"], w["layers.2.bias"])

    return w, forward


def torch_layer(kind: str, p: Weights, x: torch.Tensor, units: int) -> torch.Tensor:
    """torch.nn.RNN, GRU (gates r z n) or LSTM (gates i f g o) with these weights."""
    layer = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[kind](
        x.shape[-1], units, batch_first=True, dtype=torch.float64
    )

    def order(a: torch.Tensor) -> torch.Tensor:
        if kind != "gru":
            return a
        z, r, n = a.split(units)
        return torch.cat([r, z, n])

    bias_hh = order(p["bias_hh"]) if "bias_hh" in p else torch.zeros_like(p["bias_ih"])
    named = {
        "weight_ih_l0": order(p["weight_ih"]),
        "weight_hh_l0": order(p["weight_hh"]),
        "bias_ih_l0": order(p["bias_ih"]),
        "bias_hh_l0": bias_hh,
    }
    return torch.func.functional_call(layer, named, (x,))[0]


def reset_before(p: Weights, x: torch.Tensor, units: int) -> torch.Tensor:
    """The GRU of Cho et al. 2014, gate by gate: the reset acts before the recurrent product."""
    (wz, wr, wn), (uz, ur, un) = p["weight_ih"].split(units), p["weight_hh"].split(units)
    bz, br, bn = p["bias_ih"].split(units)
    h, outputs = torch.zeros(x.shape[0], units, dtype=torch.float64), []
    for t in range(x.shape[1]):
        z = torch.sigmoid(x[:, t] @ wz.T + bz + h @ uz.T)
        r = torch.sigmoid(x[:, t] @ wr.T + br + h @ ur.T)
        n = torch.tanh(x[:, t] @ wn.T + bn + (r * h) @ un.T)
        h = z * h + (1 - z) * n
        outputs.append(h)
    return torch.stack(outputs, 1)


def mean_loss(forward: Forward, w: Weights, windows: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the next token."""
    return F.cross_entropy(forward(w, windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def train(forward: Forward, w: Weights, windows: torch.Tensor) -> tuple[Weights, list[float]]:
    """A few steps of AdamW on clipped gradients, decay on matrices only."""
    w = {n: p.detach().clone().requires_grad_() for n, p in w.items()}
    groups = [
        {"params": [p for p in w.values() if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in w.values() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.99), eps=1e-8)
    losses = []
    for batch in windows:
        optimizer.zero_grad()
        loss = mean_loss(forward, w, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(w.values()), CLIP)
        optimizer.step()
        losses.append(loss.item())
    return w, losses


def save(name: str, arrays: dict[str, torch.Tensor | np.ndarray]) -> None:
    """In float32, ids as they are."""
    found = {n: a.detach().numpy() if isinstance(a, torch.Tensor) else a for n, a in arrays.items()}
    kept = {n: a.astype(np.float32) if a.dtype == np.float64 else a for n, a in found.items()}
    np.savez(HERE / f"torch_{name}.npz", **kept)


def main() -> None:
    """Write every file."""
    torch.manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return (0.4 * torch.randn(*shape)).float().double()

    windows = torch.randint(0, V, (STEPS, 2, 8))  # [steps, B, T + 1]
    models: dict[str, tuple[Weights, Forward]] = {
        "plain": (plain_weights(draw), plain),
        "prenorm": (prenorm_weights(draw), prenorm),
        **{kind: stack(kind, draw) for kind in ("rnn", "gru", "gru_before", "lstm")},
        "llama": (llama_weights(draw), llama),  # below the others, which keep the numbers they have
        "gpt2": (gpt2_weights(draw), gpt2),
        "folio": (folio_weights(draw), folio),
    }
    frequencies = {"position_embedding.inv_freq": 10000.0 ** (-np.arange(0, D, 2) / D)}
    for name, (weights, forward) in models.items():
        w = {n: p.requires_grad_() for n, p in weights.items()}
        loss = mean_loss(forward, w, windows[0])
        gradients = torch.autograd.grad(loss, list(w.values()))
        trained, losses = train(forward, w, windows)
        save(name, {**w, **(frequencies if name == "plain" else {})})
        expected = {
            "windows": windows,
            "logits": forward(w, windows[0, :, :-1]),
            "loss": loss,
            "losses": np.array(losses),
            **{f"gradient/{n}": g for n, g in zip(w, gradients, strict=True)},
            **{f"trained/{n}": p for n, p in trained.items()},
        }
        save(f"{name}_expected", expected)


if __name__ == "__main__":
    main()
