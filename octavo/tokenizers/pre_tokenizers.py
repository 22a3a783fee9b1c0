"""How GGUF files name the patterns that split a text before byte pairs are merged.

``tokenizer.ggml.pre`` holds one of llama.cpp's names. Each stands for patterns that split one after the
other, for whether a word that is a token is taken whole, and for whether a text begins with a token of its
own when the file does not say. A name that is not in the table is refused: another split gives other ids.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from octavo.errors import OctavoError
from octavo.tokenizers import tokenizer_json
from octavo.tokenizers.patterns import (
    CL100K,
    CODER_HAN,
    CODER_LETTERS,
    CODER_PUNCTUATION,
    DEEPSEEK3,
    DIGIT,
    DIGITS,
    GPT2,
    HAN,
    LINE_ENDS,
    O200K,
    PUNCTUATION,
    PUNCTUATION_TICK,
    QWEN2,
    TEKKEN,
    THREE_DIGITS,
    UP_TO_THREE_DIGITS,
)


class Splits(NamedTuple):
    """The patterns in order; `whole` if a word that is a token is no longer merged; `begins` by default."""

    patterns: tuple[str, ...]
    whole: bool = False
    begins: bool = False


_GPT2, _SMOLLM, _LLAMA3 = Splits((GPT2,)), Splits((DIGIT, GPT2)), Splits((CL100K,), whole=True, begins=True)
_DBRX, _GLM4, _QWEN2 = Splits((CL100K,)), Splits((CL100K,), whole=True), Splits((QWEN2,))
_O200K, _TEKKEN = Splits((O200K,)), Splits((TEKKEN,), whole=True, begins=True)
_DEFAULT = Splits((PUNCTUATION, GPT2, DIGITS, THREE_DIGITS))
_FALCON = Splits((PUNCTUATION_TICK, GPT2, THREE_DIGITS))
_CODER = Splits((LINE_ENDS, CODER_LETTERS, CODER_PUNCTUATION, CODER_HAN, DIGIT))
_DEEPSEEK3 = Splits((UP_TO_THREE_DIGITS, HAN, DEEPSEEK3))

# The first name of a row is the one that is written.
NAMES: dict[str, Splits] = {
    name: splits
    for splits, names in (
        (_GPT2, "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe"),
        (_GPT2, "gigachat a.x-4.0 mellum modern-bert exaone4 mpt olmo jais trillion granite-docling"),
        (_SMOLLM, "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"),
        (_LLAMA3, "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano"),
        (_DBRX, "dbrx smaug-bpe chatglm-bpe"),
        (_GLM4, "glm4 glm5"),
        (_QWEN2, "qwen2 stablelm2 deepseek-r1-qwen kormo f2llmv2 hunyuan solar-open megrez grok-2"),
        (_QWEN2, "bailingmoe bailingmoe2 llada-moe"),
        (_O200K, "gpt-4o llama4 kanana2 talkie minimax-m2"),
        (_TEKKEN, "tekken"),
        (_DEFAULT, "default"),
        (_FALCON, "falcon"),
        (_CODER, "deepseek-coder"),
        (_DEEPSEEK3, "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    )
    for name in names.split()
}


def named(name: object) -> Splits:
    """What a name of llama.cpp's stands for, or `OctavoError`."""
    if not isinstance(name, str) or name not in NAMES:
        raise OctavoError(f"tokenizer.ggml.pre is {name!r:.60}; supported are {', '.join(NAMES)}")
    return NAMES[name]


def steps(patterns: tuple[str, ...]) -> dict[str, Any]:
    """The ``pre_tokenizer`` that splits by these patterns, as GPT-2's and SmolLM's are published."""
    regex = patterns[-1] == GPT2
    made = [
        {"type": "Digits", "individual_digits": pattern == DIGIT}
        if pattern in (DIGIT, DIGITS)
        else tokenizer_json.split(pattern)
        for pattern in (patterns[:-1] if regex else patterns)
    ]
    last = tokenizer_json.byte_level(use_regex=regex)
    return tokenizer_json.sequence([*made, last]) if made else last


def patterns(pre_tokenizer: dict[str, Any]) -> tuple[str, ...]:
    """The patterns by which a ``pre_tokenizer`` in canonical form splits."""
    found = []
    for step in tokenizer_json.parts(pre_tokenizer):
        if step["type"] == "Digits":
            found.append(DIGIT if step["individual_digits"] else DIGITS)
        elif step["type"] == "Split":
            found.append(step["pattern"]["Regex"])
        elif step["use_regex"]:
            found.append(GPT2)
    return tuple(found)
