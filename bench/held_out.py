"""What the models that ship make of text they never learned from.

    python bench/held_out.py [FOLDER OF CORPORA]

`christie-rnn` and `christie-gru` predict the first 5,000 characters of the course's test text, from a zero
state, as the course measures its own models (it reports 5.654 and 3.910). `bard` predicts the last tenth of
tiny Shakespeare, a sample of which chose its weights; it learned from none of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import octavo
from octavo.data import corpus
from octavo.score import losses


def main() -> None:
    cache = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    print("| model | text | per token | per character | bits per byte |")
    print("|---|---|---|---|---|")
    for name in ("christie-rnn", "christie-gru"):
        s = octavo.score(octavo.load(name), corpus("styles-test", cache), limit=5000)
        print(f"| {name} | Styles, test | {s.perplexity:.3f} | {s.per_char:.3f} | {s.bits_per_byte:.3f} |")
    bard = octavo.load("bard")
    tokenizer = bard.text_tokenizer()
    ids = np.array(tokenizer.encode(corpus("tinyshakespeare", cache)))
    ids = ids[len(ids) - len(ids) // 10 :]
    nats = np.concatenate(list(losses(bard, ids)))
    written = tokenizer.decode_bytes(ids[1:].tolist())
    per_token, per_char = np.exp(nats.mean()), np.exp(nats.sum() / len(written.decode()))
    bits = nats.sum() / np.log(2) / len(written)
    print(f"| bard | tiny Shakespeare, last tenth | {per_token:.2f} | {per_char:.3f} | {bits:.3f} |")


if __name__ == "__main__":
    main()
