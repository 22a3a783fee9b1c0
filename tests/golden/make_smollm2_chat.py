"""Answers of SmolLM2-135M-Instruct Q4_1 by transformers, for `tests/test_real.py`.

Weights and tokenizer are made as `make_smollm2.py` makes them; the conversations are written by the template
in the file, through transformers' `apply_chat_template`. Nothing of octavo computes here. Run by hand:

    python tests/golden/make_smollm2_chat.py SmolLM2-135M-Instruct.Q4_1.gguf
"""

import json
import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from make_smollm2 import load
from transformers import PreTrainedTokenizerFast

CAPITAL = "What is the capital of France?"
CONVERSATIONS = [
    [("user", CAPITAL)],
    [("user", "Is the sky blue? Answer yes or no.")],
    [("user", "What is 2 + 2?")],
    [("system", "You are a poet."), ("user", "Hi")],
    [("user", CAPITAL), ("assistant", "The capital of France is Paris."), ("user", "Thank you!")],
]
LONGEST, END = 60, "<|im_end|>"


@torch.no_grad()
def main():
    model, tokenizer = load(sys.argv[1])
    template = GGUFReader(sys.argv[1]).fields["tokenizer.chat_template"].contents()
    writer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template)
    end, cases = tokenizer.token_to_id(END), []
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        ids = writer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        written = ids.copy()
        margins = []
        while len(written) < len(ids) + LONGEST and end not in written[len(ids) :]:
            best = model(torch.tensor([written])).logits[0, -1].topk(2)
            margins.append(float(best.values[0] - best.values[1]))
            written.append(int(best.indices[0]))
        written = written[len(ids) :]
        case = {
            "messages": messages,
            "ids": ids,
            "written": written,  # the end of the turn is the last
            "text": tokenizer.decode(written[:-1], skip_special_tokens=False),
            "smallest_margin": round(min(margins), 6),  # of the best logit over the second
        }
        print(repr(case["text"]), written[-1] == end, min(margins))
        if written[-1] == end and min(margins) > 0.01:  # long ones are slow, close ones a matter of rounding
            cases.append(case)
    path = Path(__file__).parent / "smollm2_chat.json"
    path.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
