"""Make bpe_tinyshakespeare.json with the educational trainer and encoder of tiktoken.

Run from the repository root: ``python tests/golden/make_bpe.py PATH/tinyshakespeare.txt``.
"""

import json
import sys
from pathlib import Path

import regex
from tiktoken._educational import bpe_encode, bpe_train

PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CHARACTERS, VOCAB_SIZE = 100_000, 400
TEXT = "ANTONIO:\nDo you not hear me speak?  I'll say't 12 times, naïve 中.\n"


def main() -> None:
    """Train on the beginning of the corpus and encode one text."""
    corpus = Path(sys.argv[1]).read_text()[:CHARACTERS]
    ranks = bpe_train(corpus, VOCAB_SIZE, PATTERN, visualise=None)
    ids = [
        id for word in regex.findall(PATTERN, TEXT) for id in bpe_encode(ranks, word.encode(), visualise=None)
    ]
    golden = {
        "characters": CHARACTERS,
        "vocab_size": VOCAB_SIZE,
        "merged": [token.hex() for token, _ in sorted(ranks.items(), key=lambda item: item[1])[256:]],
        "text": TEXT,
        "ids": ids,
    }
    Path(__file__).with_name("bpe_tinyshakespeare.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
