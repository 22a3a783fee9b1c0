"""Make tokenizers.json: what SentencePiece, transformers, tokenizers and llama.cpp make of hard texts.

Run from the repository root: ``python tests/golden/make_tokenizers.py``. It needs sentencepiece,
transformers, tokenizers, gguf and llama-cpp-python. Small SentencePiece models are trained here; the
``tokenizer.json`` of each is put together as transformers' converters for Llama and Gemma do, and its GGUF
file as llama.cpp's own converter does.
"""

import ctypes
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers.convert_slow_tokenizer import generate_merges

CORPUS = [
    "What's in a name? That which we call a rose by any other name would smell as sweet.",
    "So Romeo would, were he not Romeo call'd, retain that dear perfection which he owes without that title.",
    "def name(rose):\n    return [rose.other(name) for name in rose]\n\n\tpass  # 1234 of 12 in 2024",
    "Что в имени? Роза пахнет розой. 名前に何があるの。薔薇は薔薇。 naïve café",
    "aaa aa aaaa aaaaa ababa abab bababa --- ----- ======== ========",
] * 3
TEXTS = [
    "", "a", " ", "  ", "   ", "\n", "\n\n", " \n ", "\t", "\t\t x", "Hello name", " name",
    "name  other   rose", "  two before", "two after  ", "a\nb", "a\r\nb", "\r", "1234567890",
    "3.14 1,000 x2", "½Ⅷ٣४", "don't 'S he'LL", "<s>", "</s>", "<unk>", "<0x0A>", "<|endoftext|>",
    "<|im_start|>user\nhi<|im_end|>", "<bos><eos><pad>", "<start_of_turn>user\nname<end_of_turn>\n",
    "a<s> b</s>c", "<tool>name</tool> <tool>", "🙂", "👩‍👩‍👧‍👦 family", "👍🏽", "🇫🇷",
    "naïve café", "e\u0301 a\u0308\u0323", "名前 日本語 한국어", "Роза имени", "العربية עברית",
    "हिन्दी ไทย", "\x00a\x00", "\x01\x04\x1f\x7f", "\u200b\u200d\ufeff\u2028\u2029\x85\xa0\u3000",
    "\ufffd\ufffe\U0010ffff", "ſKİı", "a" * 50, "ab" * 30, " " * 40, "\n" * 20, "-" * 40,
    "=" * 17 + " " + "#" * 9, "▁ ▁▁x", "ababa aba", "def f(x):\n    return x  # ok\n\n\tpass",
    "<html><b>x</b></html>", "_ __ ___", "\\n \\\\", "“y” —…", "ǅ ʰ ª º", "𝕬𝖇 ｆｕ",
    "\u1100\u1161 각", "rose " * 30,
]  # fmt: skip
SPLITS = ("gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "command-r", "default", "falcon", "deepseek-v3")
P = "tokenizer.ggml."


def main() -> None:
    """Train, encode and write."""
    llama_cpp.llama_backend_init()
    llama = _trained("bpe", add_dummy_prefix=True)
    blanks = ["▁" * n for n in range(2, 9)] + ["\n" * n for n in range(1, 5)]
    gemma = _trained("bpe", add_dummy_prefix=False, user_defined_symbols=[*blanks, "<start_of_turn>", "<b>"])
    unigram = _trained("unigram", add_dummy_prefix=True)
    golden = {
        "texts": TEXTS,
        "pieces": {
            "llama": _pieces(llama, prefix=True),
            "gemma": _pieces(gemma, prefix=False),
            "unigram": _pieces(unigram, prefix=True),
        },
        "documents": {
            "llama": _document(_bpe(llama), _legacy(), strip=True),
            "mistral": _document(_bpe(llama), _first(), strip=True),
            "gemma": _document(_bpe(gemma), _replaced(), strip=False),
            "unigram": _document(_unigram(unigram), _legacy(), strip=True),
        },
        "splits": {name: _split(name) for name in SPLITS},
    }
    lines = json.dumps(golden, ensure_ascii=True, separators=(",", ":")).replace('],"', '],\n"')
    Path(__file__).with_name("tokenizers.json").write_text(lines + "\n")


def _trained(kind: str, **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        model_type=kind,
        vocab_size=430,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        character_coverage=0.98,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def _proto(model: bytes) -> Any:
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    return proto


def _pieces(model: bytes, *, prefix: bool) -> dict[str, Any]:
    """A model's own ids, and llama.cpp's of the same pieces in GGUF."""
    proto, peer = _proto(model), sentencepiece.SentencePieceProcessor(model_proto=model)
    metadata = {
        P + "model": {1: "t5", 2: "llama"}[proto.trainer_spec.model_type],
        # As llama.cpp's converter does: user-defined tokens are found before spaces are replaced.
        P + "tokens": [p.piece.replace("▁", " ") if p.type == 4 else p.piece for p in proto.pieces],
        P + "scores": [p.score for p in proto.pieces],
        P + "token_type": [p.type for p in proto.pieces],
        P + "bos_token_id": 1,
        P + "eos_token_id": 2,
        P + "unknown_token_id": 0,
        P + "add_bos_token": True,
        P + "add_eos_token": False,
        P + "add_space_prefix": prefix,
    }
    vocab = _loaded(metadata)
    return {
        "metadata": metadata,
        "sentencepiece": [peer.encode(text) for text in TEXTS],
        "sentencepiece_decoded": [peer.decode(peer.encode(text)) for text in TEXTS],
        "llama.cpp": [_llama_cpp(vocab, text) for text in TEXTS],
        "llama.cpp_special": [_llama_cpp(vocab, text, special=True) for text in TEXTS],
    }


def _bpe(model: bytes) -> Tokenizer:
    pieces = _proto(model).pieces
    vocab = {piece.piece: id for id, piece in enumerate(pieces)}
    merges = generate_merges(vocab, {piece.piece: piece.score for piece in pieces})
    peer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    return _with_added(peer, pieces)


def _unigram(model: bytes) -> Tokenizer:
    pieces = _proto(model).pieces
    vocab = [(piece.piece, piece.score) for piece in pieces]
    return _with_added(Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True)), pieces)


