"""Make torch_*_muon.npz: where two steps of PyTorch's Muon lead the models of make_torch.py.

Run from the repository root, after make_torch.py: ``python tests/golden/make_muon.py`` (PyTorch 2.9 or
newer, no other package). Nothing here imports octavo. The gradients are those of make_torch.py, for the
second step with their signs turned in every other column; matrices between hidden vectors are Muon's, the
rest AdamW's, all clipped together. PyTorch rounds Muon's iteration to bfloat16; here it is kept in float32.
"""

from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
V, LR, DECAY, CLIP = 11, 0.01, 0.1, 0.05
QUICK = ("_embedding.weight", ".conv", ".scale", ".skip", ".mix")
FASTER = 8.0  # as octavo.optimizer says
torch.Tensor.bfloat16 = torch.Tensor.float  # no rounding


def laid_out(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As (out, in): the course's archive of prenorm has its axes in another order."""
    found = {}
    for name, array in arrays.items():
        kind = name.split(".")[-1]
        if kind in ("W_Q", "W_K", "W_V"):
            array = np.concatenate([array[:, :, head].T for head in range(array.shape[2])])
        elif kind in ("W_O", "W_1", "W_2"):
            array = array.T
        found[name] = np.ascontiguousarray(array, np.float32)
    return found


def main() -> None:
    for name in ("rnn", "gru", "gru_before", "lstm", "plain", "prenorm", "llama", "gpt2", "folio"):
        expected = np.load(HERE / f"torch_{name}_expected.npz")
        gradients = laid_out({n[9:]: expected[n] for n in expected.files if n.startswith("gradient/")})
        stored = np.load(HERE / f"torch_{name}.npz")
        arrays = laid_out({n: stored[n] for n in stored.files})
        weights = {n: torch.nn.Parameter(torch.tensor(arrays[n])) for n in gradients}
        others = ("wpe", "gram_", "conv")  # tables, and the taps of convolutions
        hidden = [
            p
            for n, p in weights.items()
            if p.ndim == 2 and V not in p.shape and not any(other in n for other in others)
        ]
        quick = [n for n in weights if n.endswith(QUICK)]
        slow = {n: p for n, p in weights.items() if n not in quick and not any(p is h for h in hidden)}
        tables = [p for p in slow.values() if p.ndim == 2]
        rest = [p for p in slow.values() if p.ndim == 1]
        rules = [
            torch.optim.Muon(hidden, lr=LR, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(tables, lr=LR, betas=(0.9, 0.95), weight_decay=DECAY),
        ]
        if rest:
            rules += [torch.optim.AdamW(rest, lr=LR, betas=(0.9, 0.95), weight_decay=0.0)]
        for n in quick:  # eight times as fast, and decayed like the rest
            decay = DECAY / FASTER if weights[n].ndim == 2 else 0.0
            rules += [torch.optim.AdamW([weights[n]], FASTER * LR, betas=(0.9, 0.95), weight_decay=decay)]
        for step in range(2):
            for n, p in weights.items():
                gradient = torch.tensor(gradients[n])
                if step:
                    gradient[..., ::2] *= -1
                p.grad = gradient
            torch.nn.utils.clip_grad_norm_(weights.values(), CLIP)
            for rule in rules:
                rule.step()
        trained = {n: p.detach().numpy() for n, p in weights.items()}
        np.savez(HERE / f"torch_{name}_muon.npz", **trained)


if __name__ == "__main__":
    main()
