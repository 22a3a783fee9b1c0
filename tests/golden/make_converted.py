"""Logits that transformers gives for folders which octavo made of GGUF files: `converted.npz`.

The GGUF files are those of `make_gguf.py`, in float32 and written once more in half precision; the ids are
those of `make_transformers.py`. Octavo converts, and nothing of it computes the logits. Run by hand, with
PyTorch and transformers installed and octavo on the path:

    python tests/golden/make_converted.py [FILE.gguf ...]

Of the files that are named, the largest difference to octavo's own logits and ids is only printed.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import octavo
from octavo import quant

HERE = Path(__file__).parent
OPTIONS = {"gemma3": {"query_pre_attn_scalar": 9}}  # which GGUF leaves to the reader
TEXT = "In 1969, 2 astronauts walked on the moon.\n\n\tdef f(x): return x ** 2  # naïve 中文 🙂"


@torch.no_grad()
def logits(folder, ids):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model(torch.tensor(np.atleast_2d(ids))).logits.numpy()


def main():
    made = {}
    for file in sorted((HERE / "gguf").glob("*.gguf")):
        ids = np.load(HERE / "huggingface" / file.stem / "expected.npz")["ids"]
        with tempfile.TemporaryDirectory() as parent:
            model = octavo.load(file, **OPTIONS.get(file.stem, {}))
            octavo.save(model, Path(parent) / "folder")
            made[f"{file.stem}.F32"] = logits(Path(parent) / "folder", ids)
            if file.stem not in OPTIONS:  # GGUF could not tell them of what is written now, either
                octavo.save(model, Path(parent) / "half.gguf", dtype="F16")
                octavo.save(octavo.load(Path(parent) / "half.gguf"), Path(parent) / "half")
                made[f"{file.stem}.F16"] = logits(Path(parent) / "half", ids)
    np.savez_compressed(HERE / "converted.npz", **made)
    for name in sys.argv[1:]:
        model = octavo.load(name)
        with tempfile.TemporaryDirectory() as parent:
            octavo.save(model, Path(parent) / "folder")
            ids = AutoTokenizer.from_pretrained(Path(parent) / "folder")(TEXT, add_special_tokens=False)
            ids, own = ids["input_ids"], model.text_tokenizer().encode(TEXT)
            theirs = logits(Path(parent) / "folder", ids)[0]
        ours = model.with_params(quant.widened(model.params)).forward(ids)[0]
        print(
            name, "same ids" if ids == own else "OTHER ids", np.abs(ours - theirs).max(), np.abs(theirs).max()
        )


if __name__ == "__main__":
    main()