def _with_added(peer: Tokenizer, pieces: Any) -> Tokenizer:
    peer.add_special_tokens([AddedToken(p.piece, normalized=False) for p in pieces if p.type in (2, 3)])
    peer.add_tokens([AddedToken(p.piece, normalized=False) for p in pieces if p.type == 4])
    peer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", 1)])
    return peer


def _legacy() -> dict[str, Any]:
    both = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    return {"normalizer": normalizers.Sequence(both)}


def _first() -> dict[str, Any]:
    return {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first", split=False)}


def _replaced() -> dict[str, Any]:
    split = pre_tokenizers.Split(" ", "merged_with_previous")
    return {"normalizer": normalizers.Replace(" ", "▁"), "pre_tokenizer": split}


def _document(peer: Tokenizer, steps: dict[str, Any], *, strip: bool) -> dict[str, Any]:
    for name, step in steps.items():
        setattr(peer, name, step)
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    peer.decoder = decoders.Sequence([*back, decoders.Strip(" ", 1, 0)] if strip else back)
    special = [peer.encode(text).ids for text in TEXTS]
    peer.encode_special_tokens = True
    ids = [peer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    decoded = [peer.decode(row, skip_special_tokens=False) for row in ids]
    return {"document": json.loads(peer.to_str()), "ids": ids, "special": special, "decoded": decoded}


def _split(name: str) -> list[list[int]]:
    """llama.cpp's ids with a vocabulary that merges a part of all pairs of bytes: wrong splits are seen."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [f"{a} {b}" for a in letters for b in letters if (ord(a) + ord(b)) % 16 == 0]
    vocab = _loaded(
        {
            P + "model": "gpt2",
            P + "pre": name,
            P + "tokens": letters + [pair.replace(" ", "") for pair in pairs],
            P + "merges": pairs,
            P + "bos_token_id": 0,
            P + "eos_token_id": 0,
        }
    )
    return [_llama_cpp(vocab, text) for text in TEXTS]


def _loaded(metadata: dict[str, Any]) -> Any:
    """llama.cpp's vocabulary of metadata."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "vocabulary.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        for add in ("context_length", "embedding_length", "block_count", "feed_forward_length", "head_count"):
            getattr(writer, f"add_{add}")(1)
        writer.add_layer_norm_rms_eps(1e-5)
        lists = {"tokens": writer.add_token_list, "merges": writer.add_token_merges}
        lists |= {"scores": writer.add_token_scores, "token_type": writer.add_token_types}
        for key, value in metadata.items():
            if isinstance(value, list):
                lists[key.removeprefix(P)](value)
            elif isinstance(value, bool):
                writer.add_bool(key, value)
            else:
                (writer.add_uint32 if isinstance(value, int) else writer.add_string)(key, value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        options = llama_cpp.llama_model_default_params()
        options.vocab_only = True
        model = llama_cpp.llama_model_load_from_file(path.encode(), options)
    return llama_cpp.llama_model_get_vocab(model)


def _llama_cpp(vocab: Any, text: str, *, special: bool = False) -> list[int]:
    data = text.encode()
    ids = (ctypes.c_int32 * (len(data) + 8))()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), ids, len(ids), special, special)
    return list(ids[:count])


if __name__ == "__main__":
    main()
