"""Make karpathy/*: tiny checkpoints of nanoGPT and llama2.c, and the logits that PyTorch computes of them.

Run from the repository root: ``python tests/golden/make_karpathy.py`` (PyTorch 2). Nothing here imports
octavo. The files are laid out as nanoGPT's training script and llama2.c's export write them; the models are
written here in our own words.
"""

import struct
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import gelu, layer_norm, linear, silu

HERE = Path(__file__).parent / "karpathy"
V, TIME, LAYERS = 11, 12, 2


def attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention of heads [B, H, T, K], joined."""
    mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
    scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def heads(x: torch.Tensor, count: int) -> torch.Tensor:
    """[B, T, H*K] -> [B, H, T, K]."""
    return x.unflatten(2, (count, -1)).transpose(1, 2)


# ---------------------------------------------------------------- nanoGPT

ARGS = {"n_layer": LAYERS, "n_head": 2, "n_embd": 8, "block_size": 16, "vocab_size": V, "dropout": 0.1}


def gpt_state(bias: bool) -> dict[str, torch.Tensor]:
    """Random weights under nanoGPT's names; the head is the embedding."""
    d = ARGS["n_embd"]
    shapes = {"wte.weight": (V, d), "wpe.weight": (ARGS["block_size"], d)}
    for i in range(LAYERS):
        shapes |= {
            f"h.{i}.ln_1.weight": (d,),
            f"h.{i}.ln_1.bias": (d,),
            f"h.{i}.attn.c_attn.weight": (3 * d, d),
        }
        shapes |= {f"h.{i}.attn.c_attn.bias": (3 * d,), f"h.{i}.attn.c_proj.weight": (d, d)}
        shapes |= {f"h.{i}.attn.c_proj.bias": (d,), f"h.{i}.ln_2.weight": (d,), f"h.{i}.ln_2.bias": (d,)}
        shapes |= {f"h.{i}.mlp.c_fc.weight": (4 * d, d), f"h.{i}.mlp.c_fc.bias": (4 * d,)}
        shapes |= {f"h.{i}.mlp.c_proj.weight": (d, 4 * d), f"h.{i}.mlp.c_proj.bias": (d,)}
    shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    kept = {name: shape for name, shape in shapes.items() if bias or not name.endswith("bias")}
    state = {f"transformer.{name}": 0.5 * torch.randn(shape) for name, shape in kept.items()}
    return state | {"lm_head.weight": state["transformer.wte.weight"]}


def gpt(state: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """Logits [B, T, V]."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return layer_norm(x, x.shape[-1:], p(name + ".weight"), p(name + ".bias"), 1e-5)

    def project(x: torch.Tensor, name: str) -> torch.Tensor:
        return linear(x, p(name + ".weight"), p(name + ".bias"))

    def p(name: str) -> torch.Tensor | None:
        return state.get(f"transformer.{name}")

    x = p("wte.weight")[ids] + p("wpe.weight")[: ids.shape[1]]
    for i in range(LAYERS):
        q, k, v = project(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").chunk(3, -1)
        a = attended(*(heads(part, ARGS["n_head"]) for part in (q, k, v)))
        x = x + project(a, f"h.{i}.attn.c_proj")
        hidden = gelu(project(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"))
        x = x + project(hidden, f"h.{i}.mlp.c_proj")
    return linear(norm(x, "ln_f"), state["lm_head.weight"])


def make_gpt(name: str, ids: torch.Tensor, bias: bool, prefix: str, dtype: torch.dtype) -> torch.Tensor:
    """Write a checkpoint, return its logits."""
    state = {n: w.to(dtype) for n, w in gpt_state(bias).items()}
    state["lm_head.weight"] = state["transformer.wte.weight"]
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    checkpoint = {
        "model": torch.nn.Module().state_dict() | {prefix + n: w for n, w in state.items()},
        "optimizer": optimizer.state_dict(),
        "model_args": ARGS | {"bias": bias},
        "iter_num": 3,
        "best_val_loss": torch.tensor(1.5),
        "config": {"out_dir": "out", "learning_rate": 6e-4, "compile": True, "dataset": None},
    }
    torch.save(checkpoint, HERE / f"{name}.pt")
    return gpt({n: w.float() for n, w in state.items()}, ids)


# ---------------------------------------------------------------- llama2.c

WIDTH, INNER, H, CONTEXT = 16, 24, 4, 16


def llama_weights(groups: int, shared: bool) -> dict[str, torch.Tensor]:
    """Random weights; those of the layers stacked."""
    kept = WIDTH // H * groups
    shapes = {"embed": (V, WIDTH), "norm1": (LAYERS, WIDTH), "norm2": (LAYERS, WIDTH), "norm": (WIDTH,)}
    shapes |= {"wq": (LAYERS, WIDTH, WIDTH), "wk": (LAYERS, kept, WIDTH), "wv": (LAYERS, kept, WIDTH)}
    shapes |= {"wo": (LAYERS, WIDTH, WIDTH), "w1": (LAYERS, INNER, WIDTH), "w2": (LAYERS, WIDTH, INNER)}
    shapes |= {"w3": (LAYERS, INNER, WIDTH)} | ({} if shared else {"head": (V, WIDTH)})
    return {name: 0.4 * torch.randn(shape) for name, shape in shapes.items()}


def angles() -> torch.Tensor:
    """How far each pair of columns turns at each position [P, K/2]."""
    k = WIDTH // H
    return torch.outer(torch.arange(CONTEXT), 10000.0 ** (-torch.arange(0, k, 2) / k))


def turned(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions of heads [B, H, T, K]: neighbouring columns are a complex number."""
    turn = torch.polar(torch.ones(1), angles()[: x.shape[2]].float())
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)


