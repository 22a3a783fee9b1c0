"""Make chat.json: conversations as transformers renders and encodes them with the templates in `templates`.

Run from the repository root: ``python tests/golden/make_chat.py SmolLM2-135M-Instruct.Q4_1.gguf``
(transformers 5, tokenizers, gguf). Nothing here imports octavo. The templates are in the style of published
ones, in our words; in place of `smollm2.jinja` the template in the GGUF file is rendered, which ours must
agree with.
"""

import json
import sys
from pathlib import Path

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
SPECIAL = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
]
SPECIAL += ["<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"]

USER, SYSTEM = {"role": "user", "content": " Who? \n"}, {"role": "system", "content": "Be brief: é🙂."}
ANSWER = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nI. "}
CONVERSATIONS = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turns": [USER, ANSWER, {"role": "user", "content": 'And "then"?\n\nWhat\\n?'}],
    "long": [SYSTEM, USER, ANSWER, USER, ANSWER, USER],
    "answered": [USER, ANSWER],
    "twice": [USER, USER],
}


def tokenizer() -> PreTrainedTokenizerFast:
    """One whose ids are bytes, and the special tokens after them."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    vocab = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(rest)}
    engine = Tokenizer(models.BPE(vocab, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=engine, bos_token="<s>", eos_token="</s>")


def main() -> None:
    """Write the file."""
    made, cases = tokenizer(), []
    templates = {path.stem: path.read_text() for path in sorted((HERE / "templates").glob("*.jinja"))}
    templates["smollm2"] = GGUFReader(sys.argv[1]).fields["tokenizer.chat_template"].contents()
    for name, template in templates.items():
        for conversation, messages in CONVERSATIONS.items():
            for prompting in (True, False):
                asked = {"chat_template": template, "add_generation_prompt": prompting}
                case = {"template": name, "conversation": conversation, "prompting": prompting}
                try:
                    case["text"] = made.apply_chat_template(messages, tokenize=False, **asked)
                    encoded = made.apply_chat_template(messages, tokenize=True, return_dict=True, **asked)
                    case["ids"] = encoded["input_ids"]
                except Exception as error:
                    case["error"] = str(error)
                cases.append(case)
    content = {"special": SPECIAL, "conversations": CONVERSATIONS, "cases": cases}
    lines = json.dumps(content, ensure_ascii=False).replace('{"template"', '\n{"template"')
    (HERE / "chat.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
