"""Perplexity of the Styles test text by llama.cpp on SmolLM2-135M-Instruct Q4_1, for `tests/test_real.py`.

As `llama-perplexity` counts: chunks of 512 tokens, each read from an empty cache, of which the second half
counts. The cache is in float32: in halves, as llama.cpp has it unless told, the activations that it then
rounds to 8 bits differ enough to move the whole text from 27.87 to 28.00. Nothing of octavo computes here.
Run by hand, with llama-cpp-python installed:

    python tests/golden/make_smollm2_chunked.py SmolLM2-135M-Instruct.Q4_1.gguf styles_test.txt
"""

import json
import math
import sys
from pathlib import Path

import llama_cpp
import numpy as np

WINDOW = 512


def main():
    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    sizes = {"n_ctx": WINDOW, "n_batch": WINDOW}
    model = llama_cpp.Llama(sys.argv[1], logits_all=True, verbose=False, **sizes, **exact)
    text, cases = Path(sys.argv[2]).read_text(encoding="utf-8"), []
    for characters in (2600, len(text)):
        ids = model.tokenize(text[:characters].encode(), add_bos=False, special=False)
        nats = []
        for start in range(0, len(ids) - WINDOW + 1, WINDOW):
            chunk = ids[start : start + WINDOW]
            model.reset()
            model.eval(chunk)
            logits = np.array(model.scores[:WINDOW], np.float64)
            logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            nats += [-logits[at - 1, chunk[at]] for at in range(WINDOW // 2 + 1, WINDOW)]
        perplexity = math.exp(np.mean(nats))
        chunks = len(ids) // WINDOW
        cases.append({"characters": characters, "chunks": chunks, "perplexity": round(perplexity, 5)})
        print(cases[-1], len(nats))
    (Path(__file__).parent / "smollm2_chunked.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