def llama(w: dict[str, torch.Tensor], groups: int, ids: torch.Tensor) -> torch.Tensor:
    """Logits [B, T, V]."""

    def norm(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain

    x = w["embed"][ids]
    for i in range(LAYERS):
        h = norm(x, w["norm1"][i])
        q, k = turned(heads(h @ w["wq"][i].T, H)), turned(heads(h @ w["wk"][i].T, groups))
        v = heads(h @ w["wv"][i].T, groups)
        k, v = (part.repeat_interleave(H // groups, 1) for part in (k, v))
        x = x + attended(q, k, v) @ w["wo"][i].T
        h = norm(x, w["norm2"][i])
        x = x + (silu(h @ w["w1"][i].T) * (h @ w["w3"][i].T)) @ w["w2"][i].T
    return norm(x, w["norm"]) @ w.get("head", w["embed"]).T


def quantised(w: torch.Tensor, group: int) -> tuple[bytes, torch.Tensor]:
    """Whole numbers of 8 bits and a scale a group, and what they stand for."""
    flat = w.reshape(-1, group)
    scale = flat.abs().max(1).values / 127
    whole = (flat / scale[:, None]).round()
    content = whole.to(torch.int8).numpy().tobytes() + scale.numpy().tobytes()
    return content, (whole * scale[:, None]).reshape(w.shape)


def make_llama(name: str, ids: torch.Tensor, version: int, groups: int, shared: bool) -> torch.Tensor:
    """Write a model, return its logits."""
    w = llama_weights(groups, shared)
    sizes = [WIDTH, INNER, LAYERS, H, groups, V if shared or version else -V, CONTEXT]
    matrices = ["wq", "wk", "wv", "wo", "w1", "w2", "w3"]
    last = [] if shared else ["head"]
    if version == 0:
        order = ["embed", "norm1", *matrices[:4], "norm2", *matrices[4:], "norm"]
        waves = [angles().cos().float().numpy().tobytes(), angles().sin().float().numpy().tobytes()]
        content = struct.pack("<7i", *sizes)
        content += b"".join(
            [*(w[n].numpy().tobytes() for n in order), *waves, *(w[n].numpy().tobytes() for n in last)]
        )
    else:
        content = struct.pack("<Ii7iB", 0x616B3432, version, *sizes, shared)
        content += struct.pack("<i", 8) if version == 2 else b""
        content = content.ljust(256, b"\0") + b"".join(
            w[n].numpy().tobytes() for n in ("norm1", "norm2", "norm")
        )
        for n in ["embed", *matrices, *last]:
            layers = list(w[n]) if w[n].ndim == 3 else [w[n]]
            if version == 1:
                content += w[n].numpy().tobytes()
                continue
            pairs = [quantised(layer, 8) for layer in layers]
            content += b"".join(pair[0] for pair in pairs)
            w[n] = torch.stack([pair[1] for pair in pairs]).reshape(w[n].shape)
    (HERE / f"{name}.bin").write_bytes(content)
    return llama(w, groups, ids)


@torch.no_grad()
def main() -> None:
    """Write every file."""
    torch.manual_seed(0)
    HERE.mkdir(exist_ok=True)
    ids = torch.randint(0, V, (2, TIME))
    with torch.enable_grad():
        logits = {
            "compiled": make_gpt("compiled", ids, True, "_orig_mod.", torch.float32),
            "unbiased": make_gpt("unbiased", ids, False, "", torch.bfloat16),
        }
    logits["first"] = make_llama("first", ids, 0, 4, True)
    logits["first-untied"] = make_llama("first-untied", ids, 0, 2, False)
    logits["float32"] = make_llama("float32", ids, 1, 2, False)
    logits["float32-tied"] = make_llama("float32-tied", ids, 1, 1, True)
    logits["int8"] = make_llama("int8", ids, 2, 2, False)
    torch.save({"a": torch.ones(2)}, HERE / "old.pt", _use_new_zipfile_serialization=False)
    np.savez(HERE / "expected.npz", ids=ids.numpy(), **{n: a.numpy() for n, a in logits.items()})


if __name__ == "__main__":
    main()
