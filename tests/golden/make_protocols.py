"""Make protocols.json: what peers measure of the checkpoints in huggingface/, by protocols of their own.

Run from the repository root: ``python tests/golden/make_protocols.py`` (lm-eval 0.4, transformers 5,
PyTorch 2). Nothing here imports octavo. `strided` is the loop of Hugging Face's guide to perplexity: its
loss of each window times the number of tokens that it is the mean of, where the guide takes one less.
`rolling` is what lm-evaluation-harness gets from its own `HFLM`, and its task wikitext makes of it.
"""

import json
import math
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks.wikitext.preprocess_wikitext import process_results
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

HERE = Path(__file__).parent
ALPHABET = "bcdef ghé\na"
TEXTS = (
    "hé had a bad bed\n\nace fed beef cabbage  deaf\ncafé egg ebb fade each cage ",
    "a",
    "each head had a b",
    "each head had a be",
)
STRIDED = ((16, 8), (16, 16), (16, 5), (9, 1), (400, 7))
ROLLING = (16, 7, 1)


def tokenizer() -> PreTrainedTokenizerFast:
    """A token per character."""
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(ALPHABET)}, unk_token="a"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="\n")


@torch.no_grad()
def strided(model: PreTrainedModel, ids: torch.Tensor, window: int, stride: int) -> dict[str, float]:
    """Hugging Face's guide: the losses that a model gives for labels of which the old ones are masked."""
    total, counted, seen = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + window, ids.shape[1])
        labels = ids[:, begin:end].clone()
        labels[:, : end - begin - (end - seen)] = -100
        loss = model(ids[:, begin:end], labels=labels).loss.item()
        predicted = int((labels[:, 1:] != -100).sum())
        if predicted:
            total, counted = total + loss * predicted, counted + predicted
        seen = end
        if end == ids.shape[1]:
            break
    return {"nats": total, "tokens": counted}


def rolling(model: PreTrainedModel, text: str, window: int) -> dict[str, float]:
    """lm-evaluation-harness: the log-likelihood, and the metrics of its task wikitext."""
    peer = HFLM(pretrained=model, tokenizer=tokenizer(), max_length=window, batch_size=2)
    (found,) = peer.loglikelihood_rolling(
        [Instance("loglikelihood_rolling", {}, (text,), 0)], disable_tqdm=True
    )
    metrics = process_results({"page": text}, (found,))
    (_, words), (_, size) = metrics["word_perplexity"], metrics["byte_perplexity"]
    return {
        "nats": -found,
        "word_perplexity": math.exp(-found / words),
        "byte_perplexity": math.exp(-found / size),
        "bits_per_byte": -found / size / math.log(2),
    }


def main() -> None:
    """Write every number."""
    made = []
    for name in ("llama-tied", "gpt2"):
        model = AutoModelForCausalLM.from_pretrained(HERE / "huggingface" / name, dtype=torch.float32)
        for text in TEXTS:
            ids = torch.tensor([[ALPHABET.index(c) for c in text]])
            case = {"model": name, "text": text, "strided": [], "rolling": []}
            for window, stride in STRIDED:
                if len(text) > 1 and min(window, len(text)) <= 16:
                    sizes = {"window": window, "stride": stride}
                    case["strided"].append({**sizes, **strided(model, ids, window, stride)})
            for window in ROLLING:
                case["rolling"].append({"window": window, **rolling(model, text, window)})
            made.append(case)
    golden = {"alphabet": ALPHABET, "begin": ALPHABET.index("\n"), "cases": made}
    (HERE / "protocols.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
